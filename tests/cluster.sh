#!/usr/bin/env bash
# What clients see when something happens to a cell: tests/cluster.sh [--case NAME,..] [--repeat N] [--long] [--tls] [--report FILE.json]; --help names
# the cases; --walk takes the walk-through of the README instead. Needs root, for the network namespaces; what else it needs, it installs or builds once.
set -euo pipefail
cd "$(dirname "$0")/.."
tools="$PWD/target/tools" venv="$PWD/target/clients-venv"
mkdir -p "$tools"
command -v consul >/dev/null || [ -x "$tools/consul" ] || (cd tests/tools && go build -o "$tools/consul" github.com/hashicorp/consul)
command -v nft >/dev/null && command -v ip >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends nftables iproute2; }
ls /usr/lib/postgresql/*/bin/initdb >/dev/null 2>&1 || { apt-get update -q && apt-get install -qy --no-install-recommends postgresql; }
[ "$tools/far" -nt tests/tools/far.c ] || cc -O2 -Wall -Wextra -o "$tools/far" tests/tools/far.c
[ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
cmp -s tests/clients/requirements.txt "$venv/requirements.txt" || {
    "$venv/bin/pip" install -q -r tests/clients/requirements.txt && cp tests/clients/requirements.txt "$venv/requirements.txt"
}
[ -n "${CAMPANILE:-}" ] || cargo build --release --quiet
cd tests/clients
[ "${1:-}" != --walk ] || exec "$venv/bin/python" walk.py
exec "$venv/bin/python" -m cases "$@"
