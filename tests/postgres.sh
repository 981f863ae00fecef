#!/usr/bin/env bash
# The webapp on PostgreSQL: the database's own stories, those of a server that is started anew, and a whole cell. Installs the server by apt
# when there is none, and runs it as a user of no rank in a directory that goes away. tests/postgres.sh NAME...: only these of its parts
# (server, stories, cell: a follower copies all databases, of which stories leave many).
set -euo pipefail
cd "$(dirname "$0")/.."
parts=("$@")
[ ${#parts[@]} -gt 0 ] || parts=(server stories cell)

binaries() { ls -d /usr/lib/postgresql/*/bin 2>/dev/null | sort -V | tail -1; }
[ -n "$(binaries)" ] || { apt-get update -q && apt-get install -qy --no-install-recommends postgresql; }
export PG_BIN
PG_BIN="$(binaries)"
# The server refuses root: then it runs as the user that came with it.
export PG_USER=""
[ "$(id -u)" -ne 0 ] || PG_USER=postgres

data="$(mktemp -d)"
port="$(python3 tests/clients/ports.py 1)"
server() {
    if [ -n "$PG_USER" ]; then
        (cd "$data" && runuser -u "$PG_USER" -- "$PG_BIN/$1" "${@:2}")
    else
        "$PG_BIN/$1" "${@:2}"
    fi
}
[ -z "$PG_USER" ] || chown "$PG_USER" "$data"
trap 'server pg_ctl -D "$data/pg" -m immediate stop >/dev/null 2>&1 || true; rm -rf "$data"' EXIT
server initdb -D "$data/pg" -A trust -U campanile >/dev/null
printf "port = %s\nlisten_addresses = '127.0.0.1'\nunix_socket_directories = '%s'\n" "$port" "$data" >>"$data/pg/postgresql.conf"
server pg_ctl -D "$data/pg" -l "$data/pg.log" -w start >/dev/null
export CAMPANILE_TEST_POSTGRES="postgres://campanile@127.0.0.1:$port/postgres"
export CAMPANILE_TEST_POSTGRES_DATA="$data/pg"

count() { "$PG_BIN/psql" "$CAMPANILE_TEST_POSTGRES" -Atc "SELECT COUNT(*) FROM pg_database WHERE datname LIKE 'story_%'"; }
for part in "${parts[@]}"; do
    case "$part" in
    stories)
        cargo test --lib webapp::
        # Stories that found no server would have been played with SQLite.
        [ "$(count)" -ge 25 ] || { echo "only $(count) stories used the server"; exit 1; }
        ;;
    server) cargo test --test postgres -- --test-threads 1 ;;
    cell) (cd tests/clients && ../../target/clients-venv/bin/python -m pytest test_postgres.py) ;;
    *) echo "no such part: $part"; exit 2 ;;
    esac
done
