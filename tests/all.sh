#!/usr/bin/env bash
# Everything that must hold: format, lints, unit, property and simulated tests, the Autobahn cases, real clients.
# Installs what it needs below target/ (and chromium by apt, when there is none). Runs as often as one likes.
set -euo pipefail
cd "$(dirname "$0")/.."
unset http_proxy https_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY
venv=$PWD/target/clients-venv log=$PWD/target/all.log
mkdir -p target
: >"$log"
begun=$SECONDS steps=0

# step NAME COMMAND...: prints one line with its time; on failure the command's whole output.
step() {
    local name=$1 from=$SECONDS out
    shift
    out=$(mktemp)
    if "$@" >"$out" 2>&1; then
        steps=$((steps + 1))
        printf '%-52s ok %5d s\n' "$name" $((SECONDS - from))
        { echo "== $name"; cat "$out"; } >>"$log"
        rm -f "$out"
    else
        cat "$out"
        printf '%-52s FAILED after %d s\n' "$name" $((SECONDS - from))
        rm -f "$out"
        exit 1
    fi
}

python_clients() {
    [ -x "$venv/bin/pip" ] || python3 -m venv "$venv"
    cmp -s tests/clients/requirements.txt "$venv/requirements.txt" && return
    "$venv/bin/pip" install -q -r tests/clients/requirements.txt && cp tests/clients/requirements.txt "$venv/requirements.txt"
}

node_clients() (
    cd tests/clients
    cmp -s package-lock.json node_modules/.installed && exit
    npm ci --no-audit --no-fund && cp package-lock.json node_modules/.installed
)

browser() {
    command -v chromium >/dev/null || command -v chromium-browser >/dev/null || {
        apt-get update -q && apt-get install -qy --no-install-recommends chromium fonts-noto-color-emoji
    }
}

go_toolchain() {
    command -v go >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends golang-go; }
}

compiler() {
    command -v c++ >/dev/null || { apt-get update -q && apt-get install -qy --no-install-recommends g++; }
}

stories() { (cd tests/clients && exec "$venv/bin/python" -m pytest "$@"); }
autobahn() { (cd tests/clients && exec "$venv/bin/python" autobahn.py); }
node_stories() { (cd tests/clients && exec node --test --test-force-exit "$@"); }

step "format" cargo fmt --check
step "lints" cargo clippy --all-targets -- -D warnings
step "unit, property, vector and tidy tests" cargo test --lib --bins --test tidy --test vectors --test centrifuge_vectors --test load
step "release build" cargo build --release
step "simulated nodes and cells" cargo test --release --test sim
step "two mutants, which the simulator must notice" tests/mutations/run.sh
step "a C++ compiler, for libFuzzer" compiler
step "the Centrifuge dialect, fuzzed for 20 s" tests/fuzz/run.sh 20
step "clients from PyPI" python_clients
step "clients from npm" node_clients
step "a browser" browser
step "Autobahn: 247 core cases and 54 of section 9" autobahn
step "our own protocol: seq, resume, gap" stories test_rtm.py
step "bad input" stories test_bad_input.py
step "slow readers" stories test_slow_reader.py
step "slack_sdk" stories test_slack_sdk.py
step "the process: start, end, kill -9" stories test_process.py
step "team, users and tokens, made and revoked" stories test_tokens.py
step "one port for all" stories test_ports.py
step "four cores, ten thousand connections" stories test_cores.py
step "@slack/rtm-api and @slack/web-api" node_stories slack.test.mjs
step "Go" go_toolchain
step "the suite of centrifuge-python" tests/clients/suites.sh python
step "the suite of centrifuge-go" tests/clients/suites.sh go
step "centrifuge-python" stories test_centrifuge.py
step "200 clients, ten restarts" stories test_restarts.py
step "ring stores: the contract, Consul, etcd, a hostile double" tests/stores.sh
step "PostgreSQL: the database's stories, restarts, a cell" tests/postgres.sh
step "a cell of several processes" stories test_cluster.py
step "names and numbers that two processes have" stories test_misconfigured.py
step "regions: where clients are sent, and a drain" stories test_regions.py
step "links through TLS: refusals, renewal, strangers" stories test_tls.py
step "the checker of the cases" stories test_checker.py
step "what happens to a cell: deaths, cuts, moves, restarts" tests/cluster.sh
step "the walk of the README over three hosts" tests/cluster.sh --walk
step "a death and a cut cable, all links TLS" tests/cluster.sh --case kill,silent --tls
step "conversations in both dialects" stories test_workspace.py
step "Centrifuge: keys, versions, caches, filters" stories test_centrifuge_api.py
step "Centrifuge by hand: bad input, codes, traps" stories test_centrifuge_wire.py
step "campanile load, every scenario, both dialects" stories test_load.py
step "npm centrifuge, two versions, two framings" node_stories centrifuge.test.mjs
step "two browsers" node_stories browser.test.mjs

sum() { grep -oE "$1" "$log" | grep -oE '[0-9]+' | awk '{ n += $1 } END { print n + 0 }'; }
printf '%d steps in %d s: %d Rust tests, %d Autobahn cases, %d Python stories, %d Node and browser stories\n' \
    "$steps" $((SECONDS - begun)) "$(sum '[0-9]+ passed; 0 failed')" "$(sum '[0-9]+ cases')" "$(sum '^[0-9]+ passed')" "$(sum '^# pass [0-9]+')"
