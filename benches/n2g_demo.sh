#!/usr/bin/env bash
# `n2g demo:lm`, all 3,072 neurons, in all four modes: mean F1 a layer of tries and baselines on held-out exemplar
# windows and on unselected text, times, tokens. Everything else on the machine should rest.
#
# usage: benches/n2g_demo.sh [WORK]     WORK: a folder that keeps the runs; without it they are removed
# MECHGRAPH names a binary to run in the place of one that is built.
set -euo pipefail
cd "$(dirname "$0")/.."
ours=${MECHGRAPH:-}
[ -n "$ours" ] || { cargo build --release --locked --quiet; ours=target/release/mechgraph; }
if [ $# -gt 0 ]; then
    mkdir -p "$1" && work=$1
else
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
modes=(default reference paper openai)

echo "machine: $(nproc) x $(grep -m1 'model name' /proc/cpuinfo | cut -d: -f2 | xargs), $(date +%F), load $(cut -d' ' -f1 /proc/loadavg)"
for mode in "${modes[@]}"; do
    t0=$(date +%s.%N)
    $ours n2g demo:lm --mode "$mode" --backend cpu --quiet --force --out "$work/$mode" > /dev/null
    echo "$(date +%s.%N) $t0" | awk '{printf "%.1f\n", $1 - $2}' > "$work/$mode.seconds"
done
python3 - "$work" "${modes[@]}" << 'PY'
import json, sys
work, modes = sys.argv[1], sys.argv[2:]
read = lambda mode, name: json.load(open(f"{work}/{mode}/{name}.json"))
summaries = {mode: read(mode, "summary") for mode in modes}
name = lambda row: "all" if row["layer"] is None else str(row["layer"])


def table(title, ours, token, ngram):
    """A row a layer. Baselines need no mode; of raw values there are scores where any value fires, too."""
    print(f"\n{title}\n")
    raw = [mode for mode in modes if ours == "held_out" and summaries[mode]["all"].get("any")]
    heads = modes + [f"{mode}, any value" for mode in raw] + ["token", "5-gram"]
    print(f"| layer | {' | '.join(heads)} |")
    print("| --- " + "| ---: " * len(heads) + "|")
    first = summaries[modes[0]]
    for i, row in enumerate(first["layers"] + [first["all"]]):
        rows = {mode: (s["layers"] + [s["all"]])[i] for mode, s in summaries.items()}
        same = all((r[token], r[ngram]) == (row[token], row[ngram]) for r in rows.values())
        assert same, "baselines do not depend on the mode"
        means = [r[ours] for r in rows.values()] + [rows[mode]["any"] for mode in raw] + [row[token], row[ngram]]
        cells = [f"{m['f1']:.3f}" for m in means]
        print(f"| {name(row)} | {' | '.join(cells)} |")


table("Mean F1 on held-out exemplar windows", "held_out", "token", "ngram")
table("Mean F1 on unselected text", "text", "text_token", "text_ngram")
print("\n| mode | seconds | tokens a neuron | silent | not positive | failed | peak MB |")
print("| --- " + "| ---: " * 6 + "|")
for mode, summary in summaries.items():
    all_, run = summary["all"], read(mode, "run")
    seconds = open(f"{work}/{mode}.seconds").read().strip()
    counts = " | ".join(str(all_[key]) for key in ("silent", "not_positive", "failed"))
    print(f"| {mode} | {seconds} | {summary['tokens_per_neuron']:.0f} | {counts} | {run['peak_memory_bytes'] / 1e6:.0f} |")
PY
