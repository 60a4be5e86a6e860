"""bench paper: what the papers print, against what is here."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

from bench.cli import arguments, console
from bench.cli.plan import print_plan
from bench.core import recipes
from bench.core.text import counted, duration, table, terminal_width

if TYPE_CHECKING:
    from pathlib import Path

    import pandas as pd
    from matplotlib.figure import Figure

    from bench.execution.request import RunRequest
    from bench.tools.published import Compared

GFLOPS = {  # of one forward pass at 224 pixels, as bench.models.static_cost counts them
    "swin_tiny_patch4_window7_224": 9.0,
    "swin_small_patch4_window7_224": 17.4,
    "swin_large_patch4_window7_224": 68.9,
    "vit_base_patch16_224": 35.1,
    "vit_base_patch32_clip_quickgelu_224": 8.8,
    "cvt_13": 9.0,
}


def paper_command(args: argparse.Namespace) -> int:
    """Exit code 0: everything asked for is there; 1: a run has no result, or a printed count is unexplained."""
    if args.what == "list":
        return _list()
    if args.what == "counts":
        return _counts(args)
    if args.what == "costs":
        return _costs()
    recipe = recipes.read(args.what)
    if args.scale == "pocket":
        from bench.execution.recipes import at_pocket

        recipe = at_pocket(recipe)
    return show(recipe, args) if args.table else run(recipe, args)


def _list() -> int:
    from bench.execution.recipes import hours, runs

    rows = [("recipe", "item", "what", "needs", "runs", "one H100")]
    for name in recipes.names():
        recipe = recipes.read(name)
        backbones = sorted({recipe.backbone_of(row) for row in recipe.rows})
        gflops = {tag: GFLOPS[tag.partition(".")[0]] for tag in backbones}
        time = duration(3600 * hours(recipe, gflops))
        models = backbones[0].partition(".")[0] if len(backbones) == 1 else counted(len(backbones), "backbone")
        needs = f"{counted(len(recipe.keys), 'dataset')} of {recipe.suite}, {models}"
        rows.append((name, recipe.item, recipe.title, needs, str(runs(recipe)), time))
    print("\n".join(table(rows, left=4, width=terminal_width())))
    print("Times are arithmetic, not measured: three passes an image at 30 TFLOP/s, all seeds. With --scale pocket")
    print("every recipe runs on a laptop. What of that is here: 'bench data status SUITE', 'bench doctor'.")
    print("Without a recipe: PEViT, table 1 ('bench paper costs'); MiMi, figure 3 (the plot that any results get);")
    print("TINA, table 9 ('bench data list').")
    return 0


def _requests(recipe: recipes.Recipe, args: argparse.Namespace) -> tuple[RunRequest, ...]:
    from bench.execution.recipes import requests

    root = str(args.data_root) if args.data_root else None
    return requests(recipe, seeds=args.seeds, out=str(args.out), data_root=root, skip_missing=args.skip_missing)


def run(recipe: recipes.Recipe, args: argparse.Namespace) -> int:
    """Runs what a recipe lacks and shows it; with --dry-run says what it lacks."""
    from bench.cli.data import progress_line
    from bench.cli.progress import showing
    from bench.execution.planner import work_out
    from bench.execution.run import execute

    wanted, launch = _requests(recipe, args), arguments.launch_of(args)
    asked = [work_out(each, launch, console.warn, progress_line, prepare=not args.dry_run) for each in wanted]
    total, left = sum(len(each.jobs) for each in asked), sum(len(each.plan.runs) for each in asked)
    print(f"{recipe.item}: {console.counted(total, 'run')}, {left} to do. Results go to {args.out}/.")
    if args.dry_run:
        for each in asked:
            print(f"\n{each.plan.runs[0].spec.backbone if each.plan.runs else 'nothing left'}:", end=" ")
            print_plan(each)
        return 0
    ends, detached = [], False
    for each in asked:
        with showing(each.plan, quiet=False) as report:
            done = execute(each, args.out, report, console.warn)
        ends.append(done.account)
        detached |= done.detached
    if detached:
        print(f"'{console.hint('status', args.out)}' shows how far they are; the same command with --table the table.")
        return 0
    show(recipe, args)
    for end in ends:
        print(end.summary())
        for line in end.reasons():
            print(f"  {console.printable(line)}")
    return 2 if any(end.left_out for end in ends) else 0 if all(end.complete for end in ends) else 1


def show(recipe: recipes.Recipe, args: argparse.Namespace) -> int:
    """What a results folder has of a recipe. Exit code 1 where a cell has no run."""
    from bench import report

    runs = report.load(args.out, console.warn).runs
    made, lines, files = (_dimensions if recipe.kind == "dimension" else _table)(recipe, args, runs)
    if args.csv:
        made.to_csv(sys.stdout, index=False, lineterminator="\n", float_format="%.10g")
    else:
        print(f"{recipe.item}: {recipe.title}")
        print("\n".join([*lines, "Files:", *(f"  {path}" for path in files)]))
    return 1 if made["measured"].isna().any() else 0


def _table(
    recipe: recipes.Recipe, args: argparse.Namespace, runs: pd.DataFrame
) -> tuple[pd.DataFrame, list[str], list[Path]]:
    """The table's cells, the lines that show it, and the files it was written to."""
    from bench.execution.recipes import table as recipe_table
    from bench.report import papers, plots

    made = recipe_table(recipe, runs)
    files = papers.write(recipe, made, args.out)
    if recipe.kind == "figure" and (figure := _figure(recipe, args, runs, made)) is not None:
        files += plots.save(figure, papers.stem_of(recipe, args.out))
    return made, papers.lines(recipe, made, terminal_width()), files


