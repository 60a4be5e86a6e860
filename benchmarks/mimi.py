"""What MiMi's accuracy is due to: its schedule, its selection of neurons, their allocation, or the rate.

    python benchmarks/mimi.py schedule
        pocket_vit_patch8, where equal neurons are equal parameters: MiMi after 2 and 3 removals against adapters as
        small, in one cosine, in MiMi's stretches and in the schedule of the released baselines, and random removal
    python benchmarks/mimi.py allocation
        pocket_swin_patch4, where they are not: MiMi against adapters of as many parameters, local and random removal
    python benchmarks/mimi.py rate
        pocket_swin_patch4: MiMi's accuracy and where its neurons are, by learning rate
    python benchmarks/mimi.py sizes
        pocket_vit_patch8: accuracy against parameters for several sigma, the paper's figure 4

Every run has the epochs of the protocol in all, at one rate: MiMi's are divided among its stretches. Epochs are equal,
not FLOPs: MiMi's early stretches train larger adapters. In the paper each stretch has 100 epochs, and adapters as many
in all as the MiMi of their size.

A row of the table is a mean over the tasks, with the 95 % interval over seeds, and the difference to the first row of
its size, paired by task and seed. Records are kept in OUT; finished ones are found again. OUT/EXPERIMENT.csv has the
rows, OUT/sizes.png the curves.
"""

from __future__ import annotations

import argparse
import csv
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import bench
from bench import MethodChoice
from bench.core.errors import BenchError
from bench.core.record import Record
from bench.core.spec import Value
from bench.core.store import Store
from bench.execution.request import Launch
from bench.models import backbones, registry
from bench.models.families import build_view
from bench.models.method import build, params
from bench.report.statistics import Estimate, weighted_mean

ROOT = Path(__file__).parents[1]
PLUGIN = Path(__file__).with_name("scheduled_adapters.py")
PROTOCOL, LR, RATES = "pocket@v2", 2e-3, (5e-4, 2e-3, 8e-3)
TASKS = ("pocket2/digits", "pocket2/materials", "pocket2/shapes_paint", "pocket2/tilt")  # each group; two real ones
VIT, SWIN = "pocket_vit_patch8", "pocket_swin_patch4"
START = 8  # sigma of MiMi before it has removed anything


@dataclass(frozen=True)
class Row:
    size: str  # what the rows of a size have in common
    label: str
    method: str
    settings: dict[str, Value] = field(default_factory=dict)
    lr: float = LR


@dataclass(frozen=True)
class Experiment:
    backbone: str
    rows: tuple[Row, ...]


def mimi(size: str, removals: int, label: str = "MiMi", lr: float = LR, **settings: Value) -> Row:
    return Row(size, label, "mimi", {"sigma": START, "cycles": removals, **settings}, lr)


def schedule() -> Experiment:
    rows = list[Row]()
    for removals in (2, 3):
        size, sigma = f"{removals} removals", START * 2**removals
        scheduled: dict[str, Value] = {"sigma": sigma, "removals": removals}
        rows += [
            Row(size, "adapters, one cosine", "adapters", {"sigma": sigma}),
            Row(size, "adapters, MiMi's stretches", "scheduled_adapters", scheduled | {"schedule": "restarts"}),
            Row(size, "adapters, the rate at its floor", "scheduled_adapters", scheduled | {"schedule": "floor"}),
            mimi(size, removals),
            mimi(size, removals, "random removal", score="random"),
        ]
    return Experiment(VIT, tuple(rows))


def allocation() -> Experiment:
    rows = list[Row]()
    for removals in (2, 3):
        size = f"{removals} removals"
        rows += [
            Row(size, f"adapters, sigma {START * 2**removals}", "adapters", {"sigma": START * 2**removals}),
            mimi(size, removals),
            mimi(size, removals, "local removal", scope="local"),
            mimi(size, removals, "random removal", score="random"),
        ]
    rows += [  # about as large as MiMi is on a Swin, whose neurons survive where a block is narrow
        Row("3 removals", "adapters, sigma 48", "adapters", {"sigma": 48}),
        Row("3 removals", "adapters, one neuron each", "adapters", {"hidden": 1}),
        Row("3 removals", "adapters, two neurons each", "adapters", {"hidden": 2}),
    ]
    return Experiment(SWIN, tuple(rows))


def rate() -> Experiment:
    return Experiment(SWIN, tuple(mimi("2 removals", 2, f"lr {lr:g}", lr) for lr in RATES))


def sizes() -> Experiment:
    rows = [Row(f"sigma {START * 2**k}", "adapters", "adapters", {"sigma": START * 2**k}) for k in range(5)]
    rows += [mimi(f"sigma {START * 2**k}", k) for k in range(1, 5)]
    return Experiment(VIT, tuple(sorted(rows, key=lambda row: int(row.size.split()[1]))))


