"""Several runs of LIB, or of N2G, each against the first of its dtype, and their times.

usage: compare_runs.py RUN RUN..

Reads the files of the runs with Python's standard library alone and prints a line a run. Of LIB the leading
importances may differ by 1e-9 in f64 and 1e-4 in f32. Of N2G (`scores.csv`) every neuron must have the same status
and its maximum within 1e-4, the last printed digit aside; as thresholds turn a rounding error into another pattern
now and then, F1 may differ at one neuron in a hundred. The exit status is 1 if a run is further from the first, or if
there is no second of any dtype.
"""

import csv
import json
import struct
import sys
from pathlib import Path

TOP = 10
BARS = {"f64": 1e-9, "f32": 1e-4}
MAXIMUM = 1e-4
DIGIT = 1e-6
OTHERS = 1 / 100


def importances(run):
    """The leading Lambda of every node layer that has them."""
    raw = (Path(run) / "graph.safetensors").read_bytes()
    (size,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + size])
    found = {}
    for name, tensor in header.items():
        if name.endswith(".Lambda"):
            start, end = tensor["data_offsets"]
            numbers = raw[8 + size + start : 8 + size + end]
            found[name.removesuffix(".Lambda")] = struct.unpack(f"<{len(numbers) // 8}d", numbers)[:TOP]
    return found


def compare_importances(first, found, dtype):
    """Whether they agree, and how far."""
    pairs = [(a, b) for layer in first for a, b in zip(first[layer], found[layer], strict=True)]
    worst = max(abs(b / a - 1) for a, b in pairs)
    return worst <= BARS[dtype], f"{len(pairs)} importances differ by at most {worst:.1e}"


def scores(run):
    """The table of neurons, by layer and neuron."""
    with open(Path(run) / "scores.csv", newline="") as file:
        return {(row["layer"], row["neuron"]): row for row in csv.DictReader(file)}


def compare_scores(first, found, _dtype):
    """Whether they agree, and how far."""
    if first.keys() != found.keys() or any(first[n]["status"] != found[n]["status"] for n in first):
        return False, "other neurons, or neurons of another status"
    done = [n for n in first if first[n]["status"] == "done"]
    maxima = [[float(rows[n]["a_max"]) for rows in (first, found)] for n in done]
    worst = max((abs(b - a) - DIGIT) / a for a, b in maxima)
    others = sum(any(first[n][f] != found[n][f] for f in ("f1", "text_f1")) for n in done)
    means = [sum(float(rows[n]["f1"]) for n in done) / len(done) for rows in (first, found)]
    is_close = worst <= MAXIMUM and others <= OTHERS * len(done)
    what = f"{len(done)} maxima differ by at most {max(worst, 0):.1e}, F1 at {others} neurons"
    return is_close, f"{what}, mean F1 {means[0]:.4f} and {means[1]:.4f}"


def main():
    if len(sys.argv) < 3:
        sys.exit("error: fewer than two runs to compare")
    first, wrong, compared = {}, False, 0
    for run in sys.argv[1:]:
        manifest = json.loads((Path(run) / "run.json").read_text())
        seconds = sum(t for name, t in manifest["times_seconds"].items() if " " not in name)
        of_lib = (importances, compare_importances)
        read, compare = (scores, compare_scores) if manifest["command"] == "n2g" else of_lib
        kind, found = (manifest["command"], manifest["dtype"]), read(run)
        if kind not in first:
            first[kind] = found
            print(f"{Path(run).name}: the first in {manifest['dtype']}, stages took {seconds:.3f} s")
            continue
        is_close, how = compare(first[kind], found, manifest["dtype"])
        wrong |= not is_close
        compared += 1
        print(f"{Path(run).name}: {how}, stages took {seconds:.3f} s")
    sys.exit(wrong or compared == 0)


main()
