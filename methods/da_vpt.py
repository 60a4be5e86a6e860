"""DA-VPT: prompts as in VPT-Deep, which a term of the loss draws to images of their classes and away from the others.

    loss + beta L(x, P) + lambda L(c, P)      at each of the last `guided` blocks, averaged over them
    L(z, P) = mean over p of  log(1 + sum_i+ exp(-alpha (z_i.p - delta))) + log(1 + sum_i- exp(alpha (z_i.p + delta)))

P are the prompts of the block, x_i is the mean of image i's patches as they enter the block, c_i its class token; all
have unit length in L. Every class has one prompt: i+ are the images of a batch whose class is p's, i- the others; a sum
over no images is zero. Classes share prompts by k-means of their mean features, before training. alpha is 32, delta
0.1. Prompts start as in VPT and replace those of the block before. `biases=true` (DA-VPT+) also trains all biases of
the blocks.

Ren, Chen, Wang, Hua, "DA-VPT: Semantic-Guided Visual Prompt Tuning for Vision Transformers", CVPR 2025, arXiv
2505.23694: metric learning between patches, prompts and class token. The form of L is Proxy-Anchor's, Kim et al., CVPR
2020, arXiv 2003.13911, eq. 4. We had the authors' released code and the paper's abstract, not its equations: that the
mean of all patches is compared, that both sums are averaged over all prompts, alpha, delta and the last block as the
guided one are that code's.
Ours differs: classes are assigned once, by the features that the head reads with fresh prompts in, of `batches`
batches, where the code does so again in training; a class that these lack shares prompt (class mod prompts); k-means
starts at the farthest points; that code trains biases of some layers, chosen for each dataset, as beta and lambda are.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import Incompatible
from bench.models.hooks import SendBefore, SideChannel
from bench.models.method import Batches, Method, Shape
from bench.models.view import ModelView
from methods._features import features
from methods._kmeans import clusters
from methods._prompts import Prompts, xavier_bound


class Guide(nn.Module):
    """Adds nothing: keeps which prompt a class has, and what entered the guided blocks in the last pass."""

    prompt_of: Tensor

    def __init__(self, classes: int, prompts: int, prefix: int) -> None:
        super().__init__()
        self.skipped = prefix + prompts
        self.guided: list[tuple[Prompts, SideChannel]] = []  # the prompts are not its own: they are stored once
        self.register_buffer("prompt_of", torch.arange(classes, dtype=torch.int32) % prompts)

    def entered(self) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """x (B, D), c (B, D) and P (p, D) of every guided block"""
        for prompts, wire in self.guided:
            tokens = wire.take()
            yield tokens[:, self.skipped :].float().mean(1), tokens[:, 0].float(), prompts.tokens.float()


def proxy_anchor(z: Tensor, P: Tensor, positive: Tensor, alpha: float = 32.0, delta: float = 0.1) -> Tensor:
    """L of z (B, D) and P (p, D); positive (B, p)."""
    s = F.normalize(z, dim=-1) @ F.normalize(P, dim=-1).T
    one = s.new_zeros(1, len(P))  # exp(0)
    pull = torch.cat((one, (-alpha * (s - delta)).masked_fill(~positive, -torch.inf))).logsumexp(0)
    push = torch.cat((one, (alpha * (s + delta)).masked_fill(positive, -torch.inf))).logsumexp(0)
    return (pull + push).mean()


@dataclass(frozen=True)
class DAVPT(Method):
    prompts: int = 20
    beta: float = 1.0  # weight of L between patches and prompts
    lambda_: float = 0.05  # and between class token and prompts
    guided: int = 1  # of the last blocks, those whose prompts have the term
    biases: bool = False
    batches: int = 8  # of training data that assign prompts to classes

    family = "prompts"
    paper = "Ren et al. 2025, arXiv 2505.23694"
    supports = "vit"
    identity_at_start = False

    def __post_init__(self) -> None:
        if min(self.prompts, self.guided, self.batches) < 1 or self.beta < 0 or self.lambda_ < 0:
            asked = f"prompts = {self.prompts}, guided = {self.guided}, batches = {self.batches}"
            raise ValueError(
                f"{asked} must be at least 1, and beta = {self.beta}, lambda_ = {self.lambda_} not negative"
            )

    def attach(self, net: ModelView) -> None:
        if self.guided > len(net.blocks) or not net.blocks[0].prefix:
            there = f"{len(net.blocks)} blocks with {net.blocks[0].prefix} tokens before the patches"
            raise Incompatible(f"guided = {self.guided} blocks with a class token are needed; there are {there}.")
        bound = xavier_bound(net)
        tokens = {block.index: Prompts(self.prompts, block.dim, bound) for block in net.blocks}
        net.add_prompts(tokens)
        guide = Guide(net.head.out_features, self.prompts, net.blocks[0].prefix)
        name = net.register(net.blocks[-1].out, guide)
        for block in net.blocks[-self.guided :]:
            wire = SideChannel()
            guide.guided.append((tokens[block.index], wire))
            net.hook(name, block.out.module, SendBefore(nn.Identity(), wire), before=True)
        if self.biases:
            paths = tuple(f"{block.path}." for block in net.blocks)
            net.unfreeze(lambda name: name.startswith(paths) and name.endswith(".bias"))

    @torch.no_grad()
    def calibrate(self, net: ModelView, batches: Batches) -> None:
        C = net.head.out_features
        with features(net) as see:
            f, of_class = zip(*((see(x), hot(labels, C)) for x, labels in batches(self.batches)), strict=True)
        classes = torch.cat(of_class).to(f[0])
        seen = classes.sum(0) > 0
        means = (classes.T @ torch.cat(f))[seen] / classes.sum(0)[seen, None]
        guide(net).prompt_of[seen] = clusters(means, self.prompts).to(torch.int32)

    def loss(self, logits: Tensor, labels: Tensor, net: ModelView) -> Tensor:
        prompt_of = F.one_hot(guide(net).prompt_of.long(), self.prompts).to(logits)  # (C, p)
        positive = hot(labels, logits.shape[1]).to(logits) @ prompt_of > 0  # (B, p)
        terms = [
            self.beta * proxy_anchor(x, P, positive) + self.lambda_ * proxy_anchor(c, P, positive)
            for x, c, P in guide(net).entered()
        ]
        return torch.stack(terms).mean()

    def count(self, shape: Shape) -> int | None:
        return None if self.biases else self.prompts * sum(shape.dims)


def guide(net: ModelView) -> Guide:
    return next(module for module in net.pet.values() if isinstance(module, Guide))


def hot(labels: Tensor, classes: int) -> Tensor:
    """Labels (B), or (B, C) already, as (B, C)."""
    return F.one_hot(labels, classes) if labels.ndim == 1 else labels
