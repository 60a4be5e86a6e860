"""MiMi: adapters that start large and lose their least important neurons, over all adapters, between training cycles.

    h = x + W_up gelu(W_down x)                                       W_down: (N_i, M_i)  W_up: (M_i, N_i)
    I_ij = (sum_k |W_down[j, k]| + sum_k |W_up[k, j]|) / (2 M_i)      importance of neuron j of adapter i (eq. 3)

Train; remove the fraction rho of all neurons whose importance is lowest, wherever they are; train on; `cycles` times.
After k removals floor(N (1 - rho)^k) of the N neurons are left. Neurons are removed physically; an adapter that loses
its last one disappears. The epochs of the protocol are divided evenly; each cycle has its own warm-up, cosine and
optimiser.

Marouf, Tartaglione, Lathuiliere, "Mini but Mighty: Finetuning ViTs with Mini Adapters", WACV 2024, algorithm 1, eq. 3.
Eq. 3 as printed sums W_up to N_i and divides by N_i + M_i; a neuron has M_i weights on either side, hence 2 M_i.
Ours differs: `cycles` is given, not derived from a target by eq. 2, which is off by one for its own example.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.anatomy import Anatomy
from bench.errors import UsageError
from bench.method import Method, Phase, Shape
from methods._bottleneck import Bottleneck, hidden_size


@dataclass(frozen=True)
class MiMi(Method):
    sigma: float = 8.0  # M / N at the start
    basis: Literal["dim", "mlp"] = "dim"
    rho: float = 0.5
    cycles: int = 2  # removals; there is one more stretch of training

    family = "adapters"
    paper = "Marouf et al. 2024, WACV"
    identity_at_start = False

    def __post_init__(self) -> None:
        if not 0 < self.rho < 1 or self.cycles < 0 or self.sigma <= 0:
            asked = f"rho = {self.rho}, cycles = {self.cycles}, sigma = {self.sigma}"
            raise ValueError(f"{asked}: rho must lie between 0 and 1, cycles not be negative, sigma be positive")

    def attach(self, net: Anatomy) -> None:
        for block in net.blocks:
            size = hidden_size(block.dim, self.sigma, self.basis, block.linear["fc1"].d_out / block.dim)
            for branch in (block.attn, block.mlp):
                branch.then(Bottleneck(block.dim, size))

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        stretches = self.cycles + 1
        if epochs < stretches:
            raise UsageError(
                f"mimi: {epochs} epochs cannot be divided among {stretches} cycles. Lower cycles, or raise epochs."
            )
        lengths = [epochs // stretches + (k >= stretches - epochs % stretches) for k in range(stretches)]
        total: list[int] = []  # neurons before the first removal, known once the adapters are there

        def prune(net: Anatomy, k: int) -> None:
            if not total:
                total.append(len(importance(net)[0]))
            keep_best(net, math.floor(total[0] * (1 - self.rho) ** k + 1e-9))

        last = len(lengths) - 1
        return tuple(
            Phase(n, f"cycle {k}", None if k == last else lambda net, _, k=k: prune(net, k + 1))  # type: ignore[misc]
            for k, n in enumerate(lengths)
        )

    def count(self, shape: Shape) -> int:
        return sum(4 * dim * hidden_size(dim, self.sigma, self.basis, shape.mlp_ratio) for dim in shape.dims)

    def sizes(self, net: Anatomy) -> dict[str, int]:
        """Neurons left in every adapter, 0 where it has disappeared."""
        left = dict.fromkeys((b.exit.label for block in net.blocks for b in (block.attn, block.mlp)), 0)
        return left | {net.adopted[name][1].label: adapter.hidden for name, adapter in adapters(net).items()}

    def reshape(self, net: Anatomy, tensors: Mapping[str, Tensor]) -> None:
        for name, adapter in list(adapters(net).items()):
            weight = tensors.get(f"pet.{name}.down.weight")
            if weight is None:
                net.detach(name)
            else:
                adapter.keep(torch.arange(len(weight)))


def adapters(net: Anatomy) -> dict[str, Bottleneck]:
    return {name: module for name, module in net.pet.items() if isinstance(module, Bottleneck)}


def importance(net: Anatomy) -> tuple[Tensor, list[tuple[str, int]]]:
    """I of every neuron of every adapter (eq. 3), and for each the adapter's name and the neuron's index."""
    scores = [
        (m.down.weight.abs().sum(1) + m.up.weight.abs().sum(0)) / (2 * m.down.in_features)
        for m in adapters(net).values()
    ]
    places = [(name, j) for name, m in adapters(net).items() for j in range(m.hidden)]
    return torch.cat(scores).detach().cpu() if scores else torch.empty(0), places


def keep_best(net: Anatomy, count: int) -> None:
    """Removes all but the `count` most important neurons of the whole network."""
    scores, places = importance(net)
    kept: dict[str, list[int]] = {name: [] for name in adapters(net)}
    for index in scores.argsort(descending=True, stable=True)[:count].tolist():
        name, neuron = places[index]
        kept[name].append(neuron)
    for name, neurons in kept.items():
        if neurons:
            adapter = adapters(net)[name]
            adapter.keep(torch.tensor(sorted(neurons), device=adapter.down.weight.device))
        else:
            net.detach(name)
