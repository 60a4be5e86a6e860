"""Every method against its equations on a ViT in plain tensors, LoRA also against Hugging Face's PEFT: logits, gradients.

    PYTHONPATH=tests python tests/methods/test_parity.py

prints the table: method, source, largest difference of the logits and of the gradients of everything that the method
trains (as parts of the largest one), how the start was compared, verdict. Every weight is random, in float64; the
gradients are those of the sum of squared logits.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any

import pytest
import torch
from helpers.views import random_view
from torch import Tensor
from torch.nn import functional as F

from bench.models import registry
from bench.models.method import Method, attach, build
from bench.models.view import ModelView

IMAGES = torch.randn(3, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(7))
EQUATION, PEFT = "its equations, plain tensors", "Hugging Face PEFT"
WITHIN = 1e-9  # of the largest logit, or gradient
bare = cache(random_view)


class Plain:
    """timm's ViT in plain tensors. `P` holds a method's tensors by the names they have under `pet`; what a method adds
    is what a subclass overrides."""

    def __init__(self, P: Mapping[str, Tensor], method: Any) -> None:
        self.model: Any = bare("pocket_vit").model
        self.P, self.m = P, method

    def has(self, i: int, place: str) -> bool:
        return any(name.startswith(f"blocks_{i}_{place}.") for name in self.P)

    def of(self, i: int, place: str) -> Callable[[str], Tensor]:
        return lambda name: self.P[f"blocks_{i}_{place}.{name}"]

    def affine(self, i: int, place: str, name: str, x: Tensor) -> Tensor:
        get = self.of(i, place)
        return x @ get(f"{name}.weight").T + (get(f"{name}.bias") if f"blocks_{i}_{place}.{name}.bias" in self.P else 0)

    def frozen(self, i: int, name: str) -> tuple[Tensor, Tensor]:
        block = self.model.blocks[i]
        layer = {"qkv": block.attn.qkv, "proj": block.attn.proj, "fc1": block.mlp.fc1, "fc2": block.mlp.fc2}[name]
        return layer.weight.detach(), layer.bias.detach()

    def third(self, i: int, name: str, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Weight and bias of q, k or v with what the method does to it."""
        return self.change(i, f"attn_{name}", W, b)

    def change(self, i: int, place: str, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return W, b

    def weight(self, i: int, name: str) -> tuple[Tensor, Tensor]:
        W, b = self.frozen(i, name)
        if name == "qkv":
            parts = [self.third(i, t, *part) for t, *part in zip("qkv", W.chunk(3), b.chunk(3), strict=True)]
            W, b = (torch.cat(each) for each in zip(*parts, strict=True))
        return self.change(i, f"attn_{name}" if name in ("qkv", "proj") else f"mlp_{name}", W, b)

    def linear(self, i: int, name: str, x: Tensor) -> Tensor:
        W, b = self.weight(i, name)
        return x @ W.T + b

    def reads(self, i: int, place: str, n: Tensor) -> Tensor:
        return n

    def norm(self, i: int, which: int, x: Tensor) -> Tensor:
        return getattr(self.model.blocks[i], f"norm{which}")(x)  # type: ignore[no-any-return]

    def logit_bias(self, i: int) -> Tensor | float:
        return 0.0

    def values(self, i: int, mixed: Tensor, v: Tensor) -> Tensor:
        return mixed

    def attend(self, i: int, n: Tensor, tokens: Tensor) -> Tensor:
        W, b = self.weight(i, "qkv")
        (Wq, Wk, Wv), (bq, bk, bv) = W.chunk(3), b.chunk(3)
        q, k, v = n @ Wq.T + bq, tokens @ Wk.T + bk, tokens @ Wv.T + bv
        heads = self.model.blocks[i].attn.num_heads
        q, k, w = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in (q, k, v))
        mixed = (q @ k.mT / q.shape[-1] ** 0.5 + self.logit_bias(i)).softmax(-1) @ w
        return self.linear(i, "proj", self.values(i, mixed.transpose(1, 2).flatten(2), v))

    def mlp(self, i: int, n: Tensor) -> Tensor:
        return self.linear(i, "fc2", F.gelu(self.linear(i, "fc1", self.reads(i, "mlp_fc1", n))))

    def branch(self, i: int, place: str, o: Tensor, n: Tensor, x: Tensor) -> Tensor:
        return o

    def summed(self, i: int, place: str, z: Tensor) -> Tensor:
        return z

    def enter(self, i: int, x: Tensor) -> Tensor:
        return x

    def leave(self, i: int, x: Tensor, out: Tensor) -> Tensor:
        return out

    def patches(self, images: Tensor) -> Tensor:
        return self.model.patch_embed(images)  # type: ignore[no-any-return]

    def last(self, x: Tensor) -> Tensor:
        return self.model.norm(x)  # type: ignore[no-any-return]

    def head(self, f: Tensor) -> Tensor:
        return f @ self.model.head.weight.detach().T + self.model.head.bias.detach()

    def __call__(self, images: Tensor) -> Tensor:
        x = self.model._pos_embed(self.patches(images))
        for i in range(len(self.model.blocks)):
            x = self.enter(i, x)
            n = self.norm(i, 1, x)
            r = self.reads(i, "attn_qkv", n)
            z = self.summed(i, "attn", x + self.branch(i, "attn", self.attend(i, r, r), n, x))
            n = self.norm(i, 2, z)
            out = self.summed(i, "mlp", z + self.branch(i, "mlp", self.mlp(i, n), n, z))
            x = self.leave(i, x, out)
        return self.head(self.last(x)[:, 0])


