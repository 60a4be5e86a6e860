r"""A leaderboard for a paper: LaTeX with booktabs, one table a backbone. Needs \usepackage{booktabs}."""

from __future__ import annotations

import pandas as pd

from bench.core.text import latex as escape
from bench.report.cells import DASH, column, human, one, three, unique
from bench.report.standings import Groups, Headline
from bench.report.tables import best_cells, dataset_columns, first_tied, ranks, with_interval


def latex(table: pd.DataFrame, runs: pd.DataFrame, groups: Groups, headline: Headline, title: str) -> str:
    """One table a backbone: datasets under their groups, the mean that ranks with half its interval, rank, cost.

    Bold and underlined means are of the first and the second tie group; in a dataset's column bold is the best and what
    its interval does not tell from it, and nothing is underlined. `runs` are the records behind `table`.
    """
    blocks = [
        _table(rows.reset_index(drop=True), runs[runs["backbone"] == backbone], groups, headline, title)
        for backbone, rows in table.groupby("backbone", sort=True)
    ]
    return "\n\n".join(blocks) + "\n"


def _table(rows: pd.DataFrame, runs: pd.DataFrame, groups: Groups, headline: Headline, title: str) -> str:
    full = {name: keys for name, keys in groups.items() if keys}
    best = best_cells(rows, runs, groups, headline)
    columns = [
        [_bold(cell, bold) for cell, bold in zip(column(rows, name, one), best[:, place], strict=True)]
        for place, name in enumerate(dataset_columns(rows))
    ]
    marks = zip(with_interval(rows, headline), first_tied(rows, headline), rows["tie_group"] == 2, strict=True)
    means = [_underlined(_bold(_math(cell), first), second) for cell, first, second in marks]
    spans = [cell if cell == DASH else cell.replace("-", "--") for cell in ranks(rows)]
    sides = [spans, column(rows, "params_trained", human), column(rows, "gflops_unmerged", three)]
    names = [escape(_name(method, variant)) for method, variant in zip(rows["method"], rows["variant"], strict=True)]
    lines = [names, *columns, means, *sides]
    body = [" & ".join(cells) + r" \\" for cells in zip(*lines, strict=True)]
    places, rules = 2, []
    for keys in full.values():
        rules.append(rf"\cmidrule(lr){{{places}-{places + len(keys) - 1}}}")
        places += len(keys)
    over = [rf"\multicolumn{{{len(keys)}}}{{c}}{{{escape(name)}}}" for name, keys in full.items()]
    headings = [rf"\rotatebox{{90}}{{{escape(name)}}}" for name in dataset_columns(rows)]
    seeds = (
        f"{rows['seeds'].min()} to {rows['seeds'].max()}" if rows["seeds"].nunique() > 1 else str(rows["seeds"].max())
    )
    caption = escape(
        f"{title}. {rows['backbone'].iloc[0]}, {unique(rows, 'protocol')}, {seeds} seeds. Accuracy in %; the mean "
        f"({headline.removeprefix('mean_')}) with half its 95 % interval over seeds; bold: tied for first; underlined: "
        "second tie group; rank: the ranks a row may have; parameters: trained, head included."
    )
    return "\n".join(
        [
            r"\begin{table}",
            rf"\caption{{{caption}}}",
            rf"\begin{{tabular}}{{l{'r' * (len(columns) + 4)}}}",
            r"\toprule",
            " & ".join(["", *over, "", "", "", ""]) + r" \\",
            " ".join(rules),
            " & ".join(["method", *headings, "mean", "rank", "parameters", "GFLOPs"]) + r" \\",
            r"\midrule",
            *body,
            r"\bottomrule",
            r"\end{tabular}",
            r"\end{table}",
        ]
    )


def _name(method: str, variant: str) -> str:
    return method if variant == "default" else f"{method} ({variant})"


def _math(cell: str) -> str:
    return cell.replace(" ± ", r"\,$\pm$\,")


def _bold(cell: str, bold: bool) -> str:
    return rf"\textbf{{{cell}}}" if bold else cell


def _underlined(cell: str, line: bool) -> str:
    return rf"\underline{{{cell}}}" if line else cell
