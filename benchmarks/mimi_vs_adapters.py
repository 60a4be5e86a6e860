"""MiMi against adapters of the same final size, at the same training: accuracy over the compression rate sigma.

    python benchmarks/mimi_vs_adapters.py OUT [--backbone pocket_vit] [--seeds 0,1,2] [--removals 4] [--control]
    python benchmarks/mimi_vs_adapters.py OUT --seeds 0 --limit 1       a look: the suite's first dataset, one seed

Adapters are trained at sigma = 8, 16, 32, 64, 128; MiMi starts at sigma = 8 and halves its neurons 1 to 4 times, so
that it ends with as many as adapters of sigma = 16 to 128 have; `--removals 3` stops at 64. Records go to OUT/runs,
where finished ones are found again; OUT/mimi_vs_adapters-BACKBONE.png and .csv are drawn from all the records that were
asked for.

What is held equal. Every run trains on the same images for the same number of epochs, with the suite's protocol but for
that number: adapters in one stretch, MiMi with k removals in k + 1 stretches of the same total. The protocol's 3 epochs
cannot be divided by 5, hence 10 here, which leaves two epochs to every stretch of the longest run; adapters get 10 too.
(`--removals 3` takes 8, for the same reason.)
Epochs are equal, not FLOPs: MiMi's early stretches run larger adapters. The paper (fig. 4) gives each cycle 100 epochs
and adapters as many as the MiMi of their size has had, so that its budget grows with sigma; here it does not, and along
a curve only the size changes. MiMi also restarts its learning rate k times. `--control` adds what tells that apart:
adapters as small from the start as MiMi is at the end, trained in MiMi's stretches.

Sigma on the axis is the average compression rate, sum of M / sum of N over all adapters. On the pocket ViT it is the
nominal one; on a Swin adapters round N down to a whole number at each width, MiMi only the sum.
A seed's number is the mean over the suite's groups of the mean over a group's datasets, of those that were run; the
table has its mean and standard deviation over seeds.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import statistics
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
from matplotlib import pyplot as plt

from bench.core import configs
from bench.core.errors import BenchError
from bench.core.record import Record
from bench.core.store import Store
from bench.data.root import default_data_root
from bench.models import backbones, registry
from bench.models.families import build_view
from bench.models.method import Method, build, params
from bench.training.execute import execute
from bench.training.job import Job, make_job

SUITE, START = "pocket", 8
STYLE = {"adapters": ("tab:blue", "o"), "MiMi": ("tab:red", "D"), "adapters, MiMi's schedule": ("tab:gray", "s")}


@dataclass(frozen=True)
class Point:
    """One configuration on a curve."""

    curve: str
    name: str
    method: Method
    neurons: int  # at the end, over all adapters
    sigma: float


def points(backbone: str, removals: int, control: bool) -> list[Point]:
    net = build_view(backbones.create(backbone, classes=2, weights="random"))
    asked: list[tuple[str, str, dict[str, object]]] = [
        ("adapters", "adapters", {"sigma": START * 2**k}) for k in range(removals + 1)
    ]
    asked += [("MiMi", "mimi", {"sigma": START, "cycles": k}) for k in range(1, removals + 1)]
    if control:
        small = {"sigma": START, "score": "random", "scope": "local", "at_start": True}
        asked += [("adapters, MiMi's schedule", "mimi", small | {"cycles": k}) for k in range(1, removals + 1)]
    found = []
    for curve, name, settings in asked:
        method = build(registry.load(name), settings, name)
        neurons = neurons_left(name, settings, backbone)
        found.append(Point(curve, name, method, neurons, 2 * sum(net.shape.dims) / neurons))
    return found


def neurons_left(name: str, settings: dict[str, object], backbone: str) -> int:
    """MiMi without training goes through the same sizes."""
    cycles = {"cycles": 0} if name == "adapters" else {}
    method = build(registry.load("mimi"), settings | cycles, "mimi")
    net = build_view(backbones.create(backbone, classes=2, weights="random"))
    method.attach(net)
    method.calibrate(net, lambda _: iter(()))
    for phase in method.phases(method.removals + 1):
        if phase.then:
            phase.then(net, lambda _: iter(()))
    return sum(method.sizes(net).values())


def jobs(point: Point, args: argparse.Namespace) -> list[Job]:
    suite = configs.suite(SUITE)
    protocol = configs.protocol(suite.card.protocol)
    if args.epochs != protocol.epochs:  # under the name that `bench run --epochs` gives it
        protocol = dataclasses.replace(protocol, name=f"{protocol.name}+epochs={args.epochs}", epochs=args.epochs)
    return [
        make_job(
            point.name,
            point.method,
            args.backbone,
            card,
            protocol,
            seed,
            data_root=default_data_root(),
            device=args.device,
        )
        for seed in args.seeds
        for card in suite.datasets[: args.limit]
    ]


def headline(records: Sequence[Record]) -> float:
    """Of one seed: the mean in % over the suite's groups of the mean over the datasets of a group."""
    score = {r.spec.dataset.partition("/")[2]: r.scores.test for r in records if r.scores}
    groups = [[score[key] for key in keys if key in score] for keys in configs.suite(SUITE).card.groups.values()]
    return 100 * statistics.mean(statistics.mean(values) for values in groups if values)


