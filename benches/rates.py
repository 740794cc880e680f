"""The rows of `mechgraph bench --json`, a line each.

usage: rates.py FILE

Reads one or more JSON documents behind each other with Python's standard library alone. The roofline is that of the
highest ceilings that any document of a backend has. A row without times, of the interpreter, has dashes. The exit status
is 1 if there is no row.
"""

import json
import sys

HEAD = ("backend", "op", "shape", "dtype", "ms", "GFLOP/s", "GB/s", "of roofline", "error", "checked")


def documents(text):
    """The JSON documents of a text."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        yield document


def rooflines(documents):
    """The highest rate of copies by backend, and of arithmetic by backend and dtype."""
    rates = {}
    for document in documents:
        ceilings = document["ceilings"] or {"copy": 0, "peaks": {}}
        for dtype, rate in [(None, ceilings["copy"]), *ceilings["peaks"].items()]:
            key = (document["backend"], dtype)
            rates[key] = max(rate, rates.get(key, 0))
    return rates


def share(row, rates):
    """The least time for a row's arithmetic or bytes over its median."""
    copy, peak = rates.get((row["backend"], None)), rates.get((row["backend"], row["dtype"]))
    if row.get("median_ms") is None or not copy or not peak:
        return "-"
    return f"{100 * max(row['flops'] / peak, row['bytes'] / copy) / (row['median_ms'] / 1e3):.1f} %"


def cells(row, rates):
    """What is shown of a row."""

    def number(key, form, scale=1):
        return "-" if row.get(key) is None else form.format(scale * row[key])

    times = (number("median_ms", "{:.3f}"), number("tflops", "{:.1f}", 1000), number("gbs", "{:.1f}"), share(row, rates))
    matrices = " (f16 matrices)" if "linear_coop_f32@" in row["kernel"] else ""
    return (row["backend"], row["op"] + matrices, row["shape"], row["dtype"], *times, number("error", "{:.1e}"), row["checked"])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        read = list(documents(file.read()))
    rates = rooflines(read)
    rows = [cells(row, rates) for document in read for row in document["rows"]]
    if not rows:
        sys.exit("Error: no row")
    widths = [max(map(len, column)) for column in zip(HEAD, *rows)]
    for row in (HEAD, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


main()
