"""bench.report: the numbers of a table, what it refuses, and figures whose names can be read."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import scipy.stats
from helpers.records import GROUPS, KEYS, PROTOCOL, PROVENANCE, cycle, make
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from bench.core import configs
from bench.core.configs import Suite, SuiteCard
from bench.core.errors import UsageError
from bench.core.record import Record
from bench.core.spec import Protocol
from bench.models import registry
from bench.report import load, write_all
from bench.report.aggregate import COSTS, leaderboard
from bench.report.cells import human
from bench.report.frame import frame, seen_in_pretraining
from bench.report.heatmap import heatmap_figure
from bench.report.labels import place
from bench.report.looks import COLOURS, look
from bench.report.parts import Part, divide
from bench.report.phases import neurons_figure, trails
from bench.report.plots import tradeoff_figure, with_overhead
from bench.report.standings import Headline
from bench.report.tables import markdown, terminal, write_csv


@pytest.fixture(scope="module")
def pocket() -> Part:
    return load(Path(__file__).parents[2] / "results" / "pocket-v1").parts[0]


def grid(scores: dict[str, list[float]], **options: Any) -> list[Record]:
    """Every dataset of GROUPS at every seed: method -> scores of its seeds, the same on all datasets."""
    return [
        make(method, key, seed, score, **options)
        for method, values in scores.items()
        for key in KEYS
        for seed, score in enumerate(values)
    ]


def crowd(methods: int) -> list[Record]:
    """Many methods within two percent and a factor of ten: names must be moved to be read."""
    rng = np.random.default_rng(1)
    records: list[Record] = []
    for number in range(methods):
        trained, score = int(10 ** rng.uniform(4.4, 5.4)), 0.8 + rng.normal(0, 0.008)
        flops = 2 * 10**9 + int(rng.choice([0, 0, rng.uniform(0, 10**8)]))  # two thirds add nothing
        for key in KEYS:
            for seed in range(2):
                noisy = float(score + rng.normal(0, 0.01))
                records.append(make(f"method_{number}", key, seed, noisy, trained=trained, flops=flops))
    return records


def board(records: list[Record], headline: Headline = "mean_datasets", mixed: bool = False) -> pd.DataFrame:
    return leaderboard(frame(records), GROUPS, headline, mixed)


def test_means_are_over_seeds_then_datasets_then_groups() -> None:
    scores = dict(zip(KEYS, (0.9, 0.7, 0.6, 0.4, 0.3, 0.5, 0.2, 0.4), strict=True))
    records = [make("lora", key, seed, score + 0.02 * seed) for key, score in scores.items() for seed in (0, 1)]
    row = board(records).iloc[0]
    assert row["digits"] == pytest.approx(91)  # 90 and 92
    assert row["mean_datasets"] == pytest.approx(51)  # (90 + 70 + 60 + 40 + 30 + 50 + 20 + 40) / 8 + 1
    assert row["mean_groups"] == pytest.approx((80 + 50 + 35) / 3 + 1)
    assert (row["coverage"], row["seeds"], row["failed"], row["skipped"]) == (1.0, 2, 0, 0)
    assert row["ci95_low"] < 51 < row["ci95_high"]
    assert row["std_digits"] == pytest.approx(math.sqrt(2))


def test_columns_stand_in_their_order() -> None:
    names = list(board(grid({"lora": [0.5]})).columns)
    assert names[:3] == ["method", "variant", "backbone"]
    assert names[3:11] == list(KEYS)
    rest = "mean_datasets mean_groups ci95_low ci95_high bound_low bound_high tie_group rank_best rank_worst ties_over"
    rest += " params_method params_deployed params_head params_trained trained_percent"
    rest += " gflops_unmerged gflops_merged gflops_linear_conv storage_mb storage_mb_without_head bits_per_parameter"
    rest += " train_seconds train_images_per_second inference_images_per_second merged_images_per_second"
    rest += " train_mb inference_mb peak_mb peak_inference_mb pe"
    rest += " coverage seeds failed skipped rule protocol weights"
    assert " ".join(names[11:]) == " ".join([rest, *(f"std_{key}" for key in KEYS)])


def test_costs_are_means_over_datasets_in_their_units() -> None:
    heads = dict(zip(KEYS, (100, 200, 300, 400, 500, 600, 700, 800), strict=True))
    records = [
        make("mimi", key, 0, 0.5, trained=10_000, head=head, deployed=4_000, flops=3 * 10**9, merged=10**9)
        for key, head in heads.items()
    ]
    measured = {"train_bytes": 5 * 10**6, "inference_bytes": 4 * 10**6, "merged_images_per_second": 300.0}
    costs = [dataclasses.replace(record.cost, **measured) for record in records if record.cost]
    row = board([dataclasses.replace(record, cost=cost) for record, cost in zip(records, costs, strict=True)]).iloc[0]
    assert (row["params_method"], row["params_deployed"], row["params_head"]) == (10_000, 4_000, 450)
    assert (row["train_mb"], row["inference_mb"], row["merged_images_per_second"]) == (5, 4, 300)
    assert math.isnan(row["peak_mb"]) and math.isnan(row["peak_inference_mb"])  # no accelerator
    assert row["bits_per_parameter"] == 8 * 10 * 4_000 / 4_000  # the stored bytes are those of 10,000 numbers
    assert row["params_trained"] == 4_450  # what is left of the method, and the head
    assert row["trained_percent"] == pytest.approx(0.445)
    assert (row["gflops_unmerged"], row["gflops_merged"]) == (3, 1)
    assert (row["storage_mb"], row["storage_mb_without_head"]) == (pytest.approx(0.0418), pytest.approx(0.04))
    assert row["pe"] == pytest.approx(0.5 * math.exp(-math.log10(4_450 / 1e8 + 1)))


@pytest.mark.parametrize("status", ["failed", "skipped"])
def test_a_mean_that_lacks_a_dataset_is_missing_and_its_row_is_last(status: str) -> None:
    records = [
        r for r in grid({"best": [0.9], "worst": [0.1]}) if (r.spec.method, r.spec.dataset) != ("best", "pocket/count")
    ]
    table = board([*records, make("best", "count", 0, None, status=status)])
    assert list(table["method"]) == ["worst", "best"]
    row = table.iloc[1]
    assert row["digits"] == pytest.approx(90)
    for name in ("count", "mean_datasets", "mean_groups", "ci95_low", "tie_group", "rank_best", "pe"):
        assert math.isnan(row[name]), name
    for name in set(COSTS) - {"pe"}:  # of the datasets that are there, as its coverage tells
        assert row[name] == table.iloc[0][name] or math.isnan(table.iloc[0][name]), name
    assert (row["bound_low"], row["bound_high"]) == (pytest.approx(7 * 90 / 8), pytest.approx((7 * 90 + 100) / 8))
    assert (row["coverage"], row["seeds"], row[status]) == (7 / 8, 1, 1)


def test_a_failed_seed_is_counted_and_the_smallest_number_of_seeds_shown() -> None:
    records = [r for r in grid({"lora": [0.5, 0.7, 0.9]}) if (r.spec.seed, r.spec.dataset) != (2, "pocket/digits")]
    row = board([*records, make("lora", "digits", 2, None)]).iloc[0]
    assert row["digits"] == pytest.approx(60)
    assert (row["seeds"], row["failed"], row["coverage"]) == (2, 1, 1.0)


def test_rows_are_sorted_by_the_headline_asked_for() -> None:
    uneven = [make("a", key, 0, 1.0 if key in GROUPS["structured"] else 0.1) for key in KEYS]  # 55, groups 40
    records = [*uneven, *grid({"b": [0.5]})]
    assert list(board(records, "mean_datasets")["method"]) == ["a", "b"]
    assert list(board(records, "mean_groups")["method"]) == ["b", "a"]


OTHER = dataclasses.replace(PROTOCOL, name="pocket@v2")
SAME_NAME = dataclasses.replace(PROTOCOL, epochs=9)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"rule": "validation"}, "different rules, last, validation"),
        ({"protocol": OTHER}, "different protocols, pocket@v1, pocket@v2"),
        ({"protocol": SAME_NAME}, "different protocols under the name pocket@v1"),
        ({"weights": "random"}, "pocket_vit has different weights"),
    ],
)
def test_what_does_not_compare_is_refused_unless_asked_for(options: dict[str, Any], words: str) -> None:
    records = grid({"lora": [0.5]}) + grid({"bitfit": [0.4]}, **options)
    with pytest.raises(UsageError, match=words):
        board(records)
    assert len(board(records, mixed=True)) == 2
    if "rule" not in options:  # which never differs within a row
        assert len(board(grid({"lora": [0.5]}) + grid({"lora": [0.4]}, **options), mixed=True)) == 2


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        (make("full", "digits", 0, 0.5, fingerprint="02" * 32), "pocket/digits has 2 fingerprints"),
        (make("lora", "digits", 0, 0.6), "more than one record of pocket/digits, seed 0"),
        (make("lora", "digits", 1, 0.6, version=2), "different hyper-parameters or versions"),
        (make("lora", "digits", 1, 0.6, rule="validation"), "mixes the rules last, validation in one row"),
        (make("lora", "cats", 0, 0.6), "Records of pocket/cats, which the suite's groups do not name"),
        (make("lora", "digits", 0, 0.6, suite="vtab"), "datasets of several"),
    ],
)
def test_what_cannot_stand_in_one_cell_is_always_refused(extra: Record, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        board([*grid({"lora": [0.5]}), extra], mixed=True)


@pytest.mark.parametrize(
    ("changes", "things"),
    [
        ({"harness_sha256": "5" * 64}, "states of the harness"),
        ({"method_sha256": "6" * 64}, "states of the method's code"),
        ({"versions": {"torch": "2.6.0"}}, "versions of torch"),
        ({"dtype": "bf16"}, "precisions"),
        ({"device": "cuda"}, "devices"),
        ({"transform": "another"}, "transforms of images"),
        ({"weights_sha256": "7" * 64}, "weights of the backbone"),
    ],
)
def test_a_row_that_averages_what_was_made_otherwise_says_so(changes: dict[str, Any], things: str) -> None:
    same = grid({"lora": [0.5, 0.6], "bitfit": [0.4, 0.5]})
    assert [part.note for part in divide(frame(same))] == [""]
    other = make("lora", "digits", 2, 0.6)
    other = dataclasses.replace(other, provenance=dataclasses.replace(other.provenance, **changes))
    (part,) = divide(frame([*same, other]))
    assert part.note == f"Made with different {things}: the runs of lora."


def test_rows_that_look_like_one_network_are_named() -> None:
    """The same score in every run, scores that differ among each other, and as many parameters."""

    def note(scores: list[float], trained: int = 1000) -> str:
        rows = {"lora": [0.5, 0.6, 0.7], "bitfit": scores}
        runs = [
            make(method, key, 0, score, trained=trained if method == "bitfit" else 1000)
            for method, own in rows.items()
            for key, score in zip(KEYS, own, strict=False)
        ]
        (part,) = divide(frame(runs))
        return part.note

    one = "Like one network on pocket_vit, the same score in every run and as many parameters: bitfit, lora."
    assert note([0.5, 0.6, 0.7]) == one
    assert note([0.5, 0.6, 0.71]) == note([0.5, 0.6, 0.7], trained=999) == note([0.5, 0.6]) == ""
    constant = [make(method, key, 0, 1.0) for method in ("lora", "bitfit") for key in KEYS]
    assert [part.note for part in divide(frame(constant))] == [""]


def test_heads_that_start_from_different_texts_are_refused() -> None:
    def from_texts(digit: str, seed: int) -> Record:
        made = make("lora", "digits", seed, 0.5)
        return dataclasses.replace(made, provenance=dataclasses.replace(made.provenance, texts_sha256=digit * 64))

    board([from_texts("1", 0), from_texts("1", 1)])
    with pytest.raises(UsageError, match="2 sets of texts among the records"):
        board([from_texts("1", 0), from_texts("2", 1)], mixed=True)


def test_a_frame_leaves_missing_what_is_missing() -> None:
    rows = frame([make("lora", "digits", 0, 0.5), make("lora", "digits", 1, None)])
    assert list(rows["status"]) == ["done", "failed"]
    assert rows.loc[1, ["score", "params_method", "flops_unmerged", "val"]].isna().all()
    assert rows.loc[0, ["flops_merged", "peak_bytes", "val"]].isna().all()
    assert list(rows["variant"]) == ["default", "default"]


def test_the_same_records_in_any_order_give_the_same_bytes(tmp_path: Path) -> None:
    records = grid({"lora": [0.512345, 0.61, 0.7], "full": [0.7, 0.8, 0.75]}, merged=10**9)
    one = write_csv(board(records), tmp_path / "one.csv").read_bytes()
    two = write_csv(board(records[::-1]), tmp_path / "two.csv").read_bytes()
    assert one == two
    pd.testing.assert_frame_equal(frame(records), frame(records[::-1]))
    read = pd.read_csv(tmp_path / "one.csv")
    assert read.loc[1, "digits"] == pytest.approx((51.2345 + 61 + 70) / 3, abs=1e-4)
    assert read.select_dtypes("number").shape[1] == 8 + 6 + 3 + 20 + 4 + 8  # no strings in numeric columns


def test_a_page_shows_the_best_the_failed_and_why() -> None:
    records = [
        r for r in grid({"a": [0.5, 0.6], "b": [0.54, 0.6], "c": [0.2, 0.3]}) if r.spec.dataset != "pocket/count"
    ]
    records += [make("a", "count", 0, None), make("a", "count", 1, None)]
    records += [
        make("b", "count", 0, None, status="skipped", reason="no | attention\nmore"),
        make("c", "count", 0, 0.3),
    ]
    records += [make("c", "count", 1, None)]
    runs = frame(records)
    page = markdown(leaderboard(runs, GROUPS, "mean_datasets"), runs, GROUPS, "mean_datasets", "Pocket")
    cells = {
        line.split("|")[1].strip(): [cell.strip() for cell in line.split("|")]
        for line in page.splitlines()
        if "|" in line
    }
    count = cells["method"].index("count")
    assert (cells["a"][count], cells["b"][count], cells["c"][count]) == ("failed", "-", "**30.0†**")
    digits = cells["method"].index("digits")
    assert (cells["a"][digits], cells["b"][digits]) == ("**55.0**", "**57.0**")  # what two seeds do not tell apart
    assert "- failed: a on count (seed 0, 1): RuntimeError: out of memory" in page
    assert "- skipped: b on count (seed 0): no \\| attention" in page


def noisy(levels: dict[str, float], seeds: int = 3, spread: float = 0.01) -> list[Record]:
    """Every dataset of GROUPS at every seed; what a seed does to a dataset is shared, and half as much is a method's."""
    rng = np.random.default_rng(0)
    shared = rng.normal(0, spread, (len(KEYS), seeds))
    return [
        make(method, key, seed, float(level + shared[place, seed] + rng.normal(0, spread / 2)))
        for method, level in levels.items()
        for place, key in enumerate(KEYS)
        for seed in range(seeds)
    ]


