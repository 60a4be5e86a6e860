"""The evidence of the suite `pocket2`, step by step. Every step finds again what it has finished, and goes on there.

    python benchmarks/pocket.py floors      logistic regression on 8x8 pixels, written into datasets/pocket2.toml
    python benchmarks/pocket.py features    logistic regression on frozen features -> results/pocket-features.csv
    python benchmarks/pocket.py tune        a learning rate for each method and backbone -> datasets/rates.toml
    python benchmarks/pocket.py converge    twice the epochs, six methods -> results/pocket-convergence/convergence.csv
    python benchmarks/pocket.py grid        every method, task, backbone and three seeds -> results/pocket

In this order: `converge` and `grid` train at the rates that `tune` has chosen. --method, --dataset, --backbone, --seeds
and --epochs make any step smaller; --jobs N trains in N processes. Two cores need about two hours for `tune` and five
for `grid`.

`tune` trains every method at the same four rates on the training split of three tasks, one of each group, and scores
the validation split: 12 runs a method and backbone, the same for all. The rate with the best mean over the three tasks
is the method's; of equals the smaller one. A rate at which a run fails is out. The runs stay in results/pocket-rates.

`features` and the row of linear_probe should agree to a point, dataset by dataset: the probe is convex, so whatever
it lacks is a fault of its training.
"""

from __future__ import annotations

import argparse
import csv
import re
import statistics
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import bench
from bench.core import configs
from bench.core.errors import BenchError
from bench.core.record import Record
from bench.core.store import Store
from bench.data.readers import photos, pocket
from bench.execution.request import Launch
from bench.models import backbones, registry
from bench.tools import probe

ROOT = Path(__file__).parents[1]
SUITE = configs.suite("pocket2")
TASKS = tuple(card.name for card in SUITE.datasets)
BACKBONES = ("pocket_vit_patch8", "pocket_swin_patch4")
TUNED, TRIAL, RATES_OF = "pocket@v2-tuned", "pocket@v2-trial", "pocket@v2"
RATES = (5e-4, 2e-3, 8e-3, 3.2e-2)
TUNED_ON = ("pocket2/digits", "pocket2/shapes_paint", "pocket2/tilt")  # one of each group
SIX = ("linear_probe", "lora", "adapters", "vpt_deep", "mimi", "full")

CARD = """\
# Learning rates, one for each method and backbone, that protocols with `rates` take: [NAME.BACKBONE] METHOD = RATE.
# Chosen on validation scores alone, from the same four values for every method: `python benchmarks/pocket.py tune`."""

Split = Mapping[str, tuple[NDArray[np.float64], NDArray[np.int64]]]  # train, val, test: features (N, D), labels (N,)


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("step", choices=list(STEPS))
    parser.add_argument("--method", type=_names, help="default: every method; of converge: " + ", ".join(SIX))
    parser.add_argument("--dataset", type=_names, help="SUITE/NAME[,...]; default: the suite, of tune three tasks")
    parser.add_argument("--backbone", type=_names, default=BACKBONES)
    parser.add_argument("--seeds", type=lambda text: tuple(map(int, text.split(","))))
    parser.add_argument("--epochs", type=int, help="instead of the protocol's")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder of the records, or the file that is written")
    args = parser.parse_args(arguments)
    try:
        for name in args.method or ():
            registry.load(name)  # raises where there is no such method
        args.method = tuple(map(registry.canonical, args.method)) if args.method else None
        STEPS[args.step](args)
    except BenchError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def floors(args: argparse.Namespace) -> None:
    """Writes `pixels_floor` of every task into the suite's card."""
    path = args.out or configs.folder() / "pocket2.toml"
    text = path.read_text(encoding="utf-8")
    for name in args.dataset or TASKS:
        accuracy, penalty = logistic_regression(pixels(name))
        key = name.partition("/")[2]
        old = rf"(?m)(^\[datasets\.{key}\]\n(?:(?!pixels_floor|\n).*\n)*)(?:pixels_floor = .*\n)?"
        text = re.sub(old, rf"\g<1>pixels_floor = {accuracy:.1f}\n", text)
        print(f"{name}: {accuracy:.1f} % at C = {penalty:g}", flush=True)
    path.write_text(text, encoding="utf-8")