def _figure(recipe: recipes.Recipe, args: argparse.Namespace, runs: pd.DataFrame, made: pd.DataFrame) -> Figure | None:
    """What a recipe shows; None where there is nothing to draw. `made` is its table."""
    from bench.core.store import Store
    from bench.execution.recipes import parts
    from bench.report import cycle_figures, paper_figure

    if recipe.shows == "accuracy":
        return paper_figure.figure_of(recipe, made)
    if recipe.shows == "pe":
        return paper_figure.efficiency(recipe, made)
    found = parts(recipe, runs)
    if recipe.shows == "loss":
        wanted = {digest for _, own in found for digest in own["digest"]}
        records = [record for record in Store(args.out).records(console.warn) if record.spec.digest in wanted]
        return cycle_figures.losses(recipe, found, {record.spec.digest: record.epochs for record in records})
    return cycle_figures.neurons(recipe, found, share=recipe.shows == "left")


def _dimensions(
    recipe: recipes.Recipe, args: argparse.Namespace, runs: pd.DataFrame
) -> tuple[pd.DataFrame, list[str], list[Path]]:
    """The same of a recipe that measures intrinsic dimensions."""
    from bench.execution.dimension import adapted
    from bench.execution.recipes import parts
    from bench.report import dimension, papers

    made = dimension.shares(parts(recipe, runs), recipe.keys)
    found = dimension.dimensions(made, recipe.share)
    told = dimension.lines(found, recipe.share, adapted(recipe))
    files = dimension.write(recipe, made, told, papers.stem_of(recipe, args.out))
    columns = dimension.cells(made)
    rows = table([tuple(columns), *zip(*columns.values(), strict=True)], left=1, width=terminal_width())
    return made, [*rows, "", *told, *papers.protocols_differ(recipe)], files


def _counts(args: argparse.Namespace) -> int:
    """Every printed number of trained parameters against ours. Exit code 1 where one is unexplained."""
    from bench.tools import published

    rows = published.read()
    compared = published.compare(filter(published.buildable, rows))
    if len(compared) < len(rows):
        left = f"{len(rows) - len(compared)} rows on a CvT are left out"
        console.warn(f"{left}, which needs Hugging Face transformers: pip install 'petbench[cvt]'.")
    if args.csv:
        _write_csv(compared)
    else:
        _print_table(compared)
    return 1 if any(c.verdict == "unexplained" for c in compared) else 0


def _costs() -> int:
    """GFLOPs, megabytes and closed forms in print, against models of those settings. Exit code 1 where one is neither
    met nor explained."""
    from bench.tools import published_costs, published_formulas

    compared = published_costs.compare()
    print("\n".join([*published_costs.lines(compared), "", *published_formulas.lines()]))
    return 1 if any(not (each.agrees or each.note) for each in compared) else 0


def _write_csv(compared: Iterable[Compared]) -> None:
    from bench.tools.published import Row

    names = [field.name for field in dataclasses.fields(Row)]
    out = csv.writer(sys.stdout, lineterminator="\n")
    out.writerow([*names[:-2], "ours", "agreement", "verdict", "note"])
    for c in compared:
        fields = [getattr(c.row, name) for name in names[:-2]]
        out.writerow([*fields, f"{c.ours:f}", c.agreement, c.verdict, c.row.note])


def _print_table(compared: Iterable[Compared]) -> None:
    from bench.tools.published import summary

    head = ("source", "row", "method", "published", "ours", "verdict")
    lines = [head]
    for c in compared:
        row = c.row
        verdict = f"{c.verdict}, {c.agreement}" if c.verdict == "match" else c.verdict
        printed = f"{row.published} M" if row.unit == "M" else f"{int(row.published):,}"
        ours = f"{c.ours:,.0f}"
        settings = "(mean of several)" if "|" in row.settings else row.settings
        lines.append((f"{row.paper} {row.table}", row.row, f"{row.method} {settings}".strip(), printed, ours, verdict))
    widths = [max(len(line[i]) for line in lines) for i in range(len(head))]
    right = {"published", "ours"}
    for line in lines:
        cells = zip(head, line, widths, strict=True)
        print("  ".join(cell.rjust(w) if name in right else cell.ljust(w) for name, cell, w in cells).rstrip())
    print(f"{summary(compared)}. Reasons: column `note` of --csv.")