@pytest.mark.parametrize("headline", ["mean_datasets", "mean_groups"])
def test_the_interval_is_of_the_mean_that_ranks(headline: Headline) -> None:
    """SciPy's Student interval of one dataset's share at a time: only `location` varies over seeds."""
    records = [
        make("lora", key, seed, 0.5 + (0.1 * seed if key == "location" else 0)) for key in KEYS for seed in range(3)
    ]
    row = board(records, headline).iloc[0]
    share = {"mean_datasets": 1 / 8, "mean_groups": 1 / 12}[headline]
    low, high = scipy.stats.t.interval(0.95, 2, 60, scipy.stats.sem([50, 60, 70]))
    rest = row[headline] - share * 60
    assert (row["ci95_low"], row["ci95_high"]) == pytest.approx((rest + share * low, rest + share * high))


def test_rows_are_tied_unless_their_paired_difference_tells_them_apart() -> None:
    table = board(noisy({"a": 0.6005, "b": 0.6, "c": 0.55, "d": 0.3}))
    assert list(table["method"]) == ["a", "b", "c", "d"]
    assert list(table["tie_group"]) == [1, 1, 2, 3]
    assert list(zip(table["rank_best"], table["rank_worst"], strict=True)) == [(1, 2), (1, 2), (3, 3), (4, 4)]
    assert set(table["ties_over"]) == {"seeds"}
    lines = [line.split()[:3] for line in terminal(table).splitlines()]
    assert ["a", "1-2", "1"] in lines and ["d", "4", "3"] in lines