def row(point: Point, records: Sequence[Record], args: argparse.Namespace) -> dict[str, object]:
    means = [headline([r for r in records if r.spec.seed == seed]) for seed in args.seeds]
    costs = [r.cost for r in records if r.cost]
    return {
        "curve": point.curve,
        "sigma": round(point.sigma, 3),
        "neurons": point.neurons,
        "params_at_most": max(cost.params.method for cost in costs),
        "params": round(statistics.mean(cost.params.deployed for cost in costs)),  # on a Swin those of each run differ
        "mean": round(statistics.mean(means), 2),
        "std": round(statistics.stdev(means), 2) if len(means) > 1 else "",
        "seeds": len(means),
        "datasets": len({r.spec.dataset for r in records}),
        "epochs": args.epochs,
        "train_seconds": round(statistics.mean(cost.train_seconds for cost in costs), 1),
        "variant": point.name + "".join(f" {key}={value}" for key, value in params(point.method).items()),
    }


def draw(rows: Sequence[dict[str, object]], args: argparse.Namespace, path: Path) -> None:
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for curve, (colour, marker) in STYLE.items():
        own = [r for r in rows if r["curve"] == curve]
        if own:
            error = [float(str(r["std"] or 0)) for r in own]
            x, y = ([float(str(r[key])) for r in own] for key in ("sigma", "mean"))
            axes.errorbar(x, y, yerr=error, color=colour, marker=marker, capsize=3, label=curve)
    axes.set_xscale("log", base=2)
    ticks = [START * 2**k for k in range(args.removals + 1)]
    axes.set_xticks(ticks, [str(tick) for tick in ticks])
    axes.set_xlabel("average compression rate σ = Σ M / Σ N (smaller adapters to the right)")
    axes.set_ylabel("top-1 accuracy, mean over groups, %")
    seeds = f"{rows[0]['seeds']} seeds, mean ± std" if len(args.seeds) > 1 else f"seed {args.seeds[0]}"
    axes.set_title(f"{args.backbone}, {args.epochs} epochs, {rows[0]['datasets']} datasets, {seeds}", fontsize=10)
    axes.grid(alpha=0.3)
    figure.legend(loc="outside lower center", ncols=3, frameon=False)
    figure.savefig(path, dpi=150)
    plt.close(figure)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, metavar="OUT")
    parser.add_argument("--backbone", default="pocket_vit")
    parser.add_argument("--seeds", type=lambda text: [int(part) for part in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--removals", type=int, default=4, metavar="N", help="of MiMi, at most: sigma up to 8 * 2^N")
    parser.add_argument("--epochs", type=int, help="of every run, in total (default: two for every stretch of MiMi's)")
    parser.add_argument("--control", action="store_true", help="also small adapters in MiMi's stretches")
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N datasets of the suite")
    parser.add_argument("--device", default="cpu", choices=("cpu", "cuda"))
    args = parser.parse_args()
    args.epochs = args.epochs or 2 * (args.removals + 1)
    if args.removals < 1:
        parser.error(f"--removals {args.removals}: MiMi has at least 1")
    if args.epochs <= args.removals:
        parser.error(f"--epochs {args.epochs}: {args.removals} removals need {args.removals + 1} epochs")

    curves = {point: jobs(point, args) for point in points(args.backbone, args.removals, args.control)}
    store, total = Store(args.out), sum(len(own) for own in curves.values())
    number = 0
    for n in range(len(args.seeds) * len(configs.suite(SUITE).datasets[: args.limit])):
        for point in curves:
            job, number = curves[point][n], number + 1
            record = execute(job, store)
            outcome = f"{record.scores.test:.2%}" if record.scores else f"{record.status}: {record.reason}"
            which = f"{point.curve} σ={point.sigma:g} {job.spec.dataset} seed {job.spec.seed}"
            print(f"[{number}/{total}] {which}  {outcome}", flush=True)

    rows = []
    for point, own in curves.items():
        records = [record for job in own if (record := store.find(job.spec)) and record.status == "done"]
        if len(records) < len(own):
            raise BenchError(f"{len(own) - len(records)} runs of {point.curve} at sigma {point.sigma:g} are not done.")
        rows.append(row(point, records, args))
    stem = args.out / f"mimi_vs_adapters-{args.backbone}"
    with open(stem.with_suffix(".csv"), "w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    draw(rows, args, stem.with_suffix(".png"))
    print(f"{'curve':26} {'sigma':>6} {'neurons':>8} {'params':>8} {'at most':>8} {'mean ± std':>13} {'s a run':>8}")
    for r in rows:
        score = f"{r['mean']:.2f} ± {r['std']:.2f}" if r["std"] != "" else f"{r['mean']:.2f}"
        print(
            f"{r['curve']:26} {r['sigma']:6g} {r['neurons']:8} {r['params']:8,} {r['params_at_most']:8,} {score:>13} "
            f"{r['train_seconds']:8}"
        )
    print(f"{stem}.csv\n{stem}.png")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except BenchError as error:
        sys.exit(f"mimi_vs_adapters: {error}")
