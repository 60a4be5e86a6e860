"""Drawn images for pretraining: one letter an image, in any colours, at any place, size and angle.

The letters come from the DejaVu fonts that matplotlib ships. Digits are left out, and so are letters that look like a
digit or like a shape of the pocket suites (o, l, x ...): a backbone must not have been taught the classes of a task
that it is tried on. The label is the letter. Where it stands, how large it is and how it is turned are not labels.
"""

from __future__ import annotations

import math
from pathlib import Path

import matplotlib
import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor
from torch.nn import functional as F

LETTERS = "ABCEFGHJKLMNPQRTUVWYabdefghjmnqrtyΓΔΘΛΞΠΣΦΨΩαβγδεζηθλμξπρστφψωБДЖИЛЦЧШЩЭЮЯ&@#?%"
FONTS = ("Sans", "Sans-Bold", "Sans-Oblique", "SansMono", "SansMono-Bold", "Serif", "Serif-Bold", "Serif-Italic")
CELL, POINTS = 48, 34  # pixels of one letter's cell, and its size in it
SIDE = 32  # pixels of the images


def atlas() -> Tensor:
    """Every letter in every font, white on black, (letters, fonts, 48, 48) between 0 and 1."""
    folder = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
    fonts = [ImageFont.truetype(str(folder / f"DejaVu{name}.ttf"), POINTS) for name in FONTS]
    cells = np.zeros((len(LETTERS), len(fonts), CELL, CELL), np.uint8)
    for row, letter in enumerate(LETTERS):
        for column, font in enumerate(fonts):
            cell = Image.new("L", (CELL, CELL))
            ImageDraw.Draw(cell).text((CELL / 2, CELL / 2), letter, 255, font, anchor="mm")
            cells[row, column] = np.asarray(cell)
    return torch.from_numpy(cells).float() / 255


def draw(letters: Tensor, number: int, chance: torch.Generator) -> tuple[Tensor, Tensor]:
    """`number` images (N, 3, 32, 32) as uint8 and the index of the letter in each; `letters` is `atlas()`."""

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(number, *shape, generator=chance) * (high - low) + low

    label = torch.randint(len(letters), (number,), generator=chance)
    font = torch.randint(letters.shape[1], (number,), generator=chance)
    half = uniform(0.22, 0.95)  # half of the cell's side, in half sides of the image
    x, y = uniform(-1, 1) * (1 - half), uniform(-1, 1) * (1 - half)
    turn, stretch = uniform(-math.pi, math.pi), uniform(0.75, 1.33)
    cosine, sine = torch.cos(turn) / half, torch.sin(turn) / half
    to_cell = torch.stack(
        [
            torch.stack([cosine, sine, -cosine * x - sine * y], 1) * stretch[:, None],
            torch.stack([-sine, cosine, sine * x - cosine * y], 1) / stretch[:, None],
        ],
        dim=1,
    )
    grid = F.affine_grid(to_cell, [number, 1, 2 * SIDE, 2 * SIDE], align_corners=False)
    mask = F.avg_pool2d(F.grid_sample(letters[label, font][:, None], grid, align_corners=False), 2)
    ground, ink = uniform(0, 1, 3, 1, 1), uniform(0, 1, 3, 1, 1)
    alike = (ground - ink).abs().sum(1, keepdim=True) < 0.6
    ink = torch.where(alike, (ground + 0.5) % 1, ink)
    relief = F.interpolate(uniform(-0.15, 0.15, 3, 4, 4), size=SIDE, mode="bilinear")
    grain = uniform(-0.05, 0.05, 3, SIDE, SIDE)
    images = ground + relief + (ink - ground) * mask + grain
    return (images.clamp(0, 1) * 255).round().to(torch.uint8), label