def test_the_first_tie_group_is_bold_and_the_half_width_stands_beside_the_mean_that_ranks() -> None:
    records = noisy({"a": 0.6005, "b": 0.6, "c": 0.55})
    runs = frame(records)
    table = leaderboard(runs, GROUPS, "mean_groups")
    lines = [" ".join(line.split()) for line in markdown(table, runs, GROUPS, "mean_groups", "Pocket").splitlines()]
    for row, bold in zip(table.to_dict("records"), (True, True, False), strict=True):
        cell = f"{row['mean_groups']:.1f} ± {(row['ci95_high'] - row['ci95_low']) / 2:.1f}"
        line = next(line for line in lines if line.startswith(f"| {row['method']} "))
        assert (f"| **{cell}** |" if bold else f"| {cell} |") in line


def test_one_seed_has_no_interval_and_no_rank_unless_groups_are_large() -> None:
    row = board(grid({"lora": [0.5], "full": [0.6]}), "mean_groups").iloc[0]
    assert np.isnan([row["ci95_low"], row["rank_best"], row["tie_group"], row["std_digits"]]).all()
    assert row["ties_over"] == ""
    rng = np.random.default_rng(0)
    records = [make(m, key, 0, float(s + rng.normal(0, 0.01))) for m, s in (("a", 0.6), ("b", 0.3)) for key in KEYS]
    table = board(records, "mean_datasets")  # eight datasets in one group
    assert list(table["ties_over"]) == ["datasets"] * 2 and list(table["tie_group"]) == [1, 2]


