#!/usr/bin/env bash
# Fuzzes the pure Centrifuge dialect for some seconds (default 20): tests/fuzz/run.sh [SECONDS]. libFuzzer with coverage, without cargo-fuzz: what
# that would pass to the compiler is passed here. What was found lies in target/fuzz/found.
set -euo pipefail
cd "$(dirname "$0")"
target=../../target/fuzz
mkdir -p "$target/corpus" "$target/found"
export RUSTFLAGS="--cfg fuzzing -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
 -Cllvm-args=-sanitizer-coverage-pc-table -Cllvm-args=-sanitizer-coverage-trace-compares -Ccodegen-units=1"
triple=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --quiet --locked --target "$triple" --target-dir "$target"
# Seeds: every golden command, in both framings, with the byte in front that says which.
python3 - ../vectors/centrifuge.txt "$target/corpus" <<'PY'
import pathlib, sys
for nth, line in enumerate(pathlib.Path(sys.argv[1]).read_text().splitlines()):
    if line.startswith("#"):
        continue
    _, text, binary = line.split("\t")
    for kind, data in enumerate((text.encode(), bytes.fromhex(binary), text.encode(), text.encode(), text.encode() * 2, text.encode())):
        (pathlib.Path(sys.argv[2]) / f"seed-{nth}-{kind}").write_bytes(bytes([kind]) + data)
PY
"$target/$triple/release/centrifuge" "$target/corpus" -max_total_time="${1:-20}" -max_len=4096 -artifact_prefix="$target/found/" -print_final_stats=1 -verbosity=0
