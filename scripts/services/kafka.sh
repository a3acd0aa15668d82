# shellcheck shell=bash
# shellcheck disable=SC2154 # dir and host are set by scripts/stack, the rest by scripts/lib.sh
# Kafka for scripts/stack, which sources this.

prepare_kafka() {
  have java || die "java is missing" "run scripts/install test"
  [[ -d $kafka_jars ]] || have mvn ||
    die "mvn is missing, and Kafka's jars come through it" "run scripts/install test"
  fetch_kafka
}

start_kafka() {
  local port=$1 controller=$1 data=$dir/kafka/data
  # Only the broker talks to its controller, so that port may change from start to start.
  while [[ $controller == "$port" ]]; do controller=$(free_port); done
  mkdir -p "$dir/kafka"
  kafka_settings "$port" "$controller" >"$dir/kafka/server.properties"
  if [[ ! -f $data/meta.properties ]]; then
    rm -rf "$data"
    # An id is 16 bytes in base64, without the signs that a command line may misread.
    java_kafka kafka.tools.StorageTool format --config "$dir/kafka/server.properties" \
      --cluster-id "$(head -c 16 /dev/urandom | base64 | tr '+/=' 'Aa' | cut -c 1-22)" \
      >"$dir/kafka.log" 2>&1 || return 1
  fi
  # The optimising compiler (C2) stays on: without it the broker starts no faster and moves a
  # third less. Out of memory must be a death, which is seen, and not a broker that limps.
  launch kafka java -Xms256m -Xmx512m -XX:+UseG1GC -XX:MaxGCPauseMillis=20 -XX:InitiatingHeapOccupancyPercent=35 -XX:+ExitOnOutOfMemoryError \
    -XX:-UsePerfData -Dorg.apache.logging.log4j.level=WARN -cp "$kafka_jars/*" \
    kafka.Kafka "$dir/kafka/server.properties"
  kafka_port=$port wait_ready kafka 120
}

java_kafka() {
  java -Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1 -XX:-UsePerfData \
    -Dorg.apache.logging.log4j.level=ERROR -cp "$kafka_jars/*" "$@"
}

kafka_settings() {
  cat <<END
# Written by scripts/stack at each start: edit it there.
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@$host:$2
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://$host:$1,CONTROLLER://$host:$2
advertised.listeners=PLAINTEXT://$host:$1
log.dirs=$dir/kafka/data
auto.create.topics.enable=false
# One node: nothing can have a second replica.
offsets.topic.replication.factor=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
# A new group need not wait for members that never come.
group.initial.rebalance.delay.ms=0
# Back after a kill -9 in half the time: the lost session and the lost leader are noticed
# sooner, and the internal topics have one partition each to recover and not fifty.
broker.session.timeout.ms=2000
broker.heartbeat.interval.ms=300
controller.quorum.election.timeout.ms=500
controller.quorum.fetch.timeout.ms=500
offsets.topic.num.partitions=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.num.partitions=1
# Small enough for the heap above: the cleaner's default buffer is a quarter of it.
log.cleaner.dedupe.buffer.size=16777216
END
}

# Asks for the cluster's metadata without topics (Metadata, version 2) and wants to see one live
# broker and our cluster's id: a broker answers before it has caught up, and is not listed until
# it has; and another stack may have been quicker to take the port. A tool of Kafka's own would
# cost a second of Java at each look.
ready_kafka() {
  local port=${kafka_port:-$(cat "$dir/kafka.port")} id answer
  id=$(sed -n 's/^cluster.id=//p' "$dir/kafka/data/meta.properties")
  # Size 16, API 3, version 2, correlation id "axsq", client id "ax", no topics. The answer's
  # first 57 bytes: size, correlation id, number of brokers, one broker (21), the cluster's id.
  # shellcheck disable=SC2016 # the inner shell expands them
  answer=$(timeout 2 bash -c '
    exec 3<>"/dev/tcp/$0/$1" || exit 1
    printf "\0\0\0\020\0\003\0\002axsq\0\002ax\0\0\0\0" >&3
    head -c 57 <&3 | od -An -v -c -w64 | tr -d " "' "$host" "$port" 2>/dev/null) || return 1
  [[ $answer == *'axsq\0\0\0001'*"$id"* ]]
}
