#!/usr/bin/env python3
"""Compares `mechgraph capture` and `mechgraph jvp` with the folders that hf_families.py wrote.

usage: families.py MECHGRAPH DIR    (numpy, safetensors)

Prints, for every folder and dtype, the largest error of any tensor relative to its largest value, and exits with 1 if
one is above 1e-9 in f64 or 5e-6 in f32.
"""
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

binary, root = sys.argv[1], Path(sys.argv[2])
bad = 0
for folder in sorted(p.parent for p in root.glob("*/goldens.safetensors")):
    goldens = load_file(folder / "goldens.safetensors")
    directions = ("tokens", "attention_mask", "tangent", "cotangent", "jvp", "vjp")
    sites = sorted(k for k in goldens if k.split(".")[0] not in directions)
    for dtype, bar in (("f64", 1e-9), ("f32", 5e-6)):
        with tempfile.TemporaryDirectory() as d:
            data = str(folder / "goldens.safetensors")
            flags = ["--data", data, "--dtype", dtype, "--quiet", "--backend", "cpu"]
            subprocess.run([binary, "capture", folder, *flags, "--out", f"{d}/f", "--sites", ",".join(sites)], check=True)
            subprocess.run([binary, "jvp", folder, *flags, "--out", f"{d}/g"], check=True)
            ours = {**load_file(f"{d}/f"), **load_file(f"{d}/g")}
        assert all(ours[k].shape == goldens[k].shape for k in ours), {k: (ours[k].shape, goldens[k].shape) for k in ours}
        errors = {k: np.abs(ours[k] - goldens[k]).max() / np.abs(goldens[k]).max() for k in ours if k != "tokens"}
        worst = max(errors, key=lambda k: errors[k] if np.isfinite(errors[k]) else np.inf)
        verdict = "ok" if errors[worst] <= bar else "WRONG"
        bad += verdict != "ok"
        kinds = {}
        for k, e in errors.items():
            kinds[k.split(".")[0]] = max(kinds.get(k.split(".")[0], 0.0), e)
        print("  " + ", ".join(f"{k} {e:.0e}" for k, e in kinds.items()))
        print(f"{folder.name:14} {dtype}  {len(errors):3} tensors  worst {errors[worst]:.1e} ({worst})  {verdict}")
sys.exit(bad > 0)
