"""The leading importances of several LIB runs, each against the first of its dtype, and their times.

usage: compare_runs.py RUN RUN..

Reads `graph.safetensors` and `run.json` with Python's standard library alone. Prints a line a run; the exit
status is 1 if one differs from the first of its dtype by more than 1e-9 in f64 or 1e-4 in f32, or if there is
no second of any dtype.
"""

import json
import struct
import sys
from pathlib import Path

TOP = 10
BARS = {"f64": 1e-9, "f32": 1e-4}


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


def main():
    if len(sys.argv) < 3:
        sys.exit("error: fewer than two runs to compare")
    first, wrong, compared = {}, False, 0
    for run in sys.argv[1:]:
        manifest = json.loads((Path(run) / "run.json").read_text())
        seconds = sum(t for name, t in manifest["times_seconds"].items() if " " not in name)
        dtype, found = manifest["dtype"], importances(run)
        if dtype not in first:
            first[dtype] = found
            print(f"{Path(run).name}: the first in {dtype}, stages took {seconds:.3f} s")
            continue
        pairs = [(a, b) for layer in first[dtype] for a, b in zip(first[dtype][layer], found[layer], strict=True)]
        worst = max(abs(b / a - 1) for a, b in pairs)
        wrong |= not worst <= BARS[dtype]
        compared += 1
        print(f"{Path(run).name}: {len(pairs)} importances differ by at most {worst:.1e}, stages took {seconds:.3f} s")
    sys.exit(wrong or compared == 0)


main()
