#!/usr/bin/env python3
"""Random checkpoints of every family, with what Hugging Face transformers computes for them in float64.

usage: python -P hf_families.py OUT [SEED]    (torch, transformers, safetensors; -P, as a library looks for modules by names that stand here)

Writes OUT/NAME/{config.json, model.safetensors, goldens.safetensors}: tokens, logits, what modules read and write as
resid_pre.L, q.L, k.L, v.L, pattern.L, z.L, attn_out.L, resid_mid.L, mlp_pre.L, mlp_act.L, mlp_out.L and resid_post.L,
and, for every block, tangent.L with jvp.L and cotangent.L with vjp.L. `families.py` beside this file compares them with `mechgraph capture` and `mechgraph jvp`. Sizes are odd on purpose; every weight is drawn, norm
gains and biases too.
"""
import sys
from pathlib import Path

import torch
import transformers as hf
from safetensors.torch import save_file

out, seed = Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else 0
V, T, N = 83, 29, 2
common = dict(attn_implementation="eager", use_cache=False)
odd = dict(hidden_size=60, num_attention_heads=6, num_hidden_layers=3, intermediate_size=77, vocab_size=V, max_position_embeddings=T + 3)
gqa = dict(odd, num_key_value_heads=2)
rope3 = dict(rope_type="llama3", rope_theta=300000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=3.0, original_max_position_embeddings=16)
CASES = {
    "gpt2": hf.GPT2Config(n_embd=60, n_head=6, n_layer=3, n_positions=T, vocab_size=V, n_inner=71, activation_function="relu"),
    "gpt2_scaled": hf.GPT2Config(n_embd=44, n_head=4, n_layer=3, n_positions=T, vocab_size=V, scale_attn_by_inverse_layer_idx=True, tie_word_embeddings=False),
    "gpt_neo": hf.GPTNeoConfig(hidden_size=60, num_heads=5, num_layers=3, attention_types=[[["local", "global", "local"], 1]], window_size=5, vocab_size=V, max_position_embeddings=T),
    "gpt_neox": hf.GPTNeoXConfig(**odd, rotary_pct=0.4, use_parallel_residual=True),
    "gpt_neox_seq": hf.GPTNeoXConfig(**odd, rotary_pct=1.0, use_parallel_residual=False, attention_bias=False, hidden_act="gelu_new"),
    "llama": hf.LlamaConfig(**gqa, head_dim=14, attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5, rope_theta=500.0),
    "llama3": hf.LlamaConfig(**gqa, rope_parameters=rope3, tie_word_embeddings=True),
    "mistral": hf.MistralConfig(**gqa, sliding_window=6, head_dim=16),
    "mistral_full": hf.MistralConfig(**gqa, sliding_window=None, head_dim=10),
    "qwen2": hf.Qwen2Config(**gqa),
    "qwen2_window": hf.Qwen2Config(**gqa, use_sliding_window=True, sliding_window=7, max_window_layers=1),
    "qwen3": hf.Qwen3Config(**gqa, head_dim=12, attention_bias=True),
    "gemma": hf.GemmaConfig(**gqa, head_dim=18),
    "gemma2": hf.Gemma2Config(**gqa, head_dim=18, query_pre_attn_scalar=31, sliding_window=6, attn_logit_softcapping=3.0, final_logit_softcapping=2.0),
    "phi": hf.PhiConfig(**gqa, partial_rotary_factor=0.4),
    "bert": hf.BertConfig(**odd),
    "bert_bare": hf.BertConfig(**odd),
    "distilbert": hf.DistilBertConfig(dim=60, n_heads=6, n_layers=3, hidden_dim=77, vocab_size=V, max_position_embeddings=T + 3, activation="relu"),
}
MASKED = {"bert": hf.BertForMaskedLM, "bert_bare": hf.BertModel, "distilbert": hf.DistilBertForMaskedLM}


def blocks(model):
    for path in ("transformer.h", "gpt_neox.layers", "model.layers", "bert.encoder.layer", "encoder.layer", "distilbert.transformer.layer"):
        try:
            return model.get_submodule(path)
        except AttributeError:
            continue
    raise SystemExit(f"no blocks in {type(model).__name__}")


def first(block, paths):
    """The first of several modules that a block has; None if it has none of them."""
    for path in paths:
        try:
            return block.get_submodule(path)
        except AttributeError:
            continue
    return None