def test_an_incomplete_row_shows_what_its_mean_may_be() -> None:
    records = [r for r in grid({"a": [0.5, 0.6]}) if r.spec.dataset != "pocket/count"]
    runs = frame([*records, *grid({"b": [0.4, 0.5]})])
    table = leaderboard(runs, GROUPS, "mean_datasets")
    assert "| 48.1 to 60.6 |" in " ".join(markdown(table, runs, GROUPS, "mean_datasets", "Pocket").split())


@pytest.mark.parametrize(
    ("dataset", "data", "seen"),
    [
        ("multitask/cifar10", "cifar10: 50000 images, 10 classes", True),
        ("elevater-sample/cifar10", "cifar10: 50000 images, 10 classes", True),
        ("folder/cifar10-jpeg@1000", "cifar10: 50000 images, 10 classes", True),
        ("multitask/cifar10", "cifar10-jpeg: 50000 images, 10 classes", True),
        ("multitask/cifar100", "cifar10: 50000 images, 10 classes", False),
        ("vtab/cifar", "cifar10: 50000 images, 10 classes", False),
        ("pocket/digits", "cifar10: 50000 images, 10 classes", False),
    ],
)
def test_the_data_of_the_pretraining_is_known_by_its_name(dataset: str, data: str, seen: bool) -> None:
    assert seen_in_pretraining(dataset, data) is seen


