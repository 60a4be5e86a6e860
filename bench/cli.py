"""The command line. The verbs are thin, torch is imported only by those that compute."""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench import __version__
from bench.console import positive, print_rows
from bench.errors import BenchError, UsageError

if TYPE_CHECKING:
    from bench.cards import Dataset
    from bench.data.folder import ImageFolder
    from bench.data.sources import Found
    from bench.record import Record
    from bench.run import Job
    from bench.spec import Protocol
    from bench.store import Store

    Source = ImageFolder | Found | None

EPILOG = """examples:
  bench run --method linear_probe,lora,mimi --suite pocket --seeds 0     a first leaderboard, no download
  bench run --method all --data my_images --backbone pocket_swin         your own FOLDER/<class>/*.jpg
  bench count --method lora --set rank=4 --backbone vit_base_patch16_224 --classes 100
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Exit code 0: all is well; 1: a run failed; 2: the question was wrong; 130: interrupted."""
    args = parser().parse_args(argv)
    if getattr(args, "data_root", None) is not None:
        os.environ["BENCH_DATA"] = str(args.data_root)
    try:
        code: int = args.verb(args)
        return code
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nbench: interrupted. What is finished is kept; the same command goes on from there.", file=sys.stderr)
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # a full disk, a folder that cannot be written
        print(f"bench: {error}.", file=sys.stderr)
        return 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="bench",
        description="Parameter-efficient tuning for vision, compared under one protocol.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"bench {__version__}")
    verbs = top.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(name, help=text, description=text)
        command.set_defaults(verb=run)
        return command

    run = verb("run", run_command, "train and score methods, then print the leaderboard")
    run.add_argument("--method", required=True, metavar="NAME[,NAME...]|all")
    where = run.add_mutually_exclusive_group(required=True)
    where.add_argument("--suite", metavar="NAME", help="every dataset of a suite")
    where.add_argument("--dataset", metavar="SUITE/NAME[,...]", help="single datasets of suites")
    where.add_argument("--data", metavar="FOLDER", type=Path, help="your images: FOLDER/[train|val|test/]<class>/*.jpg")
    run.add_argument("--backbone", metavar="NAME[,NAME...]", help="default: the suite's own")
    run.add_argument("--weights", default="pretrained", metavar="pretrained|random|FILE", help="default: pretrained")
    run.add_argument("--protocol", metavar="NAME", help="default: the suite's own")
    run.add_argument("--epochs", type=positive, help="instead of the protocol's; the result is then marked so")
    run.add_argument("--seeds", type=_numbers, metavar="0,1,2", help="default: the protocol's")
    run.add_argument("--limit", type=positive, metavar="N", help="with --data: train and validate on N images at most")
    run.add_argument("--skip-missing", action="store_true", help="leave out datasets that are not on this machine")
    run.add_argument("--data-root", type=Path, metavar="DIR", help="prepared and downloaded data; default: BENCH_DATA")
    run.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    run.add_argument("--dry-run", action="store_true", help="say what would run, and stop")
    run.add_argument("--json", action="store_true", help="print one JSON object instead of the table")
    _common(run)

    lists = verb("list", list_command, "what there is to choose from")
    kinds = ("methods", "suites", "datasets", "backbones", "protocols")
    lists.add_argument("what", nargs="?", default="methods", choices=kinds)
    lists.add_argument("--plugin", type=Path, action="append", default=[], metavar="FILE")

    count = verb("count", count_command, "parameters, FLOPs and storage of a method on a backbone; needs no data")
    count.add_argument("--method", required=True, metavar="NAME")
    count.add_argument("--backbone", required=True, metavar="NAME")
    count.add_argument("--classes", required=True, type=positive)
    count.add_argument("--json", action="store_true")
    _common(count, out=False)

    check = verb("check", check_command, "test what every method owes: `bench check NAME`, or all")
    check.add_argument("method", metavar="NAME|FILE|all")
    check.add_argument("--backbone", metavar="NAME[,NAME...]", default="pocket_vit,pocket_swin")
    _common(check, out=False)

    paper = verb("paper", paper_command, "trained parameters that the papers print, against ours")
    paper.add_argument("what", choices=("counts",))
    paper.add_argument("--csv", action="store_true", help="print CSV, with the reason of every erratum")

    for name, action, text in (
        ("table", table_command, "rebuild and print the leaderboards of a results folder"),
        ("plot", plot_command, "redraw the plots of a results folder"),
    ):
        command = verb(name, action, text)
        command.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")

    from bench import cli_data

    cli_data.add_parser(verbs)

    doctor = verb("doctor", doctor_command, "check versions, devices, weights and data, and say what to do")
    doctor.add_argument("--json", action="store_true")

    pretrain = verb("pretrain", pretrain_command, "train a pocket backbone from scratch; resumes where it stopped")
    pretrain.add_argument("backbone")
    pretrain.add_argument("--data", type=Path, required=True, metavar="DIR", help="DIR/{train,test}/<class>/*.jpg")
    pretrain.add_argument("--out", type=Path, default=Path("weights"), metavar="DIR", help="default: weights")
    pretrain.add_argument("--epochs", type=positive)
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    pretrain.add_argument("--threads", type=positive, help="default: one per core")
    return top