QKV = {
    "q": ("attn.attention.q_proj", "self_attn.q_proj", "attention.self.query", "attention.q_lin"),
    "k": ("attn.attention.k_proj", "self_attn.k_proj", "attention.self.key", "attention.k_lin"),
    "v": ("attn.attention.v_proj", "self_attn.v_proj", "attention.self.value", "attention.v_lin"),
}
FUSED = ("attn.c_attn",)  # All queries, all keys, all values.
BY_HEAD = ("attention.query_key_value",)  # Head by head.
ATTN_OUT = ("attn.c_proj", "attn.attention.out_proj", "self_attn.o_proj", "self_attn.dense", "attention.output.dense", "attention.out_lin", "attention.dense")
MLP_PRE = ("mlp.gate_proj", "mlp.c_fc", "mlp.dense_h_to_4h", "mlp.fc1", "intermediate.dense", "ffn.lin1")
MLP_OUT = ("mlp.c_proj", "mlp.dense_4h_to_h", "mlp.down_proj", "mlp.fc2", "output.dense", "ffn.lin2")


def watch(block, i, heads, parallel, goldens):
    """Hooks that note what the modules of block i read and write."""
    def shaped(x, *shape):
        return x.detach().reshape(N, T, *shape).clone()

    def output(name, *shape):
        def hook(_, args, y):
            goldens[f"{name}.{i}"] = shaped(y, *(shape or (-1,)))
        return hook

    def read(name, *shape):
        def hook(_, args):
            goldens[f"{name}.{i}"] = shaped(args[0], *(shape or (-1,)))
        return hook

    hooks = []
    width = first(block, ATTN_OUT)
    width = (width.weight.shape[0] if type(width).__name__ == "Conv1D" else width.weight.shape[1]) // heads
    for name, paths in QKV.items():
        if module := first(block, paths):
            hooks.append(module.register_forward_hook(output(name, -1, width)))

    def fused(_, args, y, by_head):
        y = shaped(y, heads, 3, width).transpose(2, 3) if by_head else shaped(y, 3, heads, width)
        for j, name in enumerate("qkv"):
            goldens[f"{name}.{i}"] = y[:, :, j].contiguous()

    if module := first(block, FUSED):
        hooks.append(module.register_forward_hook(lambda m, a, y: fused(m, a, y, False)))
    if module := first(block, BY_HEAD):
        hooks.append(module.register_forward_hook(lambda m, a, y: fused(m, a, y, True)))
    hooks.append(first(block, ATTN_OUT).register_forward_pre_hook(read("z", heads, width)))
    is_double = first(block, ("post_feedforward_layernorm",)) is not None
    attn = first(block, ("post_attention_layernorm",)) if is_double else first(block, ATTN_OUT)
    mlp = first(block, ("post_feedforward_layernorm",)) if is_double else first(block, MLP_OUT)
    hooks += [attn.register_forward_hook(output("attn_out")), mlp.register_forward_hook(output("mlp_out"))]
    hooks.append(first(block, MLP_PRE).register_forward_hook(output("mlp_pre")))
    hooks.append(first(block, MLP_OUT).register_forward_pre_hook(read("mlp_act")))
    if module := first(block, ("attention.output.LayerNorm", "sa_layer_norm")):
        hooks.append(module.register_forward_hook(output("resid_mid")))
    elif not parallel:
        norm = first(block, ("pre_feedforward_layernorm", "post_attention_layernorm", "ln_2"))
        hooks.append(norm.register_forward_pre_hook(read("resid_mid")))
    return hooks


def lift_casts():
    """Norms, rotary tables and softmaxes of the library are computed in float32 by explicit casts: undo them."""
    original = torch.Tensor.to
    torch.Tensor.float = lambda self: self.double()

    def to(self, *args, **kwargs):
        args = tuple(torch.float64 if a is torch.float32 else a for a in args)
        kwargs = {k: torch.float64 if v is torch.float32 else v for k, v in kwargs.items()}
        return original(self, *args, **kwargs)

    torch.Tensor.to = to
    softmax = torch.nn.functional.softmax
    torch.nn.functional.softmax = lambda x, dim=None, dtype=None, **k: softmax(x, dim=dim, dtype=torch.float64)


