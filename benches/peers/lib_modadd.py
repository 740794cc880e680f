"""LIB on a modular-addition transformer in PyTorch, with one autograd call for each output feature.

usage: lib_modadd.py MODEL_DIR DATASET.safetensors [GRAPH.safetensors]

The road of the published method: biases folded into an extra coordinate, Gram matrices, then for each
node layer from the last to the first the stacked Jacobian to the next layer, one backward pass for each
of its features, and the squared edges in the same way. Float64 on the CPU. Prints the seconds of each
stage and, where a graph of mechgraph is given, the largest relative difference of the leading importances.
"""

import json
import sys
import time

import torch
from safetensors.torch import load_file

THRESHOLD = 1e-15


def fold(m, cfg):
    """Weights with the biases as rows of a constant coordinate."""
    heads, d_head, d = cfg["n_heads"], cfg["d_head"], cfg["d_model"]
    pad_col = lambda w: torch.cat([w, torch.zeros_like(w[..., :1])], -1)
    f = {}
    f["W_E"] = pad_col(m["embed.W_E"])
    f["W_pos"] = torch.cat([m["pos_embed.W_pos"], torch.ones(cfg["n_ctx"], 1, dtype=torch.float64)], -1)
    for name in "QKV":
        w, b = m[f"blocks.0.attn.W_{name}"], m[f"blocks.0.attn.b_{name}"]
        f[f"W_{name}"] = torch.cat([w, b[:, None, :]], 1)
    one = torch.zeros(heads, d + 1, 1, dtype=torch.float64)
    one[:, -1] = 1
    f["W_V"] = torch.cat([f["W_V"], one], -1)
    b_o = (m["blocks.0.attn.b_O"] / heads).expand(heads, 1, d)
    f["W_O"] = pad_col(torch.cat([m["blocks.0.attn.W_O"], b_o], 1))
    w_in = pad_col(torch.cat([m["blocks.0.mlp.W_in"], m["blocks.0.mlp.b_in"][None]], 0))
    w_in[-1, -1] = 1
    f["W_in"] = w_in
    f["W_out"] = pad_col(torch.cat([m["blocks.0.mlp.W_out"], m["blocks.0.mlp.b_out"][None]], 0))
    f["W_U"] = torch.cat([m["unembed.W_U"], m["unembed.b_U"][None]], 0)
    return f


def sections(f, cfg):
    """The functions between ln1.0, ln2.0, unembed and output; only the last position is read."""
    scale = cfg["d_head"] ** -0.5

    def attention(x):
        q, k, v = (torch.einsum("bsd,hde->bhse", x, f[f"W_{n}"]) for n in "QKV")
        p = torch.softmax(torch.einsum("bhe,bhse->bhs", q[:, :, -1], k) * scale, -1)
        z = torch.einsum("bhs,bhse->bhe", p, v)
        return x[:, -1:] + torch.einsum("bhe,hed->bd", z, f["W_O"])[:, None]

    def mlp(x):
        return x + torch.relu(x @ f["W_in"]) @ f["W_out"]

    return [attention, mlp, lambda x: x @ f["W_U"]]


def eigen(a):
    values, vectors = torch.linalg.eigh(a)
    order = values.abs().argsort(descending=True)
    return values.abs()[order], vectors[:, order]


def principal(x):
    """Mean, then the constant and the principal directions of the centred rows: D, W, W+."""
    d = x.shape[-1]
    mean = x.reshape(-1, d).mean(0)
    shift = -mean.clone()
    shift[-1] = 0
    rows = (x + shift).reshape(-1, d)
    values, vectors = eigen(rows.T @ rows / rows.shape[0])
    constant = int(vectors[-1].abs().argmax())
    order = [constant] + [i for i in range(d) if i != constant]
    values, vectors = values[order], vectors[:, order]
    keep = values > THRESHOLD
    values, vectors = values[keep], vectors[:, keep]
    y, y_inv = torch.eye(d, dtype=x.dtype), torch.eye(d, dtype=x.dtype)
    y[-1, :-1], y_inv[-1, :-1] = -mean[:-1], mean[:-1]
    return values, y @ vectors, vectors.T @ y_inv


def jacobian_rows(section, x, c_out):
    """Yields the gradient of each output feature, as the published code does: one call each."""
    x = x.detach().requires_grad_(True)
    out = section(x)
    out = out if c_out is None else out @ c_out
    for t in range(out.shape[1]):
        for i in range(out.shape[2]):
            yield torch.autograd.grad(out[:, t, i].sum(), x, retain_graph=True)[0]


def basis(section, x, c_out):
    values, w, w_pinv = principal(x)
    m = torch.zeros(x.shape[-1], x.shape[-1], dtype=x.dtype)
    for g in jacobian_rows(section, x, c_out):
        m += torch.einsum("bsi,bsj->ij", g, g)
    m /= x.shape[0] * x.shape[1]
    r, r_pinv = w / values.sqrt(), values.sqrt()[:, None] * w_pinv
    m = r_pinv @ m @ r_pinv.T
    importance, vectors = eigen(m[1:, 1:])
    v = torch.block_diag(torch.ones(1, 1, dtype=x.dtype), vectors)
    importance = torch.cat([m[:1, 0], importance])
    k = int((importance >= THRESHOLD).sum())
    c = (r @ v * importance.sqrt())[:, :k]
    c_pinv = ((v.T @ r_pinv) / importance.sqrt()[:, None])[:k]
    return c, c_pinv, importance


def edges(section, x, c, c_pinv, c_out):
    hat = x @ c
    through = lambda h: section(h @ c_pinv)
    rows = [((g * hat).sum(1) ** 2).sum(0) for g in jacobian_rows(through, hat, c_out)]
    return torch.stack(rows) / (x.shape[0] * x.shape[1])


def main():
    torch.set_default_dtype(torch.float64)
    folder, data = sys.argv[1], load_file(sys.argv[2])
    t0 = time.perf_counter()
    cfg = json.load(open(f"{folder}/config.json"))
    weights = {k: v.double() for k, v in load_file(f"{folder}/model.safetensors").items()}
    f = fold(weights, cfg)
    steps = sections(f, cfg)
    tokens = data["train.tokens"].long()
    xs = [f["W_E"][tokens] + f["W_pos"][: tokens.shape[1]]]
    for step in steps[:-1]:
        xs.append(step(xs[-1]).detach())
    found, c_out = [], None
    for step, x in zip(reversed(steps), reversed(xs)):
        found.append(basis(step, x, c_out))
        c_out = found[-1][0]
    found.reverse()
    t1 = time.perf_counter()
    nexts = [b[0] for b in found[1:]] + [None]
    sums = [float(edges(s, x, b[0], b[1], n).sum()) for s, x, b, n in zip(steps, xs, found, nexts)]
    t2 = time.perf_counter()
    result = {"bases_seconds": t1 - t0, "edges_seconds": t2 - t1, "total_seconds": t2 - t0, "sum_of_edges": sums}
    result["torch"], result["threads"] = torch.__version__, torch.get_num_threads()
    if len(sys.argv) > 3:
        graph = load_file(sys.argv[3])
        for name, b, top in zip(["ln1.0", "ln2.0", "unembed"], found, [10, 20, 20]):
            ours = graph[f"{name}.Lambda"][:top]
            result[f"difference_{name}"] = float((b[2][:top] / ours - 1).abs().max())
    print(json.dumps(result))


main()
