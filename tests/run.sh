#!/usr/bin/env bash
# Runs every test, against servers that it starts itself and stops again, and ends with one line that
# adds up the results. Arguments go to cargo test.
#
# On Debian and Ubuntu it installs what is missing. On another system it says what to install, or
# takes servers that the tests may use from REDIS_URL and DATABASE_URL; the tests that must stop and
# start a server of their own are then left out, and say so.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf 'tests/run.sh: %s\n' "$*" >&2; }

run_tests() { tests/sum.sh cargo test --locked --workspace --all-features --no-fail-fast "$@"; }

# Debian keeps the programs of PostgreSQL out of PATH.
find_programs() {
  local folder
  for folder in $(printf '%s\n' /usr/lib/postgresql/*/bin | sort -rV); do
    [ -x "$folder/postgres" ] && PATH="$folder:$PATH" && break
  done
  redis=$(command -v redis-server || command -v valkey-server || true)
  redis_cli=$(command -v redis-cli || command -v valkey-cli || true)
  postgres=$(command -v postgres || true)
}

is_there() {
  [ -n "$redis" ] && [ -n "$redis_cli" ] && [ -n "$postgres" ] && command -v pgrep >/dev/null &&
    command -v openssl >/dev/null &&
    { [ -x /usr/sbin/pgbouncer ] || command -v pgbouncer >/dev/null; }
}

install() {
  local as_root=()
  if [ "$(id -u)" != 0 ]; then
    if ! sudo -n true 2>/dev/null; then
      say "first run: sudo apt-get install redis-server postgresql pgbouncer procps openssl"
      exit 1
    fi
    as_root=(sudo -n)
  fi
  say "installing redis-server, postgresql and pgbouncer"
  "${as_root[@]}" apt-get update -q >&2
  "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
    apt-get install -y -q --no-install-recommends redis-server postgresql pgbouncer procps openssl >&2
}

find_programs
if ! is_there && command -v apt-get >/dev/null; then
  install
  find_programs
fi
if ! is_there; then
  if [ -z "${REDIS_URL:-}" ] || [ -z "${DATABASE_URL:-}" ]; then
    say "install Redis 7.0 or newer (or Valkey) and PostgreSQL, or set REDIS_URL and DATABASE_URL"
    say "to servers that the tests may use"
    exit 1
  fi
  say "using REDIS_URL and DATABASE_URL; tests that need a server of their own are left out"
  run_tests "$@"
  exit
fi

version=$("$redis" --version | sed -E 's/.*v=([0-9]+).*/\1/')
if [ "$version" -lt 7 ]; then
  say "this Redis is older than 7.0, which RedisStore needs: install a newer one"
  exit 1
fi

# Where this system has no PgBouncer that knows prepared statements, or no Valkey, those of Debian's next
# release are taken, and kept for the next run. Tests that find neither say what they leave out.
newer=${CARGO_TARGET_DIR:-target}/newer
knows_statements() {
  local minor
  minor=$("$1" --version 2>/dev/null | sed -nE 's/^PgBouncer 1\.([0-9]+).*/\1/p')
  [ "${minor:-0}" -ge 21 ]
}
take_newer() {
  local why
  if [ ! -x "$newer/pgbouncer" ]; then
    say "fetching PgBouncer and Valkey of Debian's next release"
    if ! why=$(tests/newer.sh "$newer"); then
      say "they can't be had: $why"
      return
    fi
  fi
  # Where another user can run them.
  cp -a "$newer" "$folder/newer"
  [ -n "$pgbouncer" ] || export PGBOUNCER=$folder/newer/pgbouncer
  [ -n "$valkey" ] || valkey=$folder/newer/valkey-server
}

folder=$(mktemp -d)
pids=()
stop() {
  local pid
  for pid in "${pids[@]}"; do
    kill -INT "$pid" 2>/dev/null || true
  done
  for pid in "${pids[@]}"; do
    wait "$pid" 2>/dev/null || true
  done
  rm -rf "$folder"
}
trap stop EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# Waits until a server answers.
wait_for() {
  local name=$1 tries
  shift
  for ((tries = 0; tries < 600; tries++)); do
    "$@" >/dev/null 2>&1 && return
    sleep 0.1
  done
  say "$name does not answer:"
  cat "$folder/$name.log" >&2
  exit 1
}

# PostgreSQL refuses to run as root.
as_user=()
if [ "$(id -u)" = 0 ]; then
  id postgres >/dev/null 2>&1 || useradd --system postgres
  as_user=(setpriv --reuid=postgres --regid="$(id -g postgres)" --clear-groups)
  chmod 755 "$folder"
fi
pgbouncer=
for program in ${PGBOUNCER:-} /usr/sbin/pgbouncer /usr/local/bin/pgbouncer; do
  knows_statements "$program" && pgbouncer=$program
done
valkey=$(command -v valkey-server || true)
[ -n "$pgbouncer" ] && [ -n "$valkey" ] || take_newer
mkdir "$folder/postgres"
[ "$(id -u)" = 0 ] && chown postgres "$folder/postgres"

# By sockets in the folder, so that no port can be taken.
"$redis" --port 0 --unixsocket "$folder/redis.sock" --save "" --dir "$folder" \
  >"$folder/redis.log" 2>&1 </dev/null &
pids+=($!)
(
  cd "$folder/postgres"
  "${as_user[@]}" "$(command -v initdb)" -D data -A trust -U postgres -N >"$folder/postgres.log" 2>&1
)
"${as_user[@]}" "$postgres" -D "$folder/postgres/data" -k "$folder/postgres" \
  -c listen_addresses= -c fsync=off >>"$folder/postgres.log" 2>&1 </dev/null &
pids+=($!)
wait_for redis "$redis_cli" -s "$folder/redis.sock" ping
wait_for postgres pg_isready -q -h "$folder/postgres"

export REDIS_URL="unix://$folder/redis.sock"
export DATABASE_URL="postgres://postgres@localhost/postgres?host=$folder/postgres"
# From here on, a test that finds no server fails.
export SERVERS_REQUIRED=yes

status=0
if [ -n "$valkey" ]; then
  say "RedisStore on Valkey, by itself:"
  REDIS_PROGRAM=$valkey env -u REDIS_URL \
    tests/sum.sh cargo test --locked -p redis-store --no-fail-fast "$@" || status=$?
else
  say "LEFT OUT: RedisStore on Valkey: there is no valkey-server to run"
fi
run_tests "$@" || status=$?
exit "$status"
