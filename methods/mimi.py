"""MiMi: adapters that start large and lose their least important neurons, over all adapters, between training cycles.

    h = x + W_up gelu(W_down x)                                       W_down: (N_i, M_i)  W_up: (M_i, N_i)
    I_ij = (sum_k |W_down[j, k]| + sum_k |W_up[k, j]|) / (2 M_i)      importance of neuron j of adapter i (eq. 3)

Train; remove the fraction rho of all neurons whose importance is lowest, wherever they are; train on; `cycles` times.
After k removals floor(N (1 - rho)^k) of the N neurons are left. Neurons are removed physically; an adapter that loses
its last one disappears. The epochs of the protocol are divided evenly; each cycle has its own warm-up and cosine.

`sigma_target` sets the number of removals in place of `cycles`: the least C with (1 - rho)^C <= sigma / sigma_target,
where algorithm 1 ends. Eq. 2 as printed divides by log rho and takes one off: 3 for 32 -> 512, which needs 4.

Marouf, Tartaglione, Lathuiliere, "Mini but Mighty: Finetuning ViTs with Mini Adapters", WACV 2024, algorithm 1, eq. 3;
as a preprint it was called TINA. Eq. 3 as printed sums W_up to N_i and divides by N_i + M_i; a neuron has M_i weights
on either side, hence 2 M_i. The rows of its table 2 (scores are defined in methods/_importance.py):

    Random             score=random scope=local         Local L1(grad)     score=gradient scope=local
    Local (DW) L1(w)   score=down scope=local           Local GraSP, SNIP  score=grasp | snip scope=local
    Global L1(a)       score=activation                 Global I_0, I      score=unnormalised | mimi
    Local SA           scope=local: its numbers are those of TINA's "Local L1(w)"; SparseAdapter itself is a method

Rows without "iter." take iterative=false: adapters that start at sigma (1 - rho) short of the target, of which rho is
removed once, after the first phase. SNIP and GraSP, which are defined at initialisation, remove it before training.
The phases and the neurons left stay the same for all.
Ours differs: a new optimiser in every cycle, where the released code keeps its moments (the paper is silent). On a ViT
the released code never calls the adapter behind attention; ours does.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from bench.core.errors import Incompatible, UsageError
from bench.models.method import Batches, Method, Phase, Shape, omit_default
from bench.models.view import ModelView
from methods._bottleneck import Bottleneck, hidden_size
from methods._importance import adapters, importance


@dataclass(frozen=True)
class MiMi(Method):
    sigma: float = 8.0  # M / N at the start
    basis: Literal["dim", "mlp"] = "dim"
    rho: float = 0.5
    cycles: int = 2  # removals; there is one more stretch of training
    sigma_target: float | None = omit_default(None)  # instead of cycles
    score: Literal["mimi", "unnormalised", "random", "down", "gradient", "snip", "grasp", "activation"] = omit_default(
        "mimi"
    )
    scope: Literal["global", "local"] = omit_default("global")  # local: the same fraction of every adapter
    iterative: bool = omit_default(True)  # otherwise one removal, from a start that is that much smaller
    at_start: bool | None = omit_default(None)  # the one removal before training; None: with snip and grasp
    score_batches: int = omit_default(8)  # of training data, for the scores that look at it

    family = "adapters"
    paper = "Marouf et al. 2024, WACV"
    aliases = "tina"
    version = 2  # what removes once starts smaller
    identity_at_start = False

    def __post_init__(self) -> None:
        if not 0 < self.rho < 1 or self.cycles < 0 or self.sigma <= 0:
            asked = f"rho = {self.rho}, cycles = {self.cycles}, sigma = {self.sigma}"
            raise ValueError(f"{asked}: rho must lie between 0 and 1, cycles not be negative, sigma be positive")
        if self.sigma_target is not None and self.sigma_target < self.sigma:
            raise ValueError(f"sigma_target = {self.sigma_target} must be at least sigma = {self.sigma}")
        if self.score_batches < 1:
            raise ValueError(f"score_batches = {self.score_batches} must be at least 1")

    @property
    def removals(self) -> int:
        if self.sigma_target is None:
            return self.cycles
        return math.ceil(math.log(self.sigma / self.sigma_target) / math.log(1 - self.rho) - 1e-9)

    @property
    def prunes_first(self) -> bool:
        return self.score in ("snip", "grasp") if self.at_start is None else self.at_start

    @property
    def steps(self) -> int:
        """Removals that take place: all, or the last one alone."""
        return min(self.removals, 1) if self.prunes_first or not self.iterative else self.removals

    def hidden(self, dim: int, shape: Shape) -> int:
        """N of an adapter at the start."""
        return hidden_size(
            dim, self.sigma / (1 - self.rho) ** (self.removals - self.steps), self.basis, shape.mlp_ratio
        )

    def left(self, neurons: int, removals: int) -> int:
        return math.floor(neurons * (1 - self.rho) ** removals + 1e-9)

    def attach(self, net: ModelView) -> None:
        sizes = [self.hidden(block.dim, net.shape) for block in net.blocks]
        most = max(sizes) if self.scope == "local" else 2 * sum(sizes)
        if self.left(most, self.steps) == 0:
            raise Incompatible(
                f"Nothing is left of {most} neurons after {self.steps} removals. Lower cycles, rho or sigma."
            )
        for block, size in zip(net.blocks, sizes, strict=True):
            for branch in (block.attn, block.mlp):
                branch.then(Bottleneck(block.dim, size))

    def calibrate(self, net: ModelView, batches: Batches) -> None:
        if self.prunes_first:
            self.prune(net, batches, self.steps)

    def phases(self, epochs: int) -> tuple[Phase, ...]:
        stretches = self.removals + 1
        if epochs < stretches:
            raise UsageError(
                f"mimi: {epochs} epochs cannot be divided among {stretches} cycles. "
                f"Lower {'cycles' if self.sigma_target is None else 'sigma_target'}, or raise epochs."
            )
        lengths = [epochs // stretches + (k >= stretches - epochs % stretches) for k in range(stretches)]
        return tuple(Phase(n, f"cycle {k}", self._after(k)) for k, n in enumerate(lengths))

    def _after(self, stretch: int) -> Callable[[ModelView, Batches], None] | None:
        """What follows a stretch of training: the next removal, if there is one."""
        if self.prunes_first or stretch >= self.steps:
            return None
        return lambda net, batches: self.prune(net, batches, stretch + 1)

    def prune(self, net: ModelView, batches: Batches, removals: int) -> None:
        """Leaves as many neurons as there are after that many removals since the start."""
        scores = importance(self.score, net, lambda: batches(self.score_batches))
        if self.scope == "global":
            neurons = sum(2 * self.hidden(dim, net.shape) for dim in net.shape.dims)
            keep_best(net, scores, self.left(neurons, removals))
        else:
            for name, own in scores.items():
                neurons = self.hidden(net.added_modules[name].slot.d_out, net.shape)
                keep_best(net, {name: own}, self.left(neurons, removals))

    def count(self, shape: Shape) -> int | None:
        """Where neurons go before training by what data say, widths decide what is left: no closed form on a Swin."""
        sizes = [(dim, 2 * self.hidden(dim, shape)) for dim in shape.dims]
        if self.prunes_first and self.scope == "local":
            sizes = [(dim, 2 * self.left(n // 2, self.steps)) for dim, n in sizes]
        elif self.prunes_first:
            if len(shape.stages) > 1:
                return None
            sizes = [(shape.dims[0], self.left(sum(n for _, n in sizes), self.steps))]
        return sum(2 * dim * n for dim, n in sizes)

    def count_deployed(self, shape: Shape) -> tuple[int, int]:
        """Which neurons go decides, unless all adapters are of one width or each loses the same fraction."""
        sizes = [(dim, self.hidden(dim, shape)) for dim in sorted(shape.dims) for _ in range(2)]
        if self.scope == "local":
            count = sum(2 * dim * self.left(n, self.steps) for dim, n in sizes)
            return count, count
        left = self.left(sum(n for _, n in sizes), self.steps)
        neurons = [dim for dim, n in sizes for _ in range(n)]  # of each its width
        return 2 * sum(neurons[:left]), 2 * sum(neurons[len(neurons) - left :])

    def sizes(self, net: ModelView) -> dict[str, int]:
        """Neurons left in every adapter, 0 where it has disappeared."""
        left = dict.fromkeys((b.exit.label for block in net.blocks for b in (block.attn, block.mlp)), 0)
        return left | {net.added_modules[name].slot.label: adapter.hidden for name, adapter in adapters(net).items()}

    def reshape(self, net: ModelView, tensors: Mapping[str, Tensor]) -> None:
        for name in adapters(net):
            net.detach(name)
        self.attach(net)  # anew: what this one lost before training, the stored one may have kept
        for name, adapter in adapters(net).items():
            weight = tensors.get(f"pet.{name}.down.weight")
            if weight is None:
                net.detach(name)
            else:
                adapter.keep(torch.arange(len(weight)))


def keep_best(net: ModelView, scores: Mapping[str, Tensor], count: int) -> None:
    """Removes all but the `count` most important neurons of the adapters that have scores here."""
    if not scores:
        return
    places = [(name, neuron) for name, own in scores.items() for neuron in range(len(own))]
    kept: dict[str, list[int]] = {name: [] for name in scores}
    for index in torch.cat(list(scores.values())).argsort(descending=True, stable=True)[:count].tolist():
        name, neuron = places[index]
        kept[name].append(neuron)
    for name, neurons in kept.items():
        if neurons:
            adapter = adapters(net)[name]
            adapter.keep(torch.tensor(sorted(neurons), device=adapter.down.weight.device))
        else:
            net.detach(name)
