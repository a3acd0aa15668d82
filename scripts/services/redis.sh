# shellcheck shell=bash
# shellcheck disable=SC2154 # dir and host are set by scripts/stack, the rest by scripts/lib.sh
# Redis, alone and as a cluster of one, for scripts/stack, which sources this.

prepare_redis() {
  if ! have redis-server || ! have redis-cli; then
    die "redis-server is missing" "run scripts/install test"
  fi
}

prepare_redis_cluster() { prepare_redis; }

# It is a cache and every entry can be computed again: nothing is written to disk.
redis_server() {
  local name=$1 port=$2
  shift 2
  mkdir -p "$dir/$name"
  launch "$name" redis-server --bind "$host" --port "$port" --dir "$dir/$name" --save '' \
    --appendonly no --daemonize no "$@"
}

start_redis() {
  redis_server redis "$1"
  redis_port=$1 wait_ready redis 30
}

start_redis_cluster() {
  redis_server redis-cluster "$1" --cluster-enabled yes --cluster-config-file nodes.conf \
    --cluster-port "$(free_port)" --cluster-announce-ip "$host" --cluster-node-timeout 2000
  redis_port=$1 wait_ready redis-cluster 30
}

redis_ask() {
  redis-cli -h "$host" -p "$1" "${@:2}" 2>/dev/null
}

# That the port answers is not enough: another stack may have been quicker to take it.
ready_redis() {
  redis_ask "${redis_port:-$(cat "$dir/redis.port")}" info server |
    grep --quiet "^process_id:$(cat "$dir/redis.pid")[^0-9]*$"
}

ready_redis_cluster() {
  local port=${redis_port:-$(cat "$dir/redis-cluster.port")} info
  redis_ask "$port" info server |
    grep --quiet "^process_id:$(cat "$dir/redis-cluster.pid")[^0-9]*$" || return 1
  info=$(redis_ask "$port" cluster info) || return 1
  # A node remembers its slots over a restart and would refuse to be given them twice.
  if [[ $info == *cluster_slots_assigned:0* ]]; then
    redis_ask "$port" cluster addslots $(seq 0 16383) >/dev/null || return 1
  fi
  [[ $info == *cluster_state:ok* ]]
}