def test_a_run_on_the_data_of_the_pretraining_is_marked_everywhere(tmp_path: Path) -> None:
    groups = {"tasks": ("cifar10", "svhn")}
    on_cifar10 = dataclasses.replace(PROVENANCE, pretrained_on="cifar10: 50000 images, 10 classes")
    plain = [make("lora", key, 0, 0.5, suite="multitask", backbone="other") for key in groups["tasks"]]
    marked = [
        dataclasses.replace(make("lora", key, 0, 0.5, suite="multitask"), provenance=on_cifar10)
        for key in groups["tasks"]
    ]
    runs = frame(marked + plain)
    table = leaderboard(runs, groups, "mean_datasets")
    assert dict(zip(table["backbone"], table["seen_in_pretraining"], strict=True)) == {
        "other": "",
        "pocket_vit": "cifar10",
    }
    note = "‡ cifar10: pocket_vit was pretrained on this data"
    for text in (terminal(table), markdown(table, runs, groups, "mean_datasets", "Multi-task")):
        before, after = text.split("pocket_vit", 1)  # the other backbone's block comes first
        assert "‡" not in before and "cifar10‡" in after and "svhn‡" not in after and note in text
    header, other, pocket = write_csv(table, tmp_path / "a.csv").read_text().splitlines()
    assert header.endswith(",std_svhn,seen_in_pretraining") and other.endswith(",") and pocket.endswith(",cifar10")
    without = leaderboard(frame(plain), groups, "mean_datasets")
    assert "seen_in_pretraining" not in without.columns and "‡" not in terminal(without)


def test_a_terminal_table_fits_150_columns() -> None:
    table = board(grid({"linear_probe": [0.5], "consolidator": [0.6]}, trained=12_345_678))
    text = terminal(table)
    assert max(map(len, text.splitlines())) <= 150
    assert "12.3M" in text
    assert "shapes_sk…" in text


def test_numbers_for_people() -> None:
    assert [human(n) for n in (0, 362.5, 12_345, 999_600, 5.4e6, 1.2e9)] == ["0", "362", "12.3k", "1M", "5.4M", "1.2G"]


def test_reports_need_no_torch_and_load_nothing_until_they_write() -> None:
    light = "import sys, bench.report; assert not {'torch', 'timm', 'pandas', 'matplotlib'} & set(sys.modules)"
    whole = "from bench.report import phases, tables; assert not {'torch', 'timm', 'methods'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", f"{light}; {whole}"], check=True, timeout=120, cwd=Path(__file__).parents[2])


@pytest.mark.parametrize(("cost", "methods"), [("params_trained", 35), ("gflops_unmerged", 14)])
def test_no_name_covers_another_or_leaves_the_axes(cost: str, methods: int) -> None:
    records = crowd(methods)
    table = board(records)
    figure = tradeoff_figure(table, cost, "Pocket")
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    axes = figure.axes[0]
    texts = [text for text in axes.texts if text.get_gid() == "label"]
    assert sorted(text.get_text() for text in texts) == sorted(table["method"])
    boxes = [Text.get_window_extent(text, renderer) for text in texts]  # of an Annotation: with its leader
    frame_box = axes.get_window_extent(renderer)
    for index, box in enumerate(boxes):
        assert frame_box.x0 <= box.x0 < box.x1 <= frame_box.x1
        assert frame_box.y0 <= box.y0 < box.y1 <= frame_box.y1
        assert not any(box.overlaps(other) for other in boxes[:index]), texts[index].get_text()