def _common(command: argparse.ArgumentParser, out: bool = True) -> None:
    command.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a hyper-parameter of the method"
    )
    command.add_argument(
        "--plugin", type=Path, action="append", default=[], metavar="FILE", help="a method file of your own"
    )
    if out:
        command.add_argument("--out", type=Path, default=Path("results"), metavar="DIR", help="default: results")


def _numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers like 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in parts))


def _method_names(args: argparse.Namespace) -> list[str]:
    """The methods asked for by their own names, each once."""
    from bench import registry

    if args.method == "all":
        return list(registry.entries(args.plugin))
    return list(dict.fromkeys(registry.canonical(name, args.plugin) for name in args.method.split(",")))


def _settings(pairs: Sequence[str]) -> dict[str, str]:
    settings = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals):
            raise UsageError(f"--set {pair!r} is not KEY=VALUE, like rank=4.")
        settings[key] = value
    return settings


# run ------------------------------------------------------------------------------------------------------------------


def run_command(args: argparse.Namespace) -> int:
    from bench.store import Store

    if not args.json:
        print("Loading torch ...", end="\r", file=sys.stderr, flush=True)
    store = Store(args.out)
    jobs = plan(args)
    finished = _finished(store, jobs)
    pending = [job for job in jobs if job.spec.digest not in finished]
    _warn_of_changed_methods(jobs, finished)
    if args.dry_run:
        return _say_plan(jobs, pending, args.json)
    if not args.json:
        print(f"{len(jobs)} runs, {len(jobs) - len(pending)} of them finished already. Results go to {args.out}/.")
    failed = _run_all(store, pending, quiet=args.json)
    paths = _report(args.out)
    records = [record for job in jobs if (record := store.find(job.spec))]
    if args.json:
        from bench.parse import plain

        print(json.dumps({"records": [plain(record) for record in records], "files": [str(path) for path in paths]}))
    else:
        _print_tables(records)
        print("\n".join(["Files:", *(f"  {path}" for path in [args.out / "runs", *paths] if path.suffix != ".svg")]))
    return 1 if failed else 0


def plan(args: argparse.Namespace) -> list[Job]:
    """Every run that the arguments ask for: seed by seed, so that an interrupted suite is a whole smaller one."""
    from bench import registry
    from bench.method import build

    cards, protocol, backbone = _data_of(args)
    if args.epochs is not None and args.epochs != protocol.epochs:
        protocol = dataclasses.replace(protocol, name=f"{protocol.name}+epochs={args.epochs}", epochs=args.epochs)
    backbones = backbone.split(",")
    names = _method_names(args)
    if args.set and len(names) > 1:
        raise UsageError(f"--set needs one method, to which it applies; --method names {len(names)}.")
    methods = {name: build(registry.load(name, args.plugin), _settings(args.set), name) for name in names}

    from bench import run

    device = _device(args.device)
    for method in methods.values():
        method.phases(protocol.epochs)  # a question that cannot be answered is refused before anything runs
        for tag in backbones:
            run.check_fit(method, tag)
    jobs = [
        run.make_job(name, method, tag, card, protocol, seed, weights=args.weights, source=source, device=device)
        for seed in args.seeds or protocol.seeds
        for tag in backbones
        for card, source in cards
        for name, method in methods.items()
    ]
    return list({job.spec.digest: job for job in jobs}.values())


