"""PEViT's table 1 against ours: its closed forms of trained parameters, and what a model of their settings really has.

L blocks of width d_model = k; adapters of bottleneck d; n Kronecker products; rank r. The printed forms leave out what
every real model has: LoRA and KAdaptation adapt two weights a block, and a sum of n Kronecker products has n fast
weights. The corrected forms are exact (tests/tools/test_published_costs.py).
"""

from __future__ import annotations

from dataclasses import dataclass

from bench.report.cells import pipe
from bench.tools import published

BACKBONE = "vit_base_patch16_224"
L, WIDTH = 12, 768
BOTTLENECK, RANK, FEW, MANY = 64, 4, 4, 32  # d; r of LoRA; n of Compacter and of KAdaptation


@dataclass(frozen=True)
class Formula:
    method: str
    settings: str  # of the model that it is about
    printed: str  # with the paper's letters
    printed_value: float
    corrected: str
    corrected_value: int
    why: str  # they differ

    def ours(self) -> int:
        """Trained parameters of that model, as it is built; head not counted."""
        return published.count(self.method, tuple(self.settings.split()), BACKBONE)


def table() -> tuple[Formula, ...]:
    k, d, r = WIDTH, BOTTLENECK, RANK
    few, many = FEW, MANY
    return (
        Formula(
            "adapters",
            f"hidden={d}",
            "4 L k d",
            4 * L * k * d,
            "4 L k d",
            4 * L * k * d,
            "",
        ),
        Formula(
            "lora",
            f"rank={r} targets=q+v",
            "2 L r d_model",
            2 * L * r * WIDTH,
            "4 L r d_model",
            4 * L * r * WIDTH,
            "two weights a block are adapted, q and v; the form has one",
        ),
        Formula(
            "compacter",
            f"n={few} hidden={d}",
            "4 L (k/n + d/n) + n^3",
            4 * L * (k / few + d / few) + few**3,
            "4 L (k + d) + n^3 + 2 L (k + d)",
            6 * L * (k + d) + few**3,
            "each projection is a sum of n products, with n pairs of fast weights; and it has a bias",
        ),
        Formula(
            "kadaptation",
            f"n={many} rank=1 slow=full bias=false",
            "2 L (d_model/n + r/n) + n^3",
            2 * L * (WIDTH / many + 1 / many) + many**3,
            "4 L r d_model + 2 n^3",
            4 * L * WIDTH + 2 * many**3,
            "n products have n fast weights of two sides, in q and in v, which have slow weights of their own",
        ),
        Formula(
            "kadaptation",
            f"n={many} rank=1",
            "2 L (d_model/n + r/n) + n^3",
            2 * L * (WIDTH / many + 1 / many) + many**3,
            "4 L r d_model + 4 n^2 + L d_model",
            4 * L * WIDTH + 4 * many**2 + L * WIDTH,
            "as its counts have it: slow weights of rank 1, and a bias a block",
        ),
    )


def lines() -> list[str]:
    """A table in Markdown."""
    made = table()
    columns = {
        "method": [f"`{one.method} {one.settings}`" for one in made],
        "printed": [one.printed for one in made],
        "which is": [f"{one.printed_value:,.0f}" for one in made],
        "the model has": [f"{one.ours():,}" for one in made],
        "exactly": [one.corrected for one in made],
        "why they differ": [one.why for one in made],
    }
    what = f"PEViT, table 1, on ViT-B: L = {L}, k = d_model = {WIDTH}, d = {BOTTLENECK}; head not counted:"
    return [what, "", pipe(columns)]
