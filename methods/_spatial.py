"""Tokens as a picture and back, for what works on the grid of patches."""

from __future__ import annotations

import torch
from torch import Tensor

from bench.models.view import Block, ModelView


def to_map(x: Tensor, grid: tuple[int, int], prefix: int) -> tuple[Tensor, Tensor]:
    """(B, N, D) or (B, H, W, D) -> the patches as a map (B, D, rows, cols) and the tokens before them (B, prefix, D).

    A sequence holds `prefix` tokens and then rows x cols patches, row by row.
    """
    tokens = x.flatten(1, -2)
    patches = tokens[:, prefix:].transpose(1, 2).unflatten(2, grid)
    return patches, tokens[:, :prefix]


def from_map(m: Tensor, prefix_tokens: Tensor, like: Tensor) -> Tensor:
    """The inverse of to_map, in the layout of `like`."""
    tokens = torch.cat((prefix_tokens, m.flatten(2).transpose(1, 2)), dim=1)
    return tokens.view(*like.shape[:-1], tokens.shape[-1])


def blocks_with_patches_out(net: ModelView) -> tuple[Block, ...]:
    """The blocks whose patches something reads: not the last one of a ViT whose head reads the class token alone.

    What a method adds there to the patches only has no effect and could not learn.
    """
    token = getattr(net.model, "global_pool", "") == "token" and net.blocks[-1].prefix > 0
    return net.blocks[:-1] if token else net.blocks