def _located(
    args: argparse.Namespace, wanted: list[tuple[Dataset, Source]], protocol: Protocol, backbones: Sequence[str]
) -> list[tuple[Dataset, Source]]:
    """The cards whose data is on this machine, with where it is and its fingerprint; prepared, but for a dry run.

    What is missing is told on one screen, or left out with --skip-missing.
    """
    from bench.data import sources

    places = [(card, source or (sources.find(card) if sources.is_local(card) else None)) for card, source in wanted]
    missing = [card for card, source in places if sources.is_local(card) and source is None]
    here = [(card, source) for card, source in places if card not in missing]
    if missing and not (args.skip_missing and here):
        from bench import cli_data

        raise sources.Missing(cli_data.missing_screen(missing, len(places)))
    if missing:
        _warn(f"{len(missing)} of {len(places)} datasets are not here and are left out: {_names(missing)}.")
    if not any(sources.is_local(card) for card, _ in here):
        return here

    from bench import cli_data, run

    sizes = {run.image_size(tag, protocol) for tag in backbones}
    return [
        (cli_data.prepared(card, source, sizes, protocol, args.dry_run), source)
        if isinstance(source, sources.Found)
        else (card, source)
        for card, source in here
    ]


def _names(cards: Sequence[Dataset]) -> str:
    return ", ".join(card.name for card in cards)


def _data_of(args: argparse.Namespace) -> tuple[list[tuple[Dataset, Source]], Protocol, str]:
    """Cards with where their data is, the protocol, and the backbones."""
    from bench import cards

    default = "pocket"
    found: list[tuple[Dataset, Source]]
    if args.data is not None:
        from bench.data import folder

        source = folder.divide(args.data, limit=args.limit)
        found = [(folder.card(source, args.limit), source)]
        if not args.dry_run:
            folder.write_lists(source, args.out / "data" / f"{found[0][0].name.replace('/', '-')}.json")
    elif args.limit is not None:
        raise UsageError("--limit goes with --data; the datasets of a suite have fixed splits.")
    elif args.dataset is not None:
        found = [(cards.dataset(name), None) for name in args.dataset.split(",")]
        default = args.dataset.partition("/")[0]
    else:
        found = [(card, None) for card in cards.suite(args.suite).datasets]
        default = args.suite
    suite = cards.suite(default).card
    protocol = cards.protocol(args.protocol or suite.protocol)
    backbone = args.backbone or suite.backbone
    return _located(args, found, protocol, backbone.split(",")), protocol, backbone


def _finished(store: Store, jobs: Sequence[Job]) -> dict[str, Record]:
    """The records, by digest, of the jobs that are done; what failed or did not fit is tried again."""
    found = {job.spec.digest: store.find(job.spec) for job in jobs}
    return {digest: record for digest, record in found.items() if record is not None and record.status == "done"}


def _warn_of_changed_methods(jobs: Sequence[Job], finished: Mapping[str, Record]) -> None:
    """Says so where finished runs were made by another state of a method's file than the present one."""
    from bench import registry

    changed: Counter[str] = Counter()
    for job in jobs:
        record = finished.get(job.spec.digest)
        if record is not None and record.provenance.method_sha256 != registry.source_digest(type(job.method)):
            changed[job.spec.method] += 1
    for name, number in changed.items():
        remedy = "Raise its `version` to run them again if its numbers change"
        _warn(f"{number} finished runs of {name} were made before its file was changed. {remedy}.")


