#!/usr/bin/env bash
# The own suites of two Centrifuge SDKs, unmodified, against `campanile dev` with the configuration that each of them asks for.
# They dial localhost:8000. The suite of the JavaScript SDK is in its repository only, so it is not here.
set -euo pipefail
cd "$(dirname "$0")/../.."
python=centrifuge-python==0.7.0 go=github.com/centrifugal/centrifuge-go@v0.12.1
suites=$PWD/target/suites venv=$PWD/target/clients-venv
mkdir -p "$suites"

campanile() {
    "${CAMPANILE:-target/release/campanile}" dev --http 127.0.0.1:0 --ws 127.0.0.1:8000 --ephemeral --drain 0 --config "tests/clients/configs/$1" \
        >"$suites/ready" 2>"$suites/words" &
    server=$!
    trap 'kill $server 2>/dev/null || true' EXIT
    for _ in $(seq 100); do
        grep -q '^ready ' "$suites/ready" && return
        kill -0 $server 2>/dev/null || break
        sleep 0.1
    done
    cat "$suites/words"
    exit 1
}

case $1 in
python)
    if [ ! -d "$suites/python" ]; then
        rm -rf "$suites/python.new" && mkdir "$suites/python.new"
        "$venv/bin/pip" download -q --no-deps --no-binary :all: -d "$suites/python.new" "$python"
        tar -xzf "$suites/python.new"/*.tar.gz -C "$suites/python.new" --strip-components 1
        mv "$suites/python.new" "$suites/python"
    fi
    campanile python.toml
    cd "$suites/python" && timeout 300 "$venv/bin/python" -m unittest discover -s tests
    ;;
go)
    if [ ! -d "$suites/go" ]; then
        mkdir -p "$suites/go.get"
        cd "$suites/go.get" && { [ -f go.mod ] || go mod init suites; }
        go mod download "$go"
        rm -rf "$suites/go.new" && cp -r "$(go env GOMODCACHE)/$go" "$suites/go.new"
        chmod -R u+w "$suites/go.new"
        mv "$suites/go.new" "$suites/go"
        cd - >/dev/null
    fi
    (cd "$suites/go" && go test -count 1 -run '^$' . >/dev/null)
    campanile go.json
    cd "$suites/go" && go test -count 1 -timeout 300s -v . | grep -E '^(---|ok|FAIL|panic)'
    ;;
*)
    echo "suites.sh python|go"
    exit 2
    ;;
esac
