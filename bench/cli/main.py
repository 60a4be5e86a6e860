"""The command line. The verbs are thin: they build a question, ask the package, and print the answer."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

from bench import __version__
from bench.cli import arguments, console, data, dimension, forgetting, results, run, status, verify
from bench.cli.console import numbers, positive, print_rows, warn
from bench.core.errors import BenchError

EPILOG = """examples:
  bench run --method linear_probe,lora,mimi --suite pocket2 --seeds 0    a first leaderboard, no download
  bench run --method all --data my_images --backbone pocket_swin_patch4  your own FOLDER/<class>/*.jpg
  bench count --method lora --set rank=4 --backbone vit_base_patch16_224 --classes 100
"""
KEPT = "What is finished is kept; the same command goes on from there."


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command. Exit code 0: everything that was asked for is there; 1: something has no result, or a check
    failed; 2: the question was wrong; 130: interrupted."""
    console.use_utf8()
    top = parser()
    args = top.parse_args(argv)
    if "verb" not in args:
        top.print_help()
        return 0
    try:
        code: int = args.verb(args)
        return code
    except BenchError as error:
        warn(str(error))
        return 2
    except KeyboardInterrupt as signal:  # bench.execution.attempt.Preempted is one
        name = str(signal)
        warn(f"{f'ended by {name}' if name else 'interrupted'}. {KEPT}")
        return 130
    except BrokenPipeError:
        sys.stderr.close()
        return 1
    except OSError as error:  # a full disk, a folder that cannot be written
        warn(f"{error}.")
        return 2


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="bench",
        description="Parameter-efficient tuning for vision, compared under one protocol.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    top.add_argument("--version", action="version", version=f"bench {__version__}")
    verbs = top.add_subparsers(title="commands", metavar="COMMAND")

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command = verbs.add_parser(name, help=text, description=text[0].upper() + text[1:] + ".")
        command.set_defaults(verb=run)
        return command

    run.add_parser(verb)

    lists = verb("list", list_command, "what there is to choose from")
    kinds = ("methods", "suites", "datasets", "backbones", "protocols")
    lists.add_argument("what", nargs="?", default="methods", choices=kinds)
    arguments.add_plugin(lists)

    count = verb("count", count_command, "parameters, FLOPs and storage of a method on a backbone; needs no data")
    count.add_argument("--method", required=True, metavar="NAME")
    count.add_argument("--backbone", required=True, metavar="NAME")
    count.add_argument("--classes", required=True, type=positive)
    count.add_argument("--json", action="store_true", help="print one JSON object instead of text")
    arguments.add_method_settings(count)

    check = verb("check", check_command, "run the conformance checks of a method: `bench check NAME`, or all")
    check.add_argument("method", metavar="NAME|FILE|all")
    check.add_argument("--backbone", metavar="NAME[,NAME...]", default="pocket_vit_patch8,pocket_swin_patch4")
    arguments.add_method_settings(check)

    paper = verb("paper", paper_command, "tables of the papers: what is printed, against what is measured here")
    paper.add_argument(
        "what", metavar="list|counts|costs|NAME|FILE.toml", help="a recipe; `bench paper list` shows all"
    )
    paper.add_argument("--scale", choices=("paper", "pocket"), default="paper", help="pocket: the grid on a laptop")
    paper.add_argument("--table", action="store_true", help="run nothing: the table from what has been run")
    paper.add_argument("--dry-run", action="store_true", help="run nothing: what would be run")
    paper.add_argument("--csv", action="store_true", help="print CSV; of counts with the reason of every erratum")
    paper.add_argument("--seeds", type=numbers, metavar="N[,N...]", help="default: the protocol's")
    paper.add_argument("--skip-missing", action="store_true", help="leave out datasets that are not here")
    data.add_data_root(paper)
    arguments.add_launch(paper)
    arguments.add_out(paper)

    dimension.add_parser(verb)
    results.add_parser(verb)
    status.add_parser(verb)
    verify.add_parser(verb)
    forgetting.add_parser(verb)
    data.add_parser(verbs)

    doctor = verb("doctor", doctor_command, "check versions, devices, weights and data, and say what to do")
    data.add_data_root(doctor)
    doctor.add_argument("--json", action="store_true", help="print one JSON object instead of text")

    pretrain = verb("pretrain", pretrain_command, "train a pocket backbone from scratch; resumes where it stopped")
    pretrain.add_argument("backbone")
    pretrain.add_argument("--data", type=Path, required=True, metavar="DIR", help="DIR/{train,test}/<class>/*.jpg")
    pretrain.add_argument("--out", type=Path, default=Path("weights"), metavar="DIR", help="default: weights")
    pretrain.add_argument("--epochs", type=positive)
    pretrain.add_argument("--seed", type=int, default=0)
    pretrain.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda"))
    pretrain.add_argument("--threads", type=positive, help="default: one per core")
    return top


# list, count, doctor, pretrain ----------------------------------------------------------------------------------------


def list_command(args: argparse.Namespace) -> int:
    rows: list[tuple[str, ...]]
    if args.what == "methods":
        from bench.models import registry

        rows = [("method", "family", "backbones", "merges", "paper", "hyper-parameters")]
        rows += [
            (
                " = ".join((e.name, *e.aliases)),
                *(e.family, " ".join(e.supports), "yes" if e.merges else "no", e.paper, e.defaults),
            )
            for e in registry.entries(args.plugin).values()
        ]
    elif args.what == "backbones":
        rows = [("pocket_vit_patch8", "ViT, 32 px, bundled"), ("pocket_swin_patch4", "Swin, 32 px, bundled")]
        rows += [
            (name, "the same of the first suite `pocket`, four times slower") for name in ("pocket_vit", "pocket_swin")
        ]
        rows.append(("cvt_13", "CvT, 224 px, from transformers: pip install 'petbench[cvt]'"))
        rows.append(
            ("any timm tag", "of a VisionTransformer, Swin, Swin-v2 or Eva, e.g. vit_base_patch16_224.orig_in21k")
        )
    else:
        from bench.core import configs

        suites = [configs.suite(name) for name in configs.suite_names()]
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
                for p in configs.protocols().values()
            ]
    print_rows(rows)
    return 0


def count_command(args: argparse.Namespace) -> int:
    from bench.models import registry
    from bench.models.method import build

    method = build(registry.load(args.method, args.plugin), arguments.settings_of(args.set), args.method)

    from bench.core.schema import plain
    from bench.models import static_cost

    counted = static_cost.count(method, args.backbone, args.classes)
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
    if (end := counted.deployed) is not None:
        left = f"{end.least:,}" if end.least == end.most else f"{end.least:,} to {end.most:,}"
        where = "" if end.least == end.most else "; training decides where: here as random weights would"
        print(f"after {console.counted(end.removals, 'removal')}, as it is deployed{where}")
        print(
            f"  trained parameters  {end.params.method + end.params.head:,}  (method {left}, head {end.params.head:,})"
        )
        print(f"  GFLOPs an image     {end.flops / 1e9:.4f}")
        print(f"  storage             {end.storage_bytes.with_head:,} bytes")
    print(f"  counted by          {counted.flops_counter}")
    return 0


def check_command(args: argparse.Namespace) -> int:
    from bench import api

    plugins, name = list(args.plugin), args.method
    if name.endswith(".py"):
        plugins.append(Path(name))
        name = Path(name).stem
    settings = arguments.settings_of(args.set)
    faults: Counter[str] = Counter()
    for method, backbone, findings in api.checks(name.split(","), args.backbone.split(","), plugins, settings):
        print(f"{method} on {backbone}")
        for promise, fault in findings:
            mark = "    " if promise == "refuses" else "ok  " if fault is None else "FAIL"
            faults[mark] += 1
            print(f"  {mark} {promise}", fault or "", flush=True)
    refused = console.counted(faults["    "], "backbone")
    print(f"{faults['ok  ']} conformance checks passed, {faults['FAIL']} failed; {refused} refused as declared.")
    return 1 if faults["FAIL"] else 0


def paper_command(args: argparse.Namespace) -> int:
    from bench.cli import paper

    return paper.paper_command(args)


def doctor_command(args: argparse.Namespace) -> int:
    from bench.tools import doctor

    findings = doctor.examine(args.data_root)
    if args.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings]))
    else:
        for finding in findings:
            print(f"{finding.level:8} {finding.topic:12} {finding.text}")
    return 2 if Counter(finding.level for finding in findings)["problem"] else 0


def pretrain_command(args: argparse.Namespace) -> int:
    import torch

    from bench.execution.executors.local import local_device
    from bench.tools import pretrain

    if args.threads:
        torch.set_num_threads(args.threads)
    recipe = dataclasses.replace(pretrain.recipe_of(args.backbone), seed=args.seed)
    if args.epochs:
        recipe = dataclasses.replace(recipe, epochs=args.epochs)
    path = pretrain.pretrain(
        args.backbone, args.data, args.out, recipe, local_device(args.device), lambda line: print(line, flush=True)
    )
    print(path)
    return 0