# updates of weights ---------------------------------------------------------------------------------------------------


class LoRA(Plain):
    def change(self, i: int, place: str, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if self.has(i, place):
            W = W + self.m.alpha / self.m.rank * self.of(i, place)("B") @ self.of(i, place)("A")
        return W, b


class KAdaptation(Plain):
    def change(self, i: int, place: str, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if not self.has(i, place):
            return W, b
        slow = [self.P[f"blocks_0_{place}.slow.{k}"] for k in (0, 1)]
        pairs = zip(*slow, self.of(i, place)("u"), self.of(i, place)("v"), strict=True)
        return W + self.m.scale * sum(torch.kron(a @ c, u @ v) for a, c, u, v in pairs), b + self.of(i, "attn_q")(
            "bias"
        )


class KARST(Plain):
    def change(self, i: int, place: str, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if not self.has(i, place):
            return W, b
        get, scale = self.of(i, place), self.of(i, f"{place}x")
        dW = sum(torch.kron(get(f"{k}.C"), get(f"{k}.A") @ get(f"{k}.B")) for k in range(4))
        return (1 + scale("s1"))[:, None] * (W + dW), (1 + scale("s1")) * b + scale("s2")


class Sliced(Plain):
    """Updates made of M x M slices."""

    def slices(self, i: int, place: str, rows: int, columns: int) -> list[list[Tensor]]:
        raise NotImplementedError

    def change(self, i: int, place: str, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if not self.has(i, place):
            return W, b
        slices = self.slices(i, place, W.shape[0] // 128, W.shape[1] // 128)
        return W + self.m.scale * torch.cat([torch.cat(row, 1) for row in slices]), b


class FacTTT(Sliced):
    def slices(self, i: int, place: str, rows: int, columns: int) -> list[list[Tensor]]:
        U, V = (self.P[f"blocks_0_attn_qkv.{letter}"] for letter in "UV")
        cores = [part.chunk(columns, 1) for part in self.of(i, place)("sigma").chunk(rows)]
        return [[V @ core @ U for core in row] for row in cores]


class FacTTK(Sliced):
    def slices(self, i: int, place: str, rows: int, columns: int) -> list[list[Tensor]]:
        U, V, C = (self.P[f"blocks_0_attn_qkv.{letter}"] for letter in "UVC")
        P = self.of(i, place)("P")
        core = [[sum(p * c for p, c in zip(P[r, k], C, strict=True)) for k in range(columns)] for r in range(rows)]
        return [[V @ each @ U for each in row] for row in core]


class CaRA(Sliced):
    def slices(self, i: int, place: str, rows: int, columns: int) -> list[list[Tensor]]:
        p = self.of(i, place)("p")
        if place == "attn_qkv":
            u, h, e = (self.P[f"blocks_0_attn_qkv.{letter}"] for letter in "uhe")
            return [[torch.einsum("r,rm,hr,er->hem", each, u, h, e).flatten(0, 1)] for each in p]
        U, V = (self.P[f"blocks_0_attn_proj.{letter}"] for letter in "UV")
        return [[V @ p[r, k].diag() @ U for k in range(columns)] for r in range(rows)]


class Selected(Plain):
    """GPS: places in a row; SPT: places in the whole matrix."""

    def change(self, i: int, place: str, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if not self.has(i, place):
            return W, b
        values, index = self.of(i, place)("values"), self.of(i, place)("index").long()
        rows = torch.arange(len(W))[:, None].expand_as(index) if index.ndim == 2 else index // W.shape[1]
        places = (rows.flatten(), (index % W.shape[1]).flatten())
        return W + torch.zeros_like(W).index_put(places, values.flatten()), b


class SSF(Plain):
    def scaled(self, name: str, y: Tensor) -> Tensor:
        return self.P[f"{name}.gamma"] * y + self.P[f"{name}.beta"]

    def change(self, i: int, place: str, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if not self.has(i, place):
            return W, b
        gamma = self.of(i, place)("gamma")
        return gamma[:, None] * W, gamma * b + self.of(i, place)("beta")

    def norm(self, i: int, which: int, x: Tensor) -> Tensor:
        return self.scaled(f"blocks_{i}_norm{which}", super().norm(i, which, x))

    def patches(self, images: Tensor) -> Tensor:
        return self.scaled("patch_embed_proj", super().patches(images))

    def last(self, x: Tensor) -> Tensor:
        return self.scaled("norm", super().last(x))


class RLRR(SSF):
    def change(self, i: int, place: str, W: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        if not self.has(i, place):
            return W, b
        l, c, t = (self.of(i, place)(letter) for letter in "lct")  # noqa: E741
        return W * (1 + l @ c), b + t


class ARC(Plain):
    def reads(self, i: int, place: str, n: Tensor) -> Tensor:
        U, get = self.P[f"blocks_0_{place}.U"], self.of(i, place)
        return n + n @ U @ get("c").diag() @ U.T + get("b")


class RepAdapter(Plain):
    def reads(self, i: int, place: str, n: Tensor) -> Tensor:
        up = torch.block_diag(*self.of(i, place)("B"))
        return n + self.m.scale * (self.affine(i, place, "A", n) @ up.T + self.of(i, place)("b"))


class Hydra(Plain):
    def linear(self, i: int, name: str, x: Tensor) -> Tensor:
        y = super().linear(i, name, x)
        if name not in ("proj", "fc2"):
            return y
        place = f"attn_{name}" if name == "proj" else f"mlp_{name}"
        behind, beside = (
            self.affine(i, at, "B", self.affine(i, at, "A", read)) for at, read in ((place, y), (f"{place}x", x))
        )
        return y + behind + beside


# modules beside or behind branches ------------------------------------------------------------------------------------


class Adapters(Plain):
    def adapter(self, i: int, place: str, x: Tensor) -> Tensor:
        return x + self.affine(i, place, "up", F.gelu(self.affine(i, place, "down", x)))

    def branch(self, i: int, place: str, o: Tensor, n: Tensor, x: Tensor) -> Tensor:
        return self.adapter(i, place, o) if self.has(i, place) else o


class SparseAdapter(Adapters):
    def adapter(self, i: int, place: str, x: Tensor) -> Tensor:
        get = self.of(i, place)
        down, up = (
            torch.zeros(mask.shape, dtype=x.dtype).masked_scatter(mask, get(f"{side}.values"))
            for side in ("down", "up")
            for mask in [get(f"{side}.mask")]
        )
        return x + F.gelu(x @ down.T) @ up.T


class PHM(Adapters):
    def product(self, i: int, place: str, side: str) -> Tensor:
        get = self.of(i, place)
        return sum(torch.kron(A, B) for A, B in zip(get(f"{side}.A"), get(f"{side}.B"), strict=True))  # type: ignore[return-value]

    def adapter(self, i: int, place: str, x: Tensor) -> Tensor:
        get = self.of(i, place)
        hidden = F.gelu(x @ self.product(i, place, "down").T + get("down.b"))
        return x + hidden @ self.product(i, place, "up").T + get("up.b")


class Compacter(PHM):
    def product(self, i: int, place: str, side: str) -> Tensor:
        get, rule = self.of(i, place), self.P["blocks_0_attn.down.A"]
        parts = zip(rule, get(f"{side}.s"), get(f"{side}.t"), strict=True)
        return sum(torch.kron(A, s @ t) for A, s, t in parts)  # type: ignore[return-value]


class AdapterPlus(Plain):
    def summed(self, i: int, place: str, z: Tensor) -> Tensor:
        if place == "attn":
            return z
        return z + self.of(i, "mlp")("gamma") * self.affine(i, "mlp", "up", F.gelu(self.affine(i, "mlp", "down", z)))


class Parallel(Plain):
    stream = False

    def branch(self, i: int, place: str, o: Tensor, n: Tensor, x: Tensor) -> Tensor:
        if place == "attn":
            return o
        hidden = self.affine(i, "mlp", "down", x if self.stream else n).relu()
        return o + self.m.scale * self.affine(i, "mlp", "up", hidden)


class AdaptFormer(Parallel):
    stream = True


class BiAdaptFormer(Plain):
    def two_valued(self, W: Tensor) -> Tensor:
        plain = W.detach()
        mean, std = plain.mean(), plain.std(correction=0)
        return torch.where(plain >= mean, mean + 0.6745 * std, mean - 0.6745 * std)

    def branch(self, i: int, place: str, o: Tensor, n: Tensor, x: Tensor) -> Tensor:
        if place == "attn":
            return o
        down, up = (W + (self.two_valued(W) - W).detach() for W in map(self.of(i, "mlp"), ("down.W", "up.W")))
        return o + self.m.scale * (x @ down.T).relu() @ up.T


class OnTheGrid(Plain):
    def convolved(self, x: Tensor, conv: Callable[[Tensor], Tensor], token: Callable[[Tensor], Tensor]) -> Tensor:
        picture = conv(x[:, 1:].mT.unflatten(2, (8, 8)))
        return torch.cat((token(x[:, :1]), picture.flatten(2).mT), 1)


class Convpass(OnTheGrid):
    def branch(self, i: int, place: str, o: Tensor, n: Tensor, x: Tensor) -> Tensor:
        kernel, bias = self.of(i, place)("conv.weight"), self.of(i, place)("conv.bias")
        hidden = quick(self.affine(i, place, "down", n))
        hidden = self.convolved(
            hidden, lambda y: F.conv2d(y, kernel, bias, padding=1), lambda t: t @ kernel[:, :, 1, 1].T + bias
        )
        return o + self.m.scale * self.affine(i, place, "up", quick(hidden))


def quick(x: Tensor) -> Tensor:
    return x / (1 + torch.exp(-1.702 * x))


class Mona(OnTheGrid):
    def summed(self, i: int, place: str, z: Tensor) -> Tensor:
        get = self.of(i, place)

        def filtered(y: Tensor) -> Tensor:
            kernels = [(get(f"c.w.{k}.weight"), get(f"c.w.{k}.bias")) for k in range(3)]
            mixed = y + sum(F.conv2d(y, w, b, padding=w.shape[-1] // 2, groups=len(w)) for w, b in kernels) / 3
            return mixed + F.conv2d(mixed, get("c.P.weight"), get("c.P.bias"))

        n = F.layer_norm(z, z.shape[-1:], get("norm.weight"), get("norm.bias"))
        a = self.affine(i, place, "D", get("s1") * n + get("s2") * z)
        a = self.convolved(a, filtered, lambda t: filtered(t.mT[..., None])[..., 0].mT)
        return z + self.affine(i, place, "U", F.gelu(a))


class SCT(Plain):
    def summed(self, i: int, place: str, z: Tensor) -> Tensor:
        if place == "mlp":
            return z
        index = self.of(i, "attn")("index")
        return z.index_add(-1, index, self.m.scale * self.affine(i, "attn", "map", z[..., index]))


# tokens, attention, paths of their own --------------------------------------------------------------------------------


class VPT(Plain):
    def enter(self, i: int, x: Tensor) -> Tensor:
        P = self.P.get(f"prompts_{i}.tokens")
        if P is None:
            return x
        there = self.m.prompts if i else 0
        return torch.cat((x[:, :1], P.expand(len(x), -1, -1), x[:, 1 + there :]), 1)


class CVPT(Plain):
    def summed(self, i: int, place: str, z: Tensor) -> Tensor:
        if place == "mlp":
            return z
        return z + self.attend(i, self.norm(i, 1, z), self.of(i, "attn")("P.tokens").expand(len(z), -1, -1))


class VQT(Plain):
    def enter(self, i: int, x: Tensor) -> Tensor:
        self.summaries = [] if i == 0 else self.summaries
        Q = self.P[f"head.Q.{i}.tokens"].expand(len(x), -1, -1)
        z = Q + self.attend(i, self.norm(i, 1, Q), self.norm(i, 1, x))
        self.summaries.append((z + self.mlp(i, self.norm(i, 2, z))).flatten(1))
        return x

    def head(self, f: Tensor) -> Tensor:
        return super().head(f) + torch.cat(self.summaries, 1) @ self.P["head.W.weight"].T


class RPB(Plain):
    def logit_bias(self, i: int) -> Tensor | float:
        if not self.has(i, "attn"):
            return 0.0
        place = torch.arange(64)
        rows, columns = (each[:, None] - each[None] + 7 for each in (place // 8, place % 8))
        return F.pad(self.of(i, "attn")("table")[:, rows, columns], (1, 0, 1, 0))


class LePE(OnTheGrid):
    def values(self, i: int, mixed: Tensor, v: Tensor) -> Tensor:
        if not self.has(i, "attn_v"):
            return mixed
        kernel, bias = self.of(i, "attn_v")("conv.weight"), self.of(i, "attn_v")("conv.bias")
        return mixed + self.convolved(
            v, lambda y: F.conv2d(y, kernel, bias, padding=1, groups=128), lambda t: torch.zeros_like(t)
        )


class DTL(Plain):
    def leave(self, i: int, x: Tensor, out: Tensor) -> Tensor:
        h = x @ self.P[f"blocks_{i}.A"].T @ self.P[f"blocks_{i}.C"].T
        self.h = h if i == 0 else self.h + h
        return out + (self.h * torch.sigmoid(self.m.beta * self.h) if i >= 3 else 0)


def transformer(P: Mapping[str, Tensor], at: str, x: Tensor, heads: int) -> Tensor:
    """A pre-norm block whose tensors have names that begin so."""
    get = lambda name: P[f"{at}{name}"]  # noqa: E731

    def affine(name: str, y: Tensor) -> Tensor:
        return y @ get(f"{name}.weight").T + get(f"{name}.bias")

    def norm(name: str, y: Tensor) -> Tensor:
        return F.layer_norm(y, y.shape[-1:], get(f"{name}.weight"), get(f"{name}.bias"), 1e-6)

    q, k, v = (each.unflatten(-1, (heads, -1)).transpose(1, 2) for each in affine("qkv", norm("norm1", x)).chunk(3, -1))
    x = x + affine("proj", ((q @ k.mT / q.shape[-1] ** 0.5).softmax(-1) @ v).transpose(1, 2).flatten(2))
    return x + affine("fc2", F.gelu(affine("fc1", norm("norm2", x))))


class TransformerProbe(Plain):
    def leave(self, i: int, x: Tensor, out: Tensor) -> Tensor:
        return transformer(self.P, "blocks_5.", out, 4) if i == 5 else out


class LST(Plain):
    def down(self, i: int, h: Tensor) -> Tensor:
        return h @ self.P[f"head.down.{i}.weight"].T + self.P[f"head.down.{i}.bias"]

    def leave(self, i: int, x: Tensor, out: Tensor) -> Tensor:
        g = self.down(0, x) if i == 0 else self.g
        mu = 1 / (1 + torch.exp(-self.P["head.a"][i] / self.m.temperature))
        self.g = transformer(self.P, f"head.blocks.{i}.", mu * g + (1 - mu) * self.down(i + 1, out), 4)
        return out

    def head(self, f: Tensor) -> Tensor:
        g = F.layer_norm(self.g[:, 0], (16,), self.P["head.norm.weight"], self.P["head.norm.bias"])
        return super().head(g @ self.P["head.up.weight"].T + self.P["head.up.bias"])


ORACLES: dict[str, type[Plain]] = {
    **dict.fromkeys(("lora", "lora_plus", "lora_fix"), LoRA),
    **{"kadaptation": KAdaptation, "karst": KARST, "fact_tt": FacTTT, "fact_tk": FacTTK, "cara": CaRA},
    **{
        "gps": Selected,
        "spt": Selected,
        "spt_adapter": Selected,
        "ssf": SSF,
        "rlrr": RLRR,
        "arc": ARC,
        "repadapter": RepAdapter,
        "hydra": Hydra,
    },
    **dict.fromkeys(("adapters", "adapters_on_attention", "adapter_drop", "mimi"), Adapters),
    **{"sparse_adapter": SparseAdapter, "phm_adapter": PHM, "compacter": Compacter, "adapter_plus": AdapterPlus},
    **{"parallel_adapters": Parallel, "adaptformer": AdaptFormer, "bi_adaptformer": BiAdaptFormer},
    **{"convpass": Convpass, "mona": Mona, "sct": SCT, "dtl": DTL},
    **dict.fromkeys(("vpt_shallow", "vpt_deep", "da_vpt"), VPT),
    **{"cvpt": CVPT, "vqt": VQT, "rpb": RPB, "lepe": LePE, "transformer_probe": TransformerProbe, "lst": LST},
}
# in place: the backbone's own parameters train, and there is no equation beside the backbone's
IN_PLACE = {"att_blocks", "bitfit", "full", "linear_probe", "ln_tuning", "mlp_blocks"}
ELSEWHERE = {"intrinsic": "its matrices written out, tests/methods/test_intrinsic.py"}


def make(name: str, **settings: object) -> Method:
    return build(registry.load(name), settings, name)


def attached(method: Method) -> ModelView:
    net = copy.deepcopy(bare("pocket_vit"))
    attach(method, net)
    chance = torch.Generator().manual_seed(11)
    with torch.no_grad():
        for parameter in net.pet.parameters():
            drawn = torch.randn(parameter.shape, dtype=parameter.dtype, generator=chance)
            parameter.copy_(drawn / parameter.shape[-1] ** 0.5)
    net.model.eval()
    return net


def largest(found: list[Tensor], expected: list[Tensor]) -> float:
    """The largest difference, as a part of the largest number."""
    size = max(float(e.abs().max()) for e in expected)
    return max(float((f - e).abs().max()) for f, e in zip(found, expected, strict=True)) / size


def differences(name: str) -> tuple[float, float]:
    """Of the logits and of the gradients, from those of the plain tensors."""
    method = make(name)
    net = attached(method)
    own = dict(net.pet.named_parameters())
    leaves = {key: p.detach().clone().requires_grad_() for key, p in own.items()}
    out = net.model(IMAGES)
    expected = ORACLES[name](leaves | dict(net.pet.named_buffers()), method)(IMAGES)
    gradients = torch.autograd.grad(out.square().sum(), list(own.values()), allow_unused=True)
    others = torch.autograd.grad(expected.square().sum(), list(leaves.values()), allow_unused=True)
    assert [g is None for g in gradients] == [g is None for g in others]
    assert any(g is not None and bool(g.any()) for g in others)
    pairs = [(f, e) for f, e in zip(gradients, others, strict=True) if f is not None and e is not None]
    return largest([out.detach()], [expected.detach()]), largest([f for f, _ in pairs], [e for _, e in pairs])


@pytest.mark.parametrize("name", ORACLES)
def test_logits_and_gradients_are_those_of_the_equations(name: str) -> None:
    assert max(differences(name)) < WITHIN


def test_every_method_is_compared_or_said_not_to_be() -> None:
    assert set(ORACLES) | IN_PLACE | set(ELSEWHERE) == set(registry.entries())


# Hugging Face's PEFT --------------------------------------------------------------------------------------------------

OF_PEFT: dict[str, tuple[dict[str, object], dict[str, object]]] = {  # settings of ours, and of theirs
    "lora": ({}, {}),
    "lora scale=rslora": ({"scale": "rslora"}, {"use_rslora": True}),
    "lora magnitude=true": ({"magnitude": True}, {"use_dora": True}),
    "lora start=pissa": ({"start": "pissa"}, {"init_lora_weights": "pissa"}),
}


def peft_model(name: str) -> Any:
    """A pocket ViT with PEFT's adapters of a row."""
    peft = pytest.importorskip("peft")
    asked = peft.LoraConfig(r=4, lora_alpha=6, target_modules=["qkv", "fc1"], **OF_PEFT[name][1])
    return peft.get_peft_model(random_view("pocket_vit").model.float(), asked).double()


def peft_layers(net: ModelView, theirs: Any) -> Iterator[tuple[str, Any, Any, Any]]:
    """Of every adapted linear: our label, our module, the low-rank update in it, and PEFT's layer."""
    for block in net.blocks:
        for target, path in (("qkv", "attn.qkv"), ("fc1", "mlp.fc1")):
            label = block.linear[target].label.replace(".", "_")
            module: Any = net.pet[label]
            layer = theirs.base_model.model.get_submodule(f"{block.path}.{path}")
            yield label, module, getattr(module, "update", module), layer


def from_peft(name: str) -> tuple[float, float]:
    """Of the logits and of the gradients, from those of PEFT with the same weights. PiSSA keeps its own start: there
    the layers of the two hold the same product, cut from the weight by a singular value decomposition in float32."""
    settings, theirs = OF_PEFT[name][0], peft_model(name)
    net = attached(make("lora", rank=4, alpha=6.0, targets=("qkv", "fc1"), **settings))
    net.model.float().double()  # PEFT takes a backbone in float32
    pairs, chance = list[tuple[Tensor, Tensor]](), torch.Generator().manual_seed(3)
    for label, module, update, layer in peft_layers(net, theirs):
        own = [(update.A, layer.lora_A["default"].weight), (update.B, layer.lora_B["default"].weight)]
        if "magnitude" in settings:
            extra: Any = net.pet[f"{label}x"]
            own.append((extra.m, layer.lora_magnitude_vector["default"].weight))
        with torch.no_grad():
            if name == "lora start=pissa":
                module.A0.copy_(own[0][1])
                module.B0.copy_(own[1][1])
            for mine, other in own:
                moved = 0.1 if name == "lora start=pissa" else 1.0  # away from where both started
                drawn = torch.rand(other.shape, dtype=other.dtype, generator=chance) + 0.5
                other.copy_(other * (1 - moved) + moved * drawn)
                mine.copy_(other)
        pairs += own
    out = [model(IMAGES) for model in (net.model, theirs)]
    found = [torch.autograd.grad(each.square().sum(), [p[k] for p in pairs]) for k, each in enumerate(out)]
    return largest([out[0].detach()], [out[1].detach()]), largest(list(found[0]), list(found[1]))


@pytest.mark.parametrize("name", OF_PEFT)
def test_logits_and_gradients_are_those_of_hugging_face(name: str) -> None:
    assert max(from_peft(name)) < (1e-5 if "pissa" in name else WITHIN)  # its decomposition is one of float32


def start_of_peft(name: str) -> float:
    """The largest difference of what has no chance in it at the start: B, magnitudes, the product that PiSSA cuts off.
    A is uniform within the same bound, and the logits are the backbone's."""
    settings, theirs = OF_PEFT[name][0], peft_model(name)
    net = copy.deepcopy(bare("pocket_vit"))
    attach(make("lora", rank=4, alpha=6.0, targets=("qkv", "fc1"), **settings), net)
    found = [
        largest([model(IMAGES).detach()], [bare("pocket_vit").model(IMAGES).detach()]) for model in (net.model, theirs)
    ]
    for label, _, update, layer in peft_layers(net, theirs):
        A, B = layer.lora_A["default"].weight.detach(), layer.lora_B["default"].weight.detach()
        if name == "lora start=pissa":
            found.append(largest([(update.B @ update.A).detach()], [B @ A]))
            continue
        assert not B.any() and not update.B.any()
        for each in (A, update.A.detach()):
            assert 0.95 * 128**-0.5 < float(each.abs().max()) <= 128**-0.5 * (1 + 1e-6)
        if "magnitude" in settings:
            extra: Any = net.pet[f"{label}x"]
            found.append(largest([extra.m.detach()], [layer.lora_magnitude_vector["default"].weight.detach()]))
    return max(found)


@pytest.mark.parametrize("name", OF_PEFT)
def test_the_start_is_that_of_hugging_face(name: str) -> None:
    assert start_of_peft(name) < 1e-5  # it computes norms and decompositions in float32


def table() -> str:
    lines = [
        "| method | compared with | logits | gradients | start compared | verdict |",
        "|---|---|---:|---:|---|---|",
    ]
    start = "the paper's distributions, test_starts.py"
    for name, measured, source in [
        *((name, from_peft(name), PEFT) for name in OF_PEFT),
        *((name, differences(name), EQUATION) for name in ORACLES),
    ]:
        verdict = "same" if max(measured) < WITHIN else "same to float32" if "pissa" in name else "DIFFERS"
        told = f"PEFT's, to {start_of_peft(name):.0e}; A by its bound" if source == PEFT else start
        lines.append(f"| {name} | {source} | {measured[0]:.0e} | {measured[1]:.0e} | {told} | {verdict} |")
    lines += [f"| {name} | {where} | - | - | {start} | see there |" for name, where in ELSEWHERE.items()]
    lines += [
        f"| {name} | trained in place: no equation of its own | - | - | the backbone | - |" for name in sorted(IN_PLACE)
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
