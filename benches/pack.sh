#!/usr/bin/env bash
# Gathers what benches/device.sh needs on a machine with a GPU but without Rust: the binary and the test
# binaries, stripped and compressed, in the ignored folder device/. Prints its size; fails above 64 MiB together with
# the working tree, the most that a small transfer should hold.
#
#   benches/pack.sh [PROFILE]       PROFILE: release (default) or dev
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-release}
limit=$((64 << 20))

rm -rf device
mkdir device
cargo build --locked --profile "$profile" --bin mechgraph
# One line of JSON an artefact; those of tests name their executable.
cargo test --locked --profile "$profile" --no-run --message-format=json >device/artefacts
executable() { # executable KIND NAME: the test executable of a target
    grep '"profile":{[^}]*"test":true' device/artefacts | grep "\"kind\":\[\"$1\"\]" | grep "\"name\":\"$2\"" |
        sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -1
}
folder=$([ "$profile" = dev ] && echo debug || echo "$profile")
binary=$PWD/target/$folder/mechgraph
cp "$binary" device/mechgraph
cp "$(executable lib mechgraph)" device/unit
cp "$(executable test it)" device/it
strip device/mechgraph device/unit device/it
gzip --best device/mechgraph device/unit device/it
rm device/artefacts
# The published model, whose results the CPU is held to.
paper=../shared/fixtures/lib-paper/seed0
if [ -d "$paper" ]; then
    mkdir device/lib-paper
    cp "$paper"/{config.json,model.safetensors,dataset.safetensors} device/lib-paper/
fi
# Test binaries look for the checkout and the binary where they were built.
printf '%s\n%s\n' "$PWD" "$binary" >device/paths

tree=$(git ls-files -z --cached --others --exclude-standard | xargs -0 stat -c %s 2>/dev/null | awk '{ n += $1 } END { print n + 0 }')
packed=$(find device -type f -printf '%s\n' | awk '{ n += $1 } END { print n + 0 }')
echo "device/ $((packed >> 10)) KiB + working tree $((tree >> 10)) KiB = $(((packed + tree) >> 10)) KiB, limit $((limit >> 10)) KiB"
if [ $((packed + tree)) -gt "$limit" ]; then
    echo "too large to carry" >&2
    exit 1
fi
