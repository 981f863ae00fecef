#!/usr/bin/env bash
# Mutants: one ingredient of the protocol is taken out of a copy of the tree, and the simulator must notice within so many seeds.
#   tests/mutations/run.sh            the two that a run can afford
#   tests/mutations/run.sh --all      all of them
#   tests/mutations/run.sh M3 M10     these
# Each patch says its budget in its first line: "Within N seeds."
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD tree=$PWD/target/mutants/tree
# Built in another place and in another way than the product: a copy is thrown away after one run, so that its build should be quick.
export CARGO_TARGET_DIR=$root/target/mutants/build
export CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_DEBUG=0 CARGO_INCREMENTAL=1
case "${1:-}" in
    "") set -- M3 no-finalise ;;
    --all | --long) set -- $(cd tests/mutations && ls ./*.patch | sed 's|./||; s|.patch||' | sort -V) ;;
esac

rm -rf "$tree"
mkdir -p "$tree"
cp -a .cargo Cargo.toml Cargo.lock README.md src tests benches "$tree/"
# What a mutant changed is to be built anew, whatever its age.
sed -n 's|^+++ b/||p' tests/mutations/*.patch | sort -u | (cd "$tree" && xargs touch)

failed=0
for name in "$@"; do
    patch=$root/tests/mutations/$name.patch
    seeds=$(sed -n '1s/.*Within \([0-9]*\) seeds.*/\1/p' "$patch")
    (cd "$tree" && patch --quiet -p1 <"$patch")
    binary=$(cd "$tree" && cargo test --release --test sim --no-run 2>&1 | tee "$root/target/mutants/$name.log" | sed -n 's/.*Executable.*(\(.*\))$/\1/p' || true)
    (cd "$tree" && patch --quiet -R -p1 <"$patch")
    if [ -z "$binary" ]; then
        tail -20 "$root/target/mutants/$name.log"
        echo "$name: does not build"
        failed=1
        continue
    fi
    if out=$("$binary" --seeds "$seeds" --first 2>&1); then
        echo "$name: NOT NOTICED in $seeds seeds"
        failed=1
    else
        seed=$(sed -n 's/^seed \([0-9]*\): \(.*\)$/\1 of '"$seeds"': \2/p' <<<"$out" | head -1 | cut -c1-140)
        if [ -z "$seed" ]; then
            tail -5 <<<"$out"
            echo "$name: ended without a seed"
            failed=1
        else
            echo "$name: noticed at seed $seed"
        fi
    fi
done
exit $failed
