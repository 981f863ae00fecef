#!/usr/bin/env bash
# Mutants: one ingredient of the protocol is taken out of a copy of the tree, and the simulator must notice within so many seeds, by the
# invariant that the ingredient is there for.
#   tests/mutations/run.sh            the two that a run can afford
#   tests/mutations/run.sh --all      all of them
#   tests/mutations/run.sh M3 M10     these
set -euo pipefail
cd "$(dirname "$0")/../.."
root=$PWD tree=$PWD/target/mutants/tree

# Seeds are tried from 1 on, and from other numbers when the budget is drawn up: five times the most that any try took. A seed tells another
# story when the worlds change; the budgets hold as long as the situations are played as often.
# mutant      budget  by             at seed, by
mutants='
M1            30      I4             4 I4
M2            110     I18,I20,I22    11 I18
M3            35      I3,I14         4 I3
M4            85      I3,I14,I22     14 I14
M5            10      I18,I22        1 I22
M6            10      I19            1 I19
M10           45      I15,I22        7 I22
no-finalise   1000    I2             32 I2
forgetful     20      I15            2 I15
'

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
    --all | --long) set -- $(awk '{ print $1 }' <<<"$mutants") ;;
esac

rm -rf "$tree"
mkdir -p "$tree"
cp -a .cargo Cargo.toml Cargo.lock README.md src tests benches "$tree/"
# What a mutant changed is to be built anew, whatever its age.
sed -n 's|^+++ b/||p' tests/mutations/*.patch | sort -u | (cd "$tree" && xargs touch)

failed=0
fail() {
    echo "$1"
    failed=1
}
for name in "$@"; do
    patch=$root/tests/mutations/$name.patch
    read -r seeds by < <(awk -v name="$name" '$1 == name { print $2, $3 }' <<<"$mutants") || {
        fail "$name: not a mutant that has a budget"
        continue
    }
    (cd "$tree" && patch --quiet -p1 <"$patch")
    binary=$(cd "$tree" && cargo test --release --test sim --no-run 2>&1 | tee "$root/target/mutants/$name.log" | sed -n 's/.*Executable.*(\(.*\))$/\1/p' || true)
    (cd "$tree" && patch --quiet -R -p1 <"$patch")
    if [ -z "$binary" ]; then
        tail -20 "$root/target/mutants/$name.log"
        fail "$name: does not build"
    elif out=$("$binary" --seeds "$seeds" --first 2>&1); then
        fail "$name: NOT NOTICED in $seeds seeds"
    else
        found=$(sed -n 's/^seed \([0-9]*\): \(.*\)$/\1 of '"$seeds"': \2/p' <<<"$out" | head -1 | cut -c1-140)
        invariant=$(sed 's/^[^:]*: \([^:]*\):.*/\1/' <<<"$found")
        if [ -z "$found" ]; then
            tail -5 <<<"$out"
            fail "$name: ended without a seed"
        elif [[ ",$by," != *",$invariant,"* ]]; then
            fail "$name: noticed by another invariant than $by, at seed $found"
        else
            echo "$name: noticed at seed $found"
        fi
    fi
done
exit $failed