def test_a_name_at_the_edge_stays_within_and_off_the_lines() -> None:
    figure = Figure(figsize=(4, 3), dpi=100)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot(xlim=(0, 1), ylim=(0, 1))
    assert place(axes, [(1.0, 0.5)], ["a rather long name"], [np.asarray([(0.0, 0.5), (1.0, 0.5)])], 8)
    canvas.draw()
    box, frame_box = (Text.get_window_extent(axes.texts[0], canvas.get_renderer()), axes.get_window_extent())
    assert box.x1 <= frame_box.x1
    middle = axes.transData.transform((0.5, 0.5))[1]
    assert not box.y0 <= middle <= box.y1


def test_a_method_looks_the_same_on_every_figure_and_like_no_other() -> None:
    families = registry.families()
    looks = {method: look(method, families) for method in families}
    assert len(set(looks.values())) == len(families) > 30
    assert {looks[method][0] for method in families} <= set(COLOURS.values())
    assert look("lora", families)[0] == COLOURS["low-rank"] != look("full", families)[0]
    shown: list[dict[str, tuple[str, str]]] = []
    for methods in (("full", "lora", "mimi"), ("mimi", "bitfit")):
        figure = tradeoff_figure(
            board(grid({name: [0.5, 0.6] for name in methods})), "params_trained", families=families
        )
        points = [line for line in figure.axes[0].lines if line.get_gid() == "point"]
        table = board(grid({name: [0.5, 0.6] for name in methods}))
        shown.append({m: (p.get_color(), p.get_marker()) for m, p in zip(table["method"], points, strict=True)})
    assert shown[0]["mimi"] == shown[1]["mimi"] == looks["mimi"]


def test_colours_can_be_told_from_white() -> None:
    for colour in COLOURS.values():
        channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
        assert 1.05 / (np.dot(linear, [0.2126, 0.7152, 0.0722]) + 0.05) >= 4.5


