#!/usr/bin/env bash
# Campanile itself: one core of the data plane; the control plane takes turns with it on the same CPU.
set -euo pipefail
root="$(cd "$(dirname "$0")/../.." && pwd)"
case "$1" in
about) echo "centrifuge|/connection/websocket|Campanile $(git -C "$root" rev-parse --short HEAD), JSON" ;;
install) cd "$root" && cargo build --release --quiet ;;
start)
    printf '{"client":{"insecure":true,"channel_limit":1000},"channel":{"without_namespace":{}}}' >"$root/target/peers/campanile.json"
    exec "$root/target/release/campanile" dev --ephemeral --cores 1 --http 127.0.0.1:$(($2 + 1)) --ws "127.0.0.1:$2" \
        --config "$root/target/peers/campanile.json" --limit boots_burst=1000000 --limit boots_per_second=1000000
    ;;
esac
