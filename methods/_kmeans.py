"""k-means of directions, which starts at points far apart: nothing is drawn."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def clusters(means: Tensor, number: int, rounds: int = 50) -> Tensor:
    """The cluster of each of the means (C, D), by k-means of their directions; its own where there are enough."""
    if len(means) <= number:
        return torch.arange(len(means), device=means.device)
    points = F.normalize(means, dim=-1)
    centres = points[:1]
    while len(centres) < number:  # each time the point that is farthest from all centres
        centres = torch.cat((centres, points[torch.cdist(points, centres).amin(1).argmax()][None]))
    for _ in range(rounds):
        nearest = torch.cdist(points, centres).argmin(1)
        members = F.one_hot(nearest, number).to(points)
        sizes = members.sum(0)[:, None]
        moved = torch.where(sizes > 0, members.T @ points / sizes.clamp(min=1), centres)
        if torch.equal(moved, centres):
            break
        centres = moved
    return torch.cdist(points, centres).argmin(1)
