# shellcheck shell=bash
# What the scripts share: where things are kept, and how they speak. Sourced, never run.
# Nothing here may write into the checkout, so that a clone stays clean and a fresh one starts warm.

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
# `env -i`, cron and some CI runners have no HOME.
cache=${AXS_CACHE_DIR:-${XDG_CACHE_HOME:-${HOME:-/var/tmp}/.cache}/axs}
# Read by the scripts that source this file.
# shellcheck disable=SC2034
kafka_jars=$cache/kafka-4.1.1
export CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-$cache/target}

# A login shell's folders, which a CI runner may lack: cargo, and Debian's runuser.
PATH=$PATH:${CARGO_HOME:-${HOME:-/root}/.cargo}/bin:/usr/sbin:/sbin

say() { printf '%s: %s\n' "${0##*/}" "$*" >&2; }

# die MESSAGE [HINT]: the message says what happened, the hint what to do about it.
die() {
  say "$1"
  [[ $# -lt 2 ]] || printf 'hint: %s\n' "$2" >&2
  exit 1
}

have() { command -v "$1" >/dev/null 2>&1; }

# The folder of PostgreSQL's server programs: Debian keeps them off PATH, one folder a version.
postgres_bin() {
  local folder
  folder=$(printf '%s\n' /usr/lib/postgresql/*/bin | sort --version-sort | tail -n 1)
  if [[ -x $folder/initdb ]]; then
    printf '%s\n' "$folder"
  elif have initdb; then
    dirname "$(readlink -f "$(command -v initdb)")"
  else
    return 1
  fi
}

# The Java archives of Kafka. Fetched aside and renamed, so that a fetch that was cut short
# is never taken for a complete one.
fetch_kafka() {
  [[ ! -d $kafka_jars ]] || return 0
  local fresh
  mkdir -p "$cache"
  fresh=$(mktemp -d "$cache/kafka.XXXXXX")
  say "fetching Kafka's jars through Maven (once, 54 MB)"
  if ! mvn --batch-mode --quiet --file "$root/scripts/kafka/pom.xml" \
    dependency:copy-dependencies -DoutputDirectory="$fresh" -DincludeScope=runtime >&2; then
    rm -rf "$fresh"
    die "Maven could not fetch Kafka's jars" "the lines above say why; run it again when online"
  fi
  chmod 755 "$fresh"
  # Another run may have been faster: its copy is as good, and ours is not moved into it.
  mv --no-target-directory "$fresh" "$kafka_jars" 2>/dev/null || rm -rf "$fresh"
}