def run(name, config):
    torch.manual_seed(seed * 1000 + sum(map(ord, name)))
    config._attn_implementation = "eager"
    for key in ("embd_pdrop", "resid_pdrop", "attn_pdrop", "hidden_dropout_prob", "attention_probs_dropout_prob", "dropout", "attention_dropout"):
        if hasattr(config, key):
            setattr(config, key, 0.0)
    kind = MASKED.get(name)
    model = kind(config) if kind else hf.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    model.eval()
    with torch.no_grad():
        for key, p in model.named_parameters():
            p.copy_(torch.randn_like(p) * (0.3 if p.dim() == 1 else 1.2 / p.shape[-1] ** 0.5))
    folder = out / name
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    model = model.double()
    for module in model.modules():  # Buffers that were made in float32.
        if hasattr(module, "inv_freq"):
            width = 2 * len(module.inv_freq)
            parameters = getattr(module.config, "rope_parameters", None) or {}
            theta = parameters.get("rope_theta", 10000.0)
            exact = 1.0 / theta ** (torch.arange(0, width, 2, dtype=torch.float64) / width)
            if parameters.get("rope_type") == "llama3":
                p, wave = parameters, 2 * torch.pi / exact
                old = p["original_max_position_embeddings"]
                smooth = ((old / wave - p["low_freq_factor"]) / (p["high_freq_factor"] - p["low_freq_factor"])).clamp(0, 1)
                exact = (1 - smooth) * exact / p["factor"] + smooth * exact
            module.inv_freq = exact
        if hasattr(module, "embed_scale"):
            module.embed_scale = torch.tensor(config.hidden_size**0.5, dtype=torch.float64)
    tokens = torch.randint(0, V, (N, T))
    goldens = {"tokens": tokens}
    mask = torch.ones_like(tokens)
    if name in MASKED:
        mask[0, -5:] = 0
        mask[1, 3] = 0
        goldens["attention_mask"] = mask
    seen, hooks, layers = {}, [], blocks(model)
    parallel = name == "phi" or getattr(config, "use_parallel_residual", False)
    for i, block in enumerate(layers):
        def before(_, args, kwargs, i=i):
            seen[i] = (args, kwargs)
            x = args[0] if args else kwargs["hidden_states"]
            goldens[f"resid_pre.{i}"] = x.detach().clone()
        def behind(_, args, result, i=i):
            y = result[0] if isinstance(result, tuple) else result
            goldens[f"resid_post.{i}"] = y.detach().clone()
        hooks += [block.register_forward_pre_hook(before, with_kwargs=True), block.register_forward_hook(behind)]
        hooks += watch(block, i, config.num_attention_heads, parallel, goldens)
    with torch.no_grad():
        result = model(input_ids=tokens, attention_mask=mask, output_attentions=True, **({} if name in MASKED else {"use_cache": False}))
    for h in hooks:
        h.remove()
    for i in range(len(layers)):
        goldens[f"pattern.{i}"] = result.attentions[i]
        if parallel:
            goldens[f"resid_mid.{i}"] = goldens[f"resid_pre.{i}"] + goldens[f"attn_out.{i}"]
    if hasattr(result, "logits"):
        goldens["logits"] = result.logits
    for i, block in enumerate(layers):
        args, kwargs = seen[i]
        x = goldens[f"resid_pre.{i}"]
        def apply(x):
            if args:
                y = block(x, *args[1:], **kwargs)
            else:
                y = block(**{**kwargs, "hidden_states": x})
            return y[0] if isinstance(y, tuple) else y
        v, w = torch.randn_like(x), torch.randn_like(x)
        goldens[f"tangent.{i}"], goldens[f"cotangent.{i}"] = v, w
        goldens[f"jvp.{i}"] = torch.autograd.functional.jvp(apply, x, v)[1]
        goldens[f"vjp.{i}"] = torch.autograd.functional.vjp(apply, x, w)[1]
    save_file({k: t.detach().contiguous() for k, t in goldens.items()}, folder / "goldens.safetensors")
    print(name, {k: tuple(t.shape) for k, t in goldens.items() if k in ("tokens", "logits")}, flush=True)


lift_casts()
torch.set_default_dtype(torch.float32)
for name, config in CASES.items():
    run(name, config)
