"""What PyTorch reaches on the same GPU: ceilings, and the operations of `mechgraph bench` at its shapes.

usage: kernels.py [--repeats N]

Every time is the median of N runs by the device's events after three others, on random data; products are
checked against f64 on a sample of rows. Prints one JSON object.
"""

import argparse
import json

import torch

GRAMS = [(1048576, 769), (1048576, 768), (131072, 3073)]
LINEARS = [(4096, 768, 3072), (65536, 768, 3072), (65536, 3072, 768), (131072, 768, 3072)]
SAMPLE = 64


def seconds(run, repeats):
    times = []
    for i in range(3 + repeats):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        run()
        end.record()
        end.synchronize()
        if i >= 3:
            times.append(start.elapsed_time(end) / 1e3)
    times.sort()
    return (times[(repeats - 1) // 2] + times[repeats // 2]) / 2


def error(found, expected):
    return float((found.double() - expected).norm() / expected.norm())


def product(dtype, side, repeats):
    """The rate of a square product, in 10^12 a second."""
    a, b = (torch.rand(side, side, device="cuda", dtype=torch.float32).sub_(0.5).to(dtype) for _ in range(2))
    time = seconds(lambda: a @ b, repeats)
    expected = a[:SAMPLE].double() @ b.double()
    return {"tflops": 2 * side**3 / time / 1e12, "error": error((a @ b)[:SAMPLE], expected)}


def ceilings(repeats):
    x = torch.rand(1 << 28, device="cuda")
    y = torch.empty_like(x)
    found = {"copy_gbs": 2 * x.numel() * 4 / seconds(lambda: y.copy_(x), repeats) / 1e9}
    del x, y
    torch.backends.cuda.matmul.allow_tf32 = False
    found["fp32"] = product(torch.float32, 8192, repeats)
    found["fp64"] = product(torch.float64, 8192, repeats)
    found["bf16"] = product(torch.bfloat16, 8192, repeats)
    torch.backends.cuda.matmul.allow_tf32 = True
    found["tf32"] = product(torch.float32, 8192, repeats)
    torch.backends.cuda.matmul.allow_tf32 = False
    return found


def gram(n, d, dtype, repeats):
    """The whole matrix, as the library has no product of one triangle; rates count the triangle alone."""
    x = torch.rand(n, d, device="cuda", dtype=dtype).add_(0.25)

    def run():
        centred = x - x.mean(0)
        return centred.T @ centred

    found = run()[:SAMPLE]
    wide = x.double()
    wide -= wide.mean(0)
    result = {"error": error(found, wide[:, :SAMPLE].T @ wide)}
    del wide
    time = seconds(run, repeats)
    return result | {"ms": 1e3 * time, "tflops": n * d * (d + 1) / time / 1e12}


def linear(n, k, m, repeats):
    x = torch.rand(n, k, device="cuda").add_(0.25)
    w = torch.rand(m, k, device="cuda").sub_(0.5).mul_(2 * (3 / k) ** 0.5)
    b = torch.rand(m, device="cuda")
    run = lambda: torch.nn.functional.gelu(torch.nn.functional.linear(x, w, b))
    rows = torch.nn.functional.linear(x[:SAMPLE].double(), w.double(), b.double())
    result = {"error": error(run()[:SAMPLE], torch.nn.functional.gelu(rows))}
    time = seconds(run, repeats)
    return result | {"ms": 1e3 * time, "tflops": 2 * n * k * m / time / 1e12}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=20)
    repeats = parser.parse_args().repeats
    if not torch.cuda.is_available():
        raise SystemExit("error: torch sees no GPU")
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = False
    result = {"device": torch.cuda.get_device_name(), "torch": torch.__version__, "ceilings": ceilings(repeats), "rows": []}
    for dtype, name in [(torch.float32, "f32"), (torch.float64, "f64")]:
        for n, d in GRAMS:
            result["rows"].append({"op": "gram", "shape": f"{n}x{d}", "dtype": name} | gram(n, d, dtype, repeats))
            torch.cuda.empty_cache()
    for n, k, m in LINEARS:
        result["rows"].append({"op": "linear", "shape": f"{n}x{k}x{m}", "dtype": "f32"} | linear(n, k, m, repeats))
    print(json.dumps(result, indent=1))


main()
