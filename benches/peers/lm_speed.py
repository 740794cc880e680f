#!/usr/bin/env python3
"""A Hugging Face model on windows of text, by PyTorch on the CPU: perplexity, and tokens a second.

usage: python -P lm_speed.py FOLDER TEXT [--windows 64] [--window 128] [--threads 2] [--batch 8] [--repeats 3] [--json]

The text is encoded in one piece without special tokens and cut into windows that do not overlap, as `mechgraph eval`
does. Every window predicts its own next tokens. (torch, transformers, tokenizers)
"""
import argparse
import json
import math
import os
import time
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"
parser = argparse.ArgumentParser()
parser.add_argument("folder", type=Path)
parser.add_argument("text", type=Path)
parser.add_argument("--windows", type=int, default=64)
parser.add_argument("--window", type=int, default=128)
parser.add_argument("--threads", type=int, default=2)
parser.add_argument("--batch", type=int, default=8)
parser.add_argument("--repeats", type=int, default=3)
parser.add_argument("--json", action="store_true")
args = parser.parse_args()

import tokenizers
import torch
import transformers

torch.set_num_threads(args.threads)
with open(args.text, encoding="utf-8", newline="") as f:
    ids = tokenizers.Tokenizer.from_file(str(args.folder / "tokenizer.json")).encode(f.read(), add_special_tokens=False).ids
count = min(args.windows, len(ids) // args.window) if args.windows else len(ids) // args.window
tokens = torch.tensor(ids[: count * args.window]).reshape(count, args.window)
model = transformers.AutoModelForCausalLM.from_pretrained(args.folder, dtype=torch.float32).eval()


def forward():
    """The sum of cross-entropies over all windows, and the correct predictions."""
    loss, right = 0.0, 0
    for batch in tokens.split(args.batch):
        logits = model(input_ids=batch, use_cache=False).logits[:, :-1]
        target = batch[:, 1:]
        loss += torch.nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), reduction="sum").item()
        right += (logits.argmax(-1) == target).sum().item()
    return loss, right


def bare():
    """The forward pass alone."""
    for batch in tokens.split(args.batch):
        model(input_ids=batch, use_cache=False)


def timed(what):
    start = time.perf_counter()
    result = what()
    return time.perf_counter() - start, result


with torch.inference_mode():
    model(input_ids=tokens[: args.batch], use_cache=False)  # Threads and memory are there before the clock runs.
    runs = [timed(forward) for _ in range(args.repeats)]
    alone = [timed(bare)[0] for _ in range(args.repeats)]
times, (loss, right) = [t for t, _ in runs], runs[0][1]
labelled = tokens.numel() - count
result = {
    "windows": count,
    "labelled": labelled,
    "loss": loss / labelled,
    "perplexity": math.exp(loss / labelled),
    "accuracy": right / labelled,
    "seconds": times,
    "forward_seconds": alone,
    "tokens_per_second": tokens.numel() / min(alone),
}
print(json.dumps(result) if args.json else "\n".join(f"{k:20}{v}" for k, v in result.items()))
