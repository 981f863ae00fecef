#!/usr/bin/env bash
# What a client sees when something happens to a cell: tests/cluster.sh --case kill|stop --repeat N [--report FILE.json].
# Needs what `tests/all.sh` has installed (the Python clients, etcd).
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --quiet
cd tests/clients
exec ../../target/clients-venv/bin/python cases.py "$@"
