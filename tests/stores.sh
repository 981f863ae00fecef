#!/usr/bin/env bash
# The contract of the ring stores against real servers: Consul (of PATH, else built once from its Go module) and etcd (Debian's).
set -euo pipefail
cd "$(dirname "$0")/.."
root="$PWD"
tools="$root/target/tools"
mkdir -p "$tools"

consul="$(command -v consul || true)"
if [ -z "$consul" ]; then
    consul="$tools/consul"
    [ -x "$consul" ] || (cd tests/tools && go build -o "$consul" github.com/hashicorp/consul)
fi
etcd="$(command -v etcd || true)"
[ -n "$etcd" ] || {
    apt-get update -q && apt-get install -qy --no-install-recommends etcd-server
    etcd="$(command -v etcd)"
}

data="$(mktemp -d)"
started=()
trap 'kill "${started[@]}" 2>/dev/null || true; wait || true; rm -rf "$data"' EXIT

read -r http lan wan server client peer < <(python3 tests/clients/ports.py 6)
"$consul" agent -dev -bind 127.0.0.1 -log-level warn -http-port "$http" -grpc-port -1 -dns-port -1 \
    -serf-lan-port "$lan" -serf-wan-port "$wan" -server-port "$server" >"$data/consul.log" 2>&1 &
started+=($!)
"$etcd" --name e1 --data-dir "$data/etcd" --log-level error \
    --listen-client-urls "http://127.0.0.1:$client" --advertise-client-urls "http://127.0.0.1:$client" \
    --listen-peer-urls "http://127.0.0.1:$peer" --initial-advertise-peer-urls "http://127.0.0.1:$peer" \
    --initial-cluster "e1=http://127.0.0.1:$peer" >"$data/etcd.log" 2>&1 &
started+=($!)

ready() {
    for _ in $(seq 300); do
        "$@" >/dev/null 2>&1 && return
        sleep 0.1
    done
    tail -20 "$data"/*.log
    return 1
}
ready sh -c "curl -sf http://127.0.0.1:$http/v1/status/leader | grep -q :"
ready curl -sf "http://127.0.0.1:$client/health"

export CONSUL="consul://127.0.0.1:$http" ETCD="etcd://127.0.0.1:$client"
cargo test --test stores -- --test-threads 2 "$@"
