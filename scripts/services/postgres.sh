# shellcheck shell=bash
# shellcheck disable=SC2154 # dir and host are set by scripts/stack, the rest by scripts/lib.sh
# PostgreSQL for scripts/stack, which sources this.

# PostgreSQL refuses to run as root.
as_postgres() {
  if ((EUID == 0)); then runuser -u postgres -- "$@"; else "$@"; fi
}

prepare_postgres() {
  pgbin=$(postgres_bin) || die "PostgreSQL's server programs are missing" "run scripts/install test"
  export PATH=$pgbin:$PATH
  adopt_postgres
  ((EUID == 0)) || return 0
  id postgres >/dev/null 2>&1 ||
    die "PostgreSQL does not run as root, and there is no user \`postgres\` to run it as" \
      "run scripts/install test"
  # A folder made by mktemp is closed to others; `postgres` must be able to pass through it.
  chmod a+x "$dir"
}

start_postgres() {
  local port=$1 data=$dir/postgres/data end
  mkdir -p "$dir/postgres"
  touch "$dir/postgres.log"
  if ((EUID == 0)); then
    chown postgres "$dir/postgres" "$dir/postgres.log"
    as_postgres test -x "$dir/postgres" ||
      die "the user \`postgres\` cannot reach $dir" "choose another folder with AXS_STACK_DIR"
  fi
  # Made aside and renamed: an initdb that was cut short is started again from nothing.
  if [[ ! -d $data ]]; then
    rm -rf "$data.new"
    as_postgres initdb --pgdata="$data.new" --username=postgres --auth=trust --encoding=UTF8 \
      --locale=C.UTF-8 --data-checksums --no-sync >"$dir/postgres.log" 2>&1 || return 1
    mv "$data.new" "$data"
  fi
  postgres_settings "$port" >"$data/postgresql.conf"
  # Ask the server itself whether it was built with lz4.
  if as_postgres postgres -D "$data" -C port -c default_toast_compression=lz4 >/dev/null 2>&1; then
    echo "default_toast_compression = lz4" >>"$data/postgresql.conf"
  fi
  : >"$dir/postgres.log"
  # After a kill -9 the server's children need a moment to see it, and share its memory until
  # then. All work in the data folder, so nobody there means that the lock file is stale: the
  # server itself cannot tell while the dead process waits for its parent to take note of it.
  end=$((SECONDS + 20))
  while readlink /proc/[0-9]*/cwd 2>/dev/null |
    grep --quiet --line-regexp --fixed-strings "$data"; do
    if ((SECONDS >= end)); then
      say "processes that this stack did not start are at work in $data"
      return 1
    fi
    sleep 0.05
  done
  rm -f "$data/postmaster.pid"
  as_postgres pg_ctl start --pgdata="$data" --log="$dir/postgres.log" --silent --wait \
    --timeout=90 >/dev/null 2>&1 9>&- || return 1
  adopt_postgres
  [[ -n $(postgres_sql "$port" "SELECT 1 FROM pg_database WHERE datname = 'axs'") ]] ||
    postgres_sql "$port" "CREATE DATABASE axs"
}

postgres_settings() {
  cat <<END
# Written by scripts/stack at each start: edit it there.
listen_addresses = '$host'
port = $1
unix_socket_directories = ''   # a socket's path may have 107 bytes only; TCP serves all
max_connections = 300
shared_buffers = 256MB
max_wal_size = 1GB
fsync = on
synchronous_commit = on
full_page_writes = on
timezone = 'UTC'
log_timezone = 'UTC'
END
  # For a benchmark on a large machine, such as deploy/postgresql.conf.
  [[ -z ${AXS_STACK_POSTGRES_CONF:-} ]] || cat "$AXS_STACK_POSTGRES_CONF"
}

postgres_sql() {
  psql --host="$host" --port="$1" --username=postgres --no-psqlrc --tuples-only --no-align \
    --quiet --command="$2" postgres
}

ready_postgres() {
  pg_isready --quiet --host="$host" --port="$(cat "$dir/postgres.port")"
}

# The server is a child of pg_ctl, so its pid comes from its own file. This also finds a server
# whose `up` was interrupted before it could write down the pid.
adopt_postgres() {
  local data=$dir/postgres/data pid
  ! running postgres || return 0
  pid=$(head -n 1 "$data/postmaster.pid" 2>/dev/null) || return 0
  # The file outlives a kill -9: only a process that was started on this folder is ours.
  if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep --quiet --fixed-strings "$data"; then
    record postgres "$pid"
  fi
}
