"""How much each hidden neuron of each adapter matters, by the measures that pruning knows; the highest stay.

Neuron j of an adapter of width M has 2 M weights w: row j of W_down and column j of W_up. L is the mean cross-entropy
of the images looked at, g its gradient, H its Hessian, both with respect to the weights of all adapters.

    mimi          mean |w|, which is I        Marouf et al. 2024, eq. 3
    unnormalised  sum |w|, which is I_0       ibid., section 4.2
    down          mean |w| over the row of W_down alone
    gradient      mean |g|
    snip          mean |g w|                  Lee et al. 2019, arXiv 1810.02340: connection sensitivity
    grasp         mean w (H g)                Wang et al. 2020, arXiv 2002.07376: without w, |g|^2 falls by 2 w (H g)
    activation    mean |gelu(W_down x)_j| over images and tokens
    random        uniform in [0, 1)

Means, so that adapters of different widths compare. SNIP and GraSP score weights; a neuron's score is their mean. No
score leaves a gradient behind, and none is affected by one: training state stays as it was.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from bench.models.view import ModelView
from methods._bottleneck import Bottleneck

Look = Callable[[], Iterator[tuple[Tensor, Tensor]]]
"""The batches of images and labels to look at, from the first one at every call."""
Scores = dict[str, Tensor]
"""By the adapter's name, one number a neuron."""


def importance(measure: str, net: ModelView, look: Look) -> Scores:
    if not adapters(net):
        return {}
    return {name: scores.detach().cpu() for name, scores in MEASURES[measure](net, look).items()}


def adapters(net: ModelView) -> dict[str, Bottleneck]:
    return {name: module for name, module in net.pet.items() if isinstance(module, Bottleneck)}


def weights(net: ModelView) -> list[Tensor]:
    """W_down (N, M) and W_up (M, N) of every adapter, in turn."""
    return [linear.weight for m in adapters(net).values() for linear in (m.down, m.up)]


def per_neuron(net: ModelView, values: Sequence[Tensor]) -> Scores:
    """The mean over each neuron's weights of numbers that stand in the places of `weights(net)`."""
    pairs = zip(adapters(net), values[::2], values[1::2], strict=True)
    return {name: (down.sum(1) + up.sum(0)) / (2 * down.shape[1]) for name, down, up in pairs}


def mimi(net: ModelView, _: Look) -> Scores:
    return per_neuron(net, [w.abs() for w in weights(net)])


def unnormalised(net: ModelView, _: Look) -> Scores:
    return {name: m.down.weight.abs().sum(1) + m.up.weight.abs().sum(0) for name, m in adapters(net).items()}


def down(net: ModelView, _: Look) -> Scores:
    return {name: m.down.weight.abs().mean(1) for name, m in adapters(net).items()}


def gradient(net: ModelView, look: Look) -> Scores:
    return per_neuron(net, [g.abs() for g in loss_gradient(net, weights(net), look)])


def snip(net: ModelView, look: Look) -> Scores:
    pairs = zip(weights(net), loss_gradient(net, weights(net), look), strict=True)
    return per_neuron(net, [(g * w).abs() for w, g in pairs])


def grasp(net: ModelView, look: Look) -> Scores:
    g = loss_gradient(net, weights(net), look)
    pairs = zip(weights(net), loss_gradient(net, weights(net), look, along=g), strict=True)
    return per_neuron(net, [w * Hg for w, Hg in pairs])


@torch.no_grad()
def activation(net: ModelView, look: Look) -> Scores:
    total = {name: m.down.weight.new_zeros(m.hidden) for name, m in adapters(net).items()}
    tokens = dict.fromkeys(total, 0)

    def watch(name: str) -> Callable[[nn.Module, tuple[Tensor, ...], Tensor], None]:
        def hook(_: nn.Module, args: tuple[Tensor, ...], z: Tensor) -> None:
            a = F.gelu(z).abs().flatten(0, -2)  # (tokens of all images, N)
            total[name] += a.sum(0)
            tokens[name] += len(a)

        return hook

    handles = [m.down.register_forward_hook(watch(name)) for name, m in adapters(net).items()]
    try:
        for images, _ in look():
            net.model(images)
    finally:
        for handle in handles:
            handle.remove()
    return {name: total[name] / tokens[name] for name in total}


def random(net: ModelView, _: Look) -> Scores:
    return {name: torch.rand(m.hidden) for name, m in adapters(net).items()}


MEASURES: dict[str, Callable[[ModelView, Look], Scores]] = {
    f.__name__: f for f in (mimi, unnormalised, down, gradient, snip, grasp, activation, random)
}


def loss_gradient(
    net: ModelView, tensors: Sequence[Tensor], look: Look, along: Sequence[Tensor] | None = None
) -> list[Tensor]:
    """g of the mean cross-entropy over all images looked at; with `along` v, H v."""
    total, images = [torch.zeros_like(tensor) for tensor in tensors], 0
    for x, labels in look():
        with sdpa_kernel(SDPBackend.MATH):  # fused attention has no second derivative
            loss = F.cross_entropy(net.model(x), labels, reduction="sum")
            parts = torch.autograd.grad(loss, tensors, create_graph=along is not None)
            if along is not None:
                product = sum((g * v).sum() for g, v in zip(parts, along, strict=True))
                parts = torch.autograd.grad(product, tensors)  # type: ignore[arg-type]
        total = [t + part for t, part in zip(total, parts, strict=True)]
        images += len(labels)
    return [t / images for t in total]
