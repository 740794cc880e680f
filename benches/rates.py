"""The rows of `mechgraph bench --json`, a line each.

usage: rates.py FILE

Reads one or more JSON documents behind each other with Python's standard library alone. A row without times, of the
interpreter, has dashes. The exit status is 1 if there is no row.
"""

import json
import sys

HEAD = ("backend", "op", "shape", "dtype", "ms", "TFLOP/s", "GB/s", "of roofline", "error", "checked")


def documents(text):
    """The JSON documents of a text."""
    decoder, at = json.JSONDecoder(), 0
    while text[at:].strip():
        at += len(text[at:]) - len(text[at:].lstrip())
        document, at = decoder.raw_decode(text, at)
        yield document


def cells(row):
    """What is shown of a row."""

    def number(key, form, scale=1):
        return "-" if row.get(key) is None else form.format(row[key] * scale)

    rates = (number("median_ms", "{:.3f}"), number("tflops", "{:.3f}"), number("gbs", "{:.1f}"))
    share = number("roofline", "{:.1f} %", 100)
    return (row["backend"], row["op"], row["shape"], row["dtype"], *rates, share, number("error", "{:.1e}"), row["checked"])


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    with open(sys.argv[1], encoding="utf-8") as file:
        rows = [cells(row) for document in documents(file.read()) for row in document["rows"]]
    if not rows:
        sys.exit("Error: no row")
    widths = [max(map(len, column)) for column in zip(HEAD, *rows)]
    for row in (HEAD, *rows):
        print("  ".join(cell.ljust(width) for cell, width in zip(row, widths)).rstrip())


main()