def features(args: argparse.Namespace) -> None:
    """Logistic regression on what a head sees of a frozen backbone, beside linear_probe's records where there are."""
    path = args.out or ROOT / "results" / "pocket-features.csv"
    rows = []
    for backbone in args.backbone:
        for name in args.dataset or TASKS:
            accuracy, penalty = logistic_regression(frozen_features(backbone, name))
            rows.append([backbone, name, f"{accuracy:.2f}", f"{penalty:g}"])
            print(*rows[-1], flush=True)
    _write(path, ["backbone", "dataset", "accuracy", "C"], rows)


def tune(args: argparse.Namespace) -> None:
    """Trials of every rate, and the card of those chosen."""
    out = args.out or ROOT / "results" / "pocket-rates"
    methods = args.method or tuple(registry.entries())
    for lr in RATES:
        _run(args, methods, args.dataset or TUNED_ON, TRIAL, out, lr=lr)
    chosen = choose(Store(out).records(), args.dataset or TUNED_ON)
    card = out / "rates.toml" if args.out else configs.folder() / "rates.toml"  # a look changes no card
    write_rates(card, configs.rates().get(RATES_OF, {}), chosen)
    for backbone, rates in chosen.items():
        print(backbone, ", ".join(f"{method} {lr:g}" for method, lr in rates.items()))