def mimi(score: float, key: str, seed: int) -> Record:
    milestones = tuple(cycle(number, score - 0.1 * (2 - number), 800 // 2**number) for number in range(3))
    return make("mimi", key, seed, score, deployed=200, milestones=milestones)


def test_a_trail_is_the_mean_over_datasets_of_each_phase() -> None:
    records = [mimi(0.5 + 0.1 * (key == "digits") + 0.02 * seed, key, seed) for key in KEYS for seed in (0, 1)]
    found = trails(frame(records), GROUPS, "mean_datasets", "params_trained")
    last = 100 * (0.51 + 0.1 / 8)
    assert found == {
        ("mimi", "default", "pocket_vit"): [
            (1000, pytest.approx(last - 20), "cycle 0"),
            (600, pytest.approx(last - 10), "cycle 1"),
            (400, pytest.approx(last), "cycle 2"),
        ]
    }
    incomplete = frame(r for r in records if r.spec.dataset != "pocket/count")
    assert trails(incomplete, GROUPS, "mean_datasets", "params_trained") == {}
    assert trails(frame(records), GROUPS, "mean_datasets", "gflops_merged") == {}


def test_lines_are_the_neurons_left_after_each_phase() -> None:
    figure = neurons_figure(frame(mimi(0.5, "digits", seed) for seed in (0, 1)))
    assert figure is not None
    axes = figure.axes[0]
    for number, left in enumerate((800, 400, 200)):
        lines = [line for line in axes.lines if line.get_gid() == f"cycle {number}"]
        assert [list(line.get_ydata()) for line in lines] == [[left // (8 * (block + 1)) for block in range(4)]] * 2
    assert [tick.get_text() for tick in axes.get_xticklabels()] == ["0", "1", "2", "3"]
    assert axes.get_xlabel().startswith("block") and axes.get_ylabel() == "neurons left"
    assert neurons_figure(frame(grid({"lora": [0.5]}))) is None


@pytest.mark.parametrize(
    ("names", "labels"),
    [
        (["layers.{0}.blocks.{1}.attn", "layers.{0}.blocks.{1}.mlp"], ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"]),
        (
            ["cvt.encoder.stages.{0}.layers.{1}.attention.output", "cvt.encoder.stages.{0}.layers.{1}.output"],
            ["0.0", "0.1", "1.0", "1.1", "2.0", "2.1"],
        ),
    ],
)
def test_blocks_of_every_backbone_are_told_apart(names: list[str], labels: list[str]) -> None:
    sizes = {name.format(stage, block): 8 for stage in range(3) for block in range(2) for name in names}
    ends = tuple(dataclasses.replace(cycle(number, 0.5, 80), sizes=sizes) for number in range(2))
    figure = neurons_figure(frame([make("mimi", "digits", 0, 0.5, milestones=ends)]))
    assert figure is not None
    assert [tick.get_text() for tick in figure.axes[0].get_xticklabels()] == labels
    assert len(figure.axes[0].lines) == 4  # two branches, two cycles
    assert overlaps(figure) == []


def test_a_missing_cell_of_the_heatmap_has_no_number() -> None:
    records = [
        r
        for r in grid({"linear_probe": [0.4], "lora": [0.5]})
        if r.spec.dataset != "pocket/count" or r.spec.method != "lora"
    ]
    figure = heatmap_figure(board(records), GROUPS, "mean_datasets")
    shown = [text.get_text() for text in figure.axes[0].texts]
    assert (shown.count("40.0"), shown.count("50.0")) == (8 + 1, 7)  # and a mean
    assert shown.count("1") == 2  # seeds, of the datasets that are there
    assert [text for text in shown if text in GROUPS] == list(GROUPS)


def test_the_colour_of_a_cell_shows_what_it_prints() -> None:
    records = [make(m, key, 0, s) for m, s in (("a", 0.9), ("b", 0.6), ("c", 0.3)) for key in KEYS]
    figure = heatmap_figure(board(records), GROUPS, "mean_groups")
    colours = figure.axes[0].images[0].get_array()
    assert colours is not None
    assert np.allclose(colours, [[1.0] * 9, [0.5] * 9, [0.0] * 9])
    assert [text.get_text() for text in figure.axes[0].texts][8:10] == ["90.0", "1"]


def test_an_overhead_is_measured_from_linear_probing() -> None:
    records = (
        grid({"linear_probe": [0.2]}, flops=200) + grid({"lora": [0.5]}, flops=210) + grid({"full": [0.6]}, flops=200)
    )
    found = with_overhead(board(records)).set_index("method")["gflops_overhead"]
    assert found.to_dict() == pytest.approx({"linear_probe": 0, "lora": 5, "full": 0})
    without = with_overhead(board(grid({"lora": [0.5]}, flops=210, merged=200))).set_index("method")["gflops_overhead"]
    assert without["lora"] == pytest.approx(5)


def overlaps(figure: Figure) -> list[tuple[str, str]]:
    """Every two texts of a figure that cover each other, and those that leave it, beside themselves."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    renderer = canvas.get_renderer()
    texts = [t for t in figure.findobj(Text) if isinstance(t, Text) and t.get_visible() and t.get_text().strip()]
    for axes in figure.axes:  # ticks beyond the ends of an axis are there, but not drawn
        for axis in (axes.xaxis, axes.yaxis):
            drawn = {id(label) for tick in axis._update_ticks() for label in (tick.label1, tick.label2)}
            every = {id(label) for tick in (*axis.majorTicks, *axis.minorTicks) for label in (tick.label1, tick.label2)}
            hidden = every if not axes.get_visible() else every - drawn
            texts = [text for text in texts if id(text) not in hidden]
    texts = [text for text in texts if text.axes is None or text.axes.get_visible()]
    boxes = [(text.get_text(), Text.get_window_extent(text, renderer).padded(-0.5)) for text in texts]
    outside = [
        (name, name)
        for name, box in boxes
        if not figure.bbox.padded(1).containsx(box.x0) or not figure.bbox.padded(1).containsx(box.x1)
    ]
    return outside + [
        (name, other)
        for place, (name, box) in enumerate(boxes)
        for other, covered in boxes[:place]
        if box.overlaps(covered)
    ]


@pytest.mark.parametrize("backbone", ["pocket_vit", "pocket_swin"])
@pytest.mark.parametrize("kind", ["params", "gflops", "heatmap", "neurons"])
def test_no_text_of_a_committed_figure_covers_another(backbone: str, kind: str, pocket: Part) -> None:
    rows = with_overhead(pocket.table[pocket.table["backbone"] == backbone].reset_index(drop=True))
    runs = pocket.runs[pocket.runs["backbone"] == backbone]
    families, headline = registry.families(), pocket.headline
    if kind == "params":
        steps = trails(runs, pocket.groups, headline, "params_trained")
        figure = tradeoff_figure(rows, "params_trained", pocket.title, headline, steps, families)
        names = {text.get_text() for text in figure.axes[0].texts if text.get_gid() == "label"}
        assert {"cycle 0", "cycle 1", *rows.loc[rows["coverage"] == 1, "method"]} <= names
        assert len([text for text in figure.axes[0].texts if text.get_gid() == "trail"]) == 2
    elif kind == "gflops":
        figure = tradeoff_figure(rows, "gflops_overhead", pocket.title, headline, None, families)
        references = [text.get_text() for text in figure.axes[0].texts if text.get_gid() == "reference"]
        assert references == ["full", "linear\nprobe"]
    elif kind == "heatmap":
        figure = heatmap_figure(rows, pocket.groups, headline, pocket.title)
    else:
        found = neurons_figure(runs, pocket.title, KEYS)
        assert found is not None
        figure = found
    assert overlaps(figure) == []


def test_write_all_follows_the_card_and_splits_what_does_not_compare(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = SuiteCard("pocket", "Pocket suite", "pocket@v1", "pocket_vit", "mean_groups", GROUPS, "none")
    monkeypatch.setattr(configs, "suite_names", lambda: ("pocket",))
    monkeypatch.setattr(configs, "suite", lambda name: Suite(card, ()))
    records = [
        *grid({"lora": [0.5]}),
        *grid({"lora": [0.4]}, version=0),
        *grid({"lora": [0.5]}, backbone="timm/vit.b16", weights="sha256:0123456789abcdef"),
        *grid({"lora": [0.6]}, weights="random"),
        *grid({"lora": [0.6]}, protocol=OTHER),
        *grid({"lora": [0.6]}, protocol=dataclasses.replace(OTHER, epochs=9), weights="random"),
        make("lora", "pets", 0, 0.5, suite="folder"),
    ]
    found = {part.name: part for part in divide(frame(records))}
    assert [name for name in found if name.startswith("pocket@pocket-v2-")] != []
    assert {name for name in found if "v2-" not in name} == {"pocket", "pocket@random", "folder-pets"}
    assert len(found) == 5
    assert len(found["pocket"].runs) == 16
    assert found["pocket"].note == "Left out: 8 records of older versions of lora (shown: version 1)."
    assert dict(found["folder-pets"].groups) == {"all": ("pets",)}
    assert sum(len(part.runs) for part in found.values()) == len(records) - 8


def test_write_all_writes_the_same_files_twice(tmp_path: Path) -> None:
    def files(root: Path) -> dict[str, bytes]:
        records = [
            make(
                method,
                key,
                seed,
                score + 0.01 * seed,
                suite="folder",
                milestones=(cycle(0, 0.5, 80), cycle(1, score, 40)),
            )
            for method, score in (("linear_probe", 0.5), ("mimi", 0.6))
            for key in ("cats", "dogs")
            for seed in (0, 1)
        ]
        return {str(path.relative_to(root)): path.read_bytes() for path in write_all(root, records)}

    one = files(tmp_path / "one")
    figures = [
        f"plots/folder-{key}-pocket_vit-{what}.{kind}"
        for key in ("cats", "dogs")
        for what in ("params", "gflops", "heatmap", "neurons")
        for kind in ("png", "svg")
    ]
    pages = [f"leaderboards/folder-{key}.{kind}" for key in ("cats", "dogs") for kind in ("csv", "md")]
    assert sorted(one) == sorted([*pages, *figures])
    assert files(tmp_path / "two") == one
    assert not list(tmp_path.rglob("*.part"))


def test_runs_that_all_failed_still_have_a_page(tmp_path: Path) -> None:
    paths = write_all(tmp_path, [make("lora", "cats", 0, None, suite="folder")])
    assert [path.name for path in paths] == ["folder-cats.csv", "folder-cats.md"]
    assert "out of memory" in paths[1].read_text()


def test_rates_of_their_own_stand_on_one_board_where_the_protocol_has_one_for_each_method() -> None:
    def protocol(lr: float, rates: str | None) -> Protocol:
        return dataclasses.replace(PROTOCOL, name="t", lr=lr, rates=rates)

    tuned = [make(name, "digits", 0, 0.5, protocol=protocol(lr, "t")) for name, lr in (("lora", 1e-3), ("full", 1e-4))]
    assert set(leaderboard(frame(tuned), {"all": ("digits",)}, "mean_datasets")["method"]) == {"lora", "full"}
    mixed = [make(name, "digits", 0, 0.5, protocol=protocol(lr, None)) for name, lr in (("lora", 1e-3), ("full", 1e-4))]
    with pytest.raises(UsageError, match="follow different protocols under the name t"):
        leaderboard(frame(mixed), {"all": ("digits",)}, "mean_datasets")