def _say_plan(jobs: Sequence[Job], pending: Sequence[Job], as_json: bool) -> int:
    if as_json:
        waiting = {job.spec.digest for job in pending}
        rows = [
            {"digest": j.spec.digest, "spec": json.loads(j.spec.canonical()), "pending": j.spec.digest in waiting}
            for j in jobs
        ]
        print(json.dumps({"runs": rows}))
        return 0
    for job in pending:
        print(
            f"{job.spec.digest}  {job.spec.method:14} {job.spec.backbone:12} {job.spec.dataset:24} seed {job.spec.seed}"
        )
    print(f"{len(jobs)} runs: {len(pending)} to do, {len(jobs) - len(pending)} finished.")
    return 0


def _run_all(store: Any, pending: Sequence[Job], quiet: bool) -> int:
    """Runs what is pending; the number of failed runs."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from bench import run

    console = Console(stderr=quiet, highlight=False)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(10),
        MofNCompleteColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    failed = 0
    with Progress(*columns, console=console, disable=quiet or not console.is_terminal, transient=True) as bar:
        task = bar.add_task("", total=len(pending))
        for number, job in enumerate(pending, 1):
            spec = job.spec
            title = f"{spec.method} · {spec.dataset} · {spec.backbone} · seed {spec.seed}"
            short = f"{spec.method} {spec.dataset}"  # with rate and time left it fits 80 columns

            def watch(p: Any, short: str = short) -> None:
                rate = f"{p.images_per_second:.0f} images/s"
                bar.update(task, description=f"{short} epoch {p.epoch}/{p.epochs} {rate}")

            bar.update(task, description=short)
            start = time.perf_counter()
            record = run.execute(job, store, watch)
            failed += record.status == "failed"
            if not quiet:
                outcome = f"{record.scores.test:7.2%}" if record.scores else f"{record.status}: {record.reason}"
                console.print(
                    f"[{number}/{len(pending)}] {title}  {outcome}  {time.perf_counter() - start:.1f} s",
                    markup=False,
                    soft_wrap=True,
                )
            bar.advance(task)
    return failed


def _device(asked: str) -> str:
    import torch

    if asked == "cuda" and not torch.cuda.is_available():
        raise UsageError("--device cuda: torch sees no CUDA device here. 'bench doctor' says more; --device cpu works.")
    return ("cuda" if torch.cuda.is_available() else "cpu") if asked == "auto" else asked


# report ---------------------------------------------------------------------------------------------------------------


def _report(out: Path) -> list[Path]:
    from bench import report
    from bench.store import Store

    return report.write_all(out, list(Store(out).records(_warn)), _warn)


def _warn(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr)


def _print_tables(records: Sequence[Any]) -> None:
    from bench import report

    for text in report.terminal_tables(records):
        print(text)


def table_command(args: argparse.Namespace) -> int:
    from bench import report

    records = _records(args.out)
    paths = report.write_tables(args.out, records, _warn)
    _print_tables(records)
    print("\n".join(["Files:", *(f"  {path}" for path in paths)]))
    return 0


def plot_command(args: argparse.Namespace) -> int:
    from bench import report

    print("\n".join(str(path) for path in report.write_plots(args.out, _records(args.out))))
    return 0


def _records(out: Path) -> list[Any]:
    from bench.store import Store

    records = list(Store(out).records(_warn))
    if not records:
        raise UsageError(
            f"No records under {out / 'runs'}. Make some with 'bench run', or name another folder with --out."
        )
    return records


# list, count, doctor, pretrain ----------------------------------------------------------------------------------------


def list_command(args: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]]
    if args.what == "methods":
        from bench import registry

        rows = [("method", "family", "backbones", "merges", "paper", "hyper-parameters")]
        rows += [
            (e.name, e.family, " ".join(e.supports), "yes" if e.merges else "no", e.paper, e.defaults)
            for e in registry.entries(args.plugin).values()
        ]
    elif args.what == "backbones":
        rows = [("pocket_vit", "ViT, 32 px, bundled"), ("pocket_swin", "Swin, 32 px, bundled")]
        rows.append(("any timm tag", "of a VisionTransformer or SwinTransformer, e.g. vit_base_patch16_224.orig_in21k"))
    else:
        from bench import cards

        suites = [cards.suite(name) for name in cards.suite_names()]
        if args.what == "suites":
            rows = [(s.card.name, s.card.title, f"{len(s.datasets)} datasets", s.card.protocol) for s in suites]
        elif args.what == "datasets":
            rows = [
                (d.name, d.title, f"{d.classes} classes", f"{d.sizes.train}/{d.sizes.val}/{d.sizes.test}")
                for s in suites
                for d in s.datasets
            ]
        else:
            rows = [
                (
                    p.name,
                    f"{p.optimizer}, lr {p.lr:g}",
                    f"{p.epochs} epochs",
                    f"trains on {p.train_on}",
                    f"reports the {p.choose} epoch",
                )
                for p in cards.protocols().values()
            ]
    print_rows(rows)
    return 0


def count_command(args: argparse.Namespace) -> int:
    from bench import registry
    from bench.method import build

    method = build(registry.load(args.method, args.plugin), _settings(args.set), args.method)

    from bench import run
    from bench.parse import plain

    counted = run.count(method, args.backbone, args.classes)
    if args.json:
        print(json.dumps(plain(counted)))
        return 0
    merged = f"{counted.flops.merged / 1e9:.4f} merged" if counted.flops.merged is not None else "cannot be merged"
    print(f"{args.method} on {args.backbone}, {args.classes} classes")
    params, stored = counted.params, counted.storage_bytes
    trained = f"{params.method + params.head:,}  (method {params.method:,}, head {params.head:,})"
    print(f"  trained parameters  {trained}")
    print(f"  all parameters      {params.total:,}")
    print(f"  GFLOPs an image     {counted.flops.unmerged / 1e9:.4f} unmerged, {merged}   (1 MAC = 2 FLOPs)")
    print(
        f"  without attention   {counted.flops_linear_conv.unmerged / 1e9:.4f} (the papers': linears and convolutions)"
    )
    print(f"  storage             {stored.with_head:,} bytes, {stored.without_head:,} without head")
    print(f"  counted by          {counted.flops_counter}")
    return 0


def check_command(args: argparse.Namespace) -> int:
    from bench import registry
    from bench.method import build

    if args.method.endswith(".py"):
        args.plugin.append(Path(args.method))
        args.method = Path(args.method).stem
    names = _method_names(args)
    methods = {name: build(registry.load(name, args.plugin), _settings(args.set), name) for name in names}

    from bench import check

    cases = [(name, backbone) for name in methods for backbone in args.backbone.split(",")]
    faults: Counter[str] = Counter()
    for (name, backbone), findings in zip(
        cases, check.run_all(cases, _settings(args.set), tuple(args.plugin)), strict=True
    ):
        print(f"{name} on {backbone}")
        for promise, fault in findings:
            mark = "    " if promise == "refuses" else "ok  " if fault is None else "FAIL"
            faults[mark] += 1
            print(f"  {mark} {promise}", fault or "", flush=True)
    print(f"{faults['ok  ']} promises kept, {faults['FAIL']} broken, {faults['    ']} backbones refused.")
    return 1 if faults["FAIL"] else 0


def paper_command(args: argparse.Namespace) -> int:
    from bench import paper

    return paper.paper_command(args)


def doctor_command(args: argparse.Namespace) -> int:
    from bench import doctor

    findings = doctor.examine()
    if args.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print(f"{finding.level:8} {finding.topic:12} {finding.text}")
    return 2 if Counter(finding.level for finding in findings)["problem"] else 0


def pretrain_command(args: argparse.Namespace) -> int:
    import torch

    from bench import pretrain

    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = pretrain.Recipe(seed=args.seed, **({"epochs": args.epochs} if args.epochs else {}))
    path = pretrain.pretrain(
        args.backbone, args.data, args.out, recipe, _device(args.device), lambda line: print(line, flush=True)
    )
    print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