def choose(records: Sequence[Record], tasks: Sequence[str]) -> dict[str, dict[str, float]]:
    """The rate of the best mean validation score over the tasks, by backbone and method; of equals the smaller.

    A rate counts where every task has a score at it; a method without one such rate is left out.
    """
    scores: dict[tuple[str, str], dict[float, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for record in records:
        spec = record.spec
        if record.variant or spec.dataset not in tasks or not spec.protocol.name.startswith(TRIAL):
            continue
        if record.scores and record.scores.val is not None:
            scores[spec.backbone, spec.method][spec.protocol.lr][spec.dataset].append(record.scores.val)
    chosen: dict[str, dict[str, float]] = defaultdict(dict)
    for (backbone, method), rates in sorted(scores.items()):
        means = {
            lr: statistics.mean(map(statistics.mean, found.values()))
            for lr, found in sorted(rates.items())
            if found.keys() == set(tasks)
        }
        if means:
            chosen[backbone][method] = max(means, key=lambda lr: means[lr])
    return dict(chosen)


def write_rates(path: Path, old: Mapping[str, Mapping[str, float]], new: Mapping[str, Mapping[str, float]]) -> None:
    """The card with new rates in place of old ones; rates of other methods stay."""
    lines = [CARD]
    for backbone in sorted({*old, *new}):
        rates = {**old.get(backbone, {}), **new.get(backbone, {})}
        lines += ["", f'["{RATES_OF}".{backbone}]', *(f"{method} = {rates[method]}" for method in sorted(rates))]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def converge(args: argparse.Namespace) -> None:
    """The suite's means at the protocol's epochs and at twice as many, by method and backbone."""
    out = args.out or ROOT / "results" / "pocket-convergence"
    epochs = args.epochs or configs.protocol(TUNED).epochs
    methods, tasks = args.method or SIX, args.dataset or TASKS
    for n in (epochs, 2 * epochs):
        _run_tuned(args, methods, tasks, out, epochs=n)
    rows = differences(list(Store(out).records()), args.backbone, methods, tasks, epochs)
    for row in rows:
        print(*row)
    header = ["backbone", "method", "pairs", f"epochs_{epochs}", f"epochs_{2 * epochs}", "difference", "standard_error"]
    _write(out / "convergence.csv", header, rows)


def differences(
    records: Sequence[Record], backbones: Sequence[str], methods: Sequence[str], tasks: Sequence[str], epochs: int
) -> list[list[str]]:
    """Of every method the mean in % at `epochs` and at twice as many, and the difference with its standard error over
    the tasks. What is compared are pairs of runs of one task and seed."""
    own = configs.protocol(TUNED).epochs
    names = [TUNED if n == own else f"{TUNED}+epochs={n}" for n in (epochs, 2 * epochs)]
    scores = {
        (r.spec.protocol.name, r.spec.backbone, r.spec.method, r.spec.dataset, r.spec.seed): 100 * r.scores.test
        for r in records
        if r.scores and not r.variant
    }
    rows = []
    for backbone in backbones:
        for method in methods:
            once, twice = (
                {key[3:]: score for key, score in scores.items() if key[:3] == (name, backbone, method)}
                for name in names
            )
            both = sorted(once.keys() & twice.keys())
            if both:
                by_task = [statistics.mean(twice[k] - once[k] for k in both if k[0] == task) for task in tasks]
                means = [statistics.mean(part[key] for key in both) for part in (once, twice)]
                error = statistics.stdev(by_task) / len(by_task) ** 0.5 if len(by_task) > 1 else float("nan")
                numbers = [f"{x:.2f}" for x in (*means, means[1] - means[0], error)]
                rows.append([backbone, method, str(len(both)), *numbers])
    return rows


def grid(args: argparse.Namespace) -> None:
    """The leaderboard's runs, and its tables and figures."""
    out = args.out or ROOT / "results" / "pocket"
    _run_tuned(args, args.method or tuple(registry.entries()), args.dataset or TASKS, out)
    for path in bench.load(out).report.write(out):
        print(path)


STEPS = {"floors": floors, "features": features, "tune": tune, "converge": converge, "grid": grid}


def _run_tuned(
    args: argparse.Namespace, methods: Sequence[str], tasks: Sequence[str], out: Path, epochs: int | None = None
) -> None:
    """Backbone by backbone, the methods that have a rate on it. Those without are told: a method that refuses a
    backbone has none."""
    for backbone in args.backbone:
        rates = configs.rates().get(RATES_OF, {}).get(backbone, {})
        if without := [method for method in methods if method not in rates]:
            print(f"{backbone}: no rate was chosen for {', '.join(without)}; left out.", flush=True)
        if tuned := [method for method in methods if method in rates]:
            _run(args, tuned, tasks, TUNED, out, epochs=epochs, backbone_names=(backbone,))


def _run(
    args: argparse.Namespace,
    methods: Sequence[str],
    tasks: Sequence[str],
    protocol: str,
    out: Path,
    lr: float | None = None,
    epochs: int | None = None,
    backbone_names: Sequence[str] = (),
) -> None:
    """Makes those of the runs that are not there yet; a failed run is a record, and is told."""
    results = bench.run(
        list(methods),
        datasets=tuple(tasks),
        backbones=tuple(backbone_names or args.backbone),
        protocol=protocol,
        lr=lr,
        epochs=epochs or args.epochs,
        seeds=args.seeds,
        out=str(out),
        launch=Launch(options={"jobs": args.jobs}, threads=1),
    )
    made = results.account.summary() if results.account else f"{len(results)} runs."
    print(f"{protocol}{f' at {lr:g}' if lr else ''}: {made}", flush=True)


def logistic_regression(data: Split) -> tuple[float, float]:
    """Accuracy in % on the test split of bench.tools.probe, which trains on the two others as the suite's protocol
    does, and C."""
    fitted = probe.fit(data["train"], data["val"])
    return 100 * float(fitted.model.score(*data["test"])), fitted.penalty


def pixels(name: str) -> Split:
    """Every image as the means of its 8x8 squares of 4x4 pixels, (N, 192), between 0 and 1."""
    return {part: (_squares(images), labels) for part, (images, labels) in _images(name).items()}


def _squares(images: NDArray[np.uint8]) -> NDArray[np.float64]:
    return np.asarray(images.reshape(-1, 8, 4, 8, 4, 3).mean((2, 4)).reshape(-1, 192) / 255, np.float64)


def frozen_features(backbone: str, name: str) -> Split:
    """Every image as what the head of a frozen backbone sees of it, (N, D)."""
    import torch

    model = backbones.create(backbone, classes=2)
    mean, std = (torch.tensor(v).view(1, 3, 1, 1) for v in backbones.normalisation(model))

    @torch.no_grad()
    def see(images: NDArray[np.uint8]) -> NDArray[np.float64]:
        x = (torch.from_numpy(images.copy()).permute(0, 3, 1, 2) / 255 - mean) / std
        seen = [model.forward_head(model.forward_features(part), pre_logits=True) for part in x.split(250)]  # type: ignore[operator]
        return np.asarray(torch.cat(seen).double().numpy())

    return {part: (see(x), y) for part, (x, y) in _images(name).items()}


def _images(name: str) -> dict[str, tuple[NDArray[np.uint8], NDArray[np.int64]]]:
    kind, _, key = configs.dataset(name).source.partition(":")
    return {"pocket": pocket, "photos": photos}[kind].make(key)


def _names(text: str) -> tuple[str, ...]:
    return tuple(text.split(","))


def _write(path: Path, header: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
    print(path)


if __name__ == "__main__":
    sys.exit(main())
