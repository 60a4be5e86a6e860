"""SCT: a linear map among the salient channels of the residual stream behind every attention.

    z[I] <- z[I] + s (W z[I] + b)      z = x + Attn(LN(x)): (N, M)  W: (K, K)  b: (K)  I: K of the M channels

I is chosen before training, on the frozen model and for every block: the K channels of largest importance

    mean over classes of the mean over the class's images of  || z[:, channel] ||_2   (the norm is over the tokens)

K is an eighth of the width, 96 in a ViT-B; fewer channels in a narrower block. W starts from a normal distribution of
std 0.02 cut at two std, b at zero: near the identity, not at it.

Zhao et al., "SCT: A Simple Baseline for Parameter-Efficient Fine-Tuning via Salient Channels", IJCV 2024,
arXiv 2309.08513, section 3.
Ours differs: `batches` batches of training data choose the channels, not all of it; s is 1 unless asked; a Swin is
tuned in every block, where the released code tunes the last nine blocks of stage 3 and those of stage 4. The released
scoring leaves the class token out, takes one norm over all images of a class, and so chooses 81 to 100 % of our
channels; its normal distribution is not cut.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from bench.models.method import Batches, Method, Shape
from bench.models.view import ModelView


class Salient(nn.Module):
    """What the map adds to z: s (W z[I] + b) on the channels I, zero on the others."""

    index: Tensor

    def __init__(self, dim: int, count: int, scale: float) -> None:
        super().__init__()
        self.dim, self.scale = dim, scale
        self.map = nn.Linear(count, count)
        self.register_buffer("index", torch.arange(count))
        nn.init.trunc_normal_(self.map.weight, std=0.02, a=-0.04, b=0.04)
        nn.init.zeros_(self.map.bias)

    def forward(self, z: Tensor) -> Tensor:
        update = self.scale * self.map(z[..., self.index])  # (..., K)
        return update.new_zeros(z.shape).index_copy(-1, self.index, update)


@dataclass(frozen=True)
class SCT(Method):
    fraction: float = 0.125  # K / M
    scale: float = 1.0
    batches: int = 16  # of training data that choose the channels

    family = "low-rank"
    paper = "Zhao et al. 2024, arXiv 2309.08513"
    identity_at_start = False

    def __post_init__(self) -> None:
        if not 0 < self.fraction <= 1 or self.scale == 0 or self.batches < 1:
            asked = f"fraction = {self.fraction}, scale = {self.scale}, batches = {self.batches}"
            raise ValueError(f"{asked}: fraction must lie in (0, 1], scale not be zero, batches be at least 1")

    def attach(self, net: ModelView) -> None:
        for block in net.blocks:
            block.attn.add_to_sum(Salient(block.dim, channels(block.dim, self.fraction), self.scale))

    @torch.no_grad()
    def calibrate(self, net: ModelView, batches: Batches) -> None:
        norms: dict[Salient, list[Tensor]] = {m: [] for m in net.pet.values() if isinstance(m, Salient)}

        def look(m: Salient, args: tuple[Tensor, ...]) -> None:
            norms[m].append(args[0].flatten(1, -2).norm(dim=1))  # (B, M)

        hooks = [m.register_forward_pre_hook(look) for m in norms]
        for m in norms:
            m.scale = 0.0  # silent: what is seen is the frozen model
        labels = []
        for images, of_batch in batches(self.batches):
            net.model(images)
            labels.append(of_batch)
        of_image = torch.cat(labels)
        for m, hook in zip(norms, hooks, strict=True):
            hook.remove()
            m.scale = self.scale
            importance = (torch.cat(norms[m]) / of_image.bincount()[of_image, None]).sum(0)
            m.index.copy_(importance.topk(len(m.index)).indices.sort().values)

    def count(self, shape: Shape) -> int:
        return sum(k * k + k for k in (channels(dim, self.fraction) for dim in shape.dims))


def channels(dim: int, fraction: float) -> int:
    return max(1, int(dim * fraction))