EXPERIMENTS = {"schedule": schedule, "allocation": allocation, "rate": rate, "sizes": sizes}


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("experiment", choices=list(EXPERIMENTS))
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "mimi")
    parser.add_argument("--dataset", type=lambda text: tuple(text.split(",")), default=TASKS)
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))), default=(0, 1, 2))
    parser.add_argument("--epochs", type=int, help="of every run, instead of the protocol's")
    parser.add_argument("--backbone", help="instead of the experiment's")
    parser.add_argument("--jobs", type=int, default=1)
    args = parser.parse_args(arguments)
    experiment = EXPERIMENTS[args.experiment]()
    backbone = args.backbone or experiment.backbone
    try:
        _train(experiment, backbone, args)
        lines = table(experiment, backbone, args)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    path = args.out / f"{args.experiment}.csv"
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, list(lines[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(lines)
    for line in lines:
        print("  ".join(str(value) for value in line.values()))
    print(path)
    if args.experiment == "sizes":
        draw(lines, backbone, path.with_suffix(".png"))
        print(path.with_suffix(".png"))
    return 0


def _train(experiment: Experiment, backbone: str, args: argparse.Namespace) -> None:
    for lr in sorted({row.lr for row in experiment.rows}):
        bench.run(
            [MethodChoice(row.method, row.settings) for row in experiment.rows if row.lr == lr],
            datasets=args.dataset,
            backbones=(backbone,),
            protocol=PROTOCOL,
            lr=lr,
            epochs=args.epochs,
            seeds=args.seeds,
            plugins=(PLUGIN,),
            out=str(args.out),
            launch=Launch(options={"jobs": args.jobs}, threads=1),
        )


def table(experiment: Experiment, backbone: str, args: argparse.Namespace) -> list[dict[str, object]]:
    """The rows of the CSV. Raises BenchError where a run has no score."""
    records = [record for record in Store(args.out).records() if record.spec.backbone == backbone]
    lines, first = list[dict[str, object]](), dict[str, NDArray[np.float64]]()
    for row in experiment.rows:
        own = own_records(row, records, args)
        scores = np.array([[100 * score_of(own, task, seed) for seed in args.seeds] for task in args.dataset])
        mean = weighted(scores)
        apart = weighted(scores - first.setdefault(row.size, scores))
        costs = [record.cost for record in own if record.cost]
        lines.append(
            {
                "size": row.size,
                "row": row.label,
                "params": round(statistics.mean(cost.params.deployed for cost in costs)),
                "mean": f"{mean.value:.2f}",
                "low": f"{mean.low:.2f}",
                "high": f"{mean.high:.2f}",
                "difference": f"{apart.value:+.2f}",
                "difference_low": f"{apart.low:+.2f}",
                "difference_high": f"{apart.high:+.2f}",
                "p": f"{apart.p:.3f}",
                "neurons_by_stage": neurons_by_stage(own, backbone),
                "runs": len(own),
            }
        )
    return lines


def own_records(row: Row, records: Sequence[Record], args: argparse.Namespace) -> list[Record]:
    asked = params(build(registry.load(row.method, [PLUGIN]), row.settings, row.method))
    return [
        record
        for record in records
        if (record.spec.method, dict(record.spec.params), record.spec.protocol.lr) == (row.method, asked, row.lr)
        and record.spec.dataset in args.dataset
        and record.spec.seed in args.seeds
        and record.spec.protocol.epochs == (args.epochs or record.spec.protocol.epochs)
    ]


def score_of(records: Sequence[Record], task: str, seed: int) -> float:
    for record in records:
        if (record.spec.dataset, record.spec.seed) == (task, seed) and record.scores:
            return record.scores.test
    raise BenchError(f"There is no score on {task}, seed {seed}: run this again, or see 'bench status'.")


def weighted(scores: NDArray[np.float64]) -> Estimate:
    return weighted_mean(scores, np.full(len(scores), 1 / len(scores)))


def neurons_by_stage(records: Sequence[Record], backbone: str) -> str:
    """The mean number of neurons in the adapters of every stage at the end; empty where none were removed."""
    ends = [dict(record.milestones[-1].sizes) for record in records if record.milestones]
    if not ends or not all(ends):
        return ""
    net = build_view(backbones.create(backbone, classes=2, weights="random"))
    width = {branch.op: block.dim for block in net.blocks for branch in (block.attn, block.mlp)}
    stages = list(dict.fromkeys(width.values()))
    totals = dict.fromkeys(stages, 0.0)
    for end in ends:
        for label, neurons in end.items():
            totals[width[label]] += neurons / len(ends)
    return " ".join(f"{totals[stage]:.1f}" for stage in stages)


def draw(lines: Sequence[dict[str, object]], backbone: str, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    names = {int(str(line["params"])): str(line["size"]).replace("sigma ", "σ = ") for line in lines}
    for label, colour, marker, aside in (("adapters", "tab:blue", "o", 0.98), ("MiMi", "tab:red", "D", 1.02)):
        own = [line for line in lines if line["row"] == label]
        x, y, low, high = ([float(str(line[key])) for line in own] for key in ("params", "mean", "low", "high"))
        spread = [[a - b for a, b in zip(y, low, strict=True)], [b - a for a, b in zip(y, high, strict=True)]]
        beside = [aside * place for place in x]  # of equal parameters, and both to be seen
        axes.errorbar(beside, y, yerr=spread, color=colour, marker=marker, capsize=3, lw=1, label=label)
    axes.set_xscale("log")
    axes.set_xticks(list(names), [f"{count:,}\n{name}" for count, name in names.items()])
    axes.minorticks_off()
    axes.set_xlabel("trained parameters at the end, head not counted")
    axes.set_ylabel("accuracy, mean of tasks, %, 95 % interval")
    axes.set_title(f"{backbone}: MiMi from σ = {START}, and adapters as small from the start", fontsize=10)
    axes.grid(alpha=0.3)
    axes.legend(frameon=False, loc="lower right")
    figure.savefig(path, dpi=150)
    plt.close(figure)


if __name__ == "__main__":
    sys.exit(main())
