#!/usr/bin/env bash
# Mutants: one ingredient of the protocol is taken out of a copy of the tree, and the simulator must notice within so many seeds.
#   tests/mutations/run.sh            the two that a run can afford
#   tests/mutations/run.sh --all      all of them
#   tests/mutations/run.sh M3 M10     these
# Each patch says its budget in its first line: "Within N seeds."
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD tree=$PWD/target/mutants/tree
# A place of its own: cargo takes a copy of the tree for the tree, and would leave mutants behind where the product is built. Dependencies are
# taken from the release build, if there is one.
export CARGO_TARGET_DIR=$root/target/mutants/build
mkdir -p "$CARGO_TARGET_DIR"
if [ ! -d "$CARGO_TARGET_DIR/release" ] && [ -d "$root/target/release" ]; then
    cp -al "$root/target/release" "$CARGO_TARGET_DIR/"
    find "$CARGO_TARGET_DIR/release" \( -name '*campanile*' -o -name 'sim-*' -o -name incremental \) -prune -exec rm -rf {} +
fi
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
