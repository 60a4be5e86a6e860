"""The papers' counts against ours: every row as declared, none of the papers' rows forgotten, and the integers by name."""

from __future__ import annotations

import argparse
import csv
import dataclasses
import re
from decimal import Decimal
from pathlib import Path

import pytest

from bench.cli import paper
from bench.core.errors import UsageError
from bench.core.recipes import published_folder
from bench.tools import published
from bench.tools.published import Compared, Row

SWIN, SWIN_B = "swin_tiny_patch4_window7_224", "swin_base_patch4_window7_224"
VIT, CLIP = "vit_base_patch16_224", "vit_base_patch32_clip_quickgelu_224+projection"
HEAD_100, HEAD_345, HEAD_ELEVATER = 100 * 769, 345 * 769, Decimal("29523.15")  # the last: 513 x 57.55
RELEASED = "branches=mlp norm=true hidden=64 bias=true"  # PEViT's adapter

# method, settings, backbone, head, trained parameters
NAMED = [
    ("lora", "rank=4 targets=q+k bias=lora_only", SWIN, HEAD_345, 349_209),  # the four of TINA, table 10
    ("lora", "rank=8 targets=q+k bias=lora_only", SWIN, HEAD_345, 419_865),
    ("lora", "rank=16 targets=q+k bias=lora_only", SWIN, HEAD_345, 561_177),
    ("lora", "rank=32 targets=q+k bias=lora_only", SWIN, HEAD_345, 843_801),
    ("bitfit", "tables=true", SWIN, HEAD_345, 340_851),
    ("adapters", "sigma=64 basis=mlp", SWIN, HEAD_345, 804_441),
    ("vpt_deep", "prompts=100", SWIN, HEAD_100, 518_500),
    ("adapter_drop", f"keep=12 {RELEASED}", CLIP, HEAD_ELEVATER, 1_237_587),  # the six of PEViT's README
    ("lora", "rank=4", CLIP, HEAD_ELEVATER, 176_979),
    ("compacter", "branches=mlp hidden=64 norm=true rule=fixed", CLIP, HEAD_ELEVATER, 77_907),
    ("kadaptation", "", CLIP, HEAD_ELEVATER, 79_699),
    ("full", "", CLIP, HEAD_ELEVATER, 87_878_739),  # the projection to 512 features among it
    ("linear_probe", "", CLIP, HEAD_ELEVATER, 29_523),
]

# method, settings, trained parameters without head, by arithmetic on the shapes
SHAPES = {
    SWIN: [
        ("full", "", 27_519_354),
        ("att_blocks", "", 8_667_162),
        ("mlp_blocks", "", 17_274_432),
        ("adapters", "sigma=2048 basis=mlp", 17_664),
        ("adapters", "hidden=61", 1_077_504),
        ("phm_adapter", "n=12 sigma=8", 182_736),
        ("compacter", "n=12 sigma=8 rule=own", 112_752),
        ("compacter", "n=12 sigma=8", 31_536),
        ("vpt_deep", "prompts=10", 44_160),
        ("vpt_shallow", "prompts=100", 9_600),
        ("adaptformer", "", 570_432),
        ("adaptformer", "norm=true", 579_264),
        ("adaptformer", "hidden=256 norm=true", 2_277_312),
        ("ssf", "", 104_448),
        ("fact_tt", "rank=32", 239_616),
        ("fact_tk", "rank=32", 129_536),
        ("ln_tuning", "", 24_768),
    ],
    SWIN_B: [
        ("full", "", 86_743_224),
        ("lora", "", 385_024),
        ("adaptformer", "hidden=8", 204_736),
        ("adaptformer", "", 1_553_664),
        ("repadapter", "", 313_216),
        ("convpass", "", 437_504),
        ("ssf", "", 274_432),
        ("vpt_deep", "prompts=1", 12_032),
        ("vpt_shallow", "prompts=1", 128),
        ("bitfit", "", 137_216),
        ("bitfit", "tables=true", 200_760),
        ("ln_tuning", "", 57_600),
    ],
    VIT: [
        ("full", "", 85_798_656),
        ("linear_probe", "", 0),
        ("ln_tuning", "", 38_400),
        ("bitfit", "", 102_912),
        ("att_blocks", "", 28_348_416),
        ("vpt_shallow", "prompts=50", 38_400),
        ("vpt_deep", "prompts=50", 460_800),
        ("adapters", "hidden=8 bias=true", 313_536),
        ("adapters", "hidden=64 bias=true", 2_379_264),
        ("adapters_on_attention", "hidden=8 bias=true", 156_768),
        ("adapter_drop", "keep=12 branches=mlp hidden=8 bias=true", 156_768),
        ("adapter_drop", "keep=12 branches=mlp hidden=96 bias=true", 1_779_840),
        ("adapter_drop", f"keep=1 {RELEASED}", 100_672),
        ("adapter_plus", "", 165_984),
        ("adaptformer", "hidden=8", 156_768),
        ("adaptformer", "", 1_189_632),
        ("parallel_adapters", "hidden=8", 156_768),
        ("lora", "", 294_912),
        ("lora", "targets=qkv", 294_912),
        ("lora", "rank=4", 147_456),
        ("lora", "targets=q+k+v+proj+fc1+fc2", 1_327_104),
        ("lora_fix", "", 73_728),
        ("ssf", "", 205_824),
        ("fact_tt", "rank=4", 8_448),
        ("fact_tt", "rank=8", 21_504),
        ("fact_tt", "rank=16", 61_440),
        ("fact_tk", "rank=8", 13_952),
        ("fact_tk", "rank=16", 30_976),
        ("fact_tk", "rank=32", 86_528),
        ("convpass", "", 327_552),
        ("convpass", "branches=attn", 163_776),
        ("repadapter", "", 239_808),
        ("compacter", "", 57_088),
        ("compacter", "branches=mlp", 28_576),
        ("phm_adapter", "n=12", 175_680),
        ("phm_adapter", "hidden=64 branches=mlp rule=shared", 304_960),
        ("kadaptation", "n=32", 50_176),
        ("kadaptation", "n=4", 46_144),
        ("kadaptation", "n=4 slow=full", 46_208),
        ("arc", "", 96_432),
        ("arc", "branches=attn", 48_216),
        ("rlrr", "patches=false", 287_232),
        ("rlrr", "", 288_768),
        ("sct", "", 111_744),
        ("hydra", "", 239_712),
        ("dtl", "", 36_864),
        ("dtl", "plus=true", 43_776),
        ("transformer_probe", "hidden=512", 3_153_152),
        ("lepe", "", 92_160 - 7_680),  # none in the last block
        ("rpb", "", 104_976 - 8_748),
    ],
    CLIP: [("ln_tuning", "", 39_936), ("bitfit", "", 102_912), ("rpb", "", 24_336 - 2_028)],
}

BACKBONES = {
    "swin-t": SWIN,
    "swin-s": "swin_small_patch4_window7_224",
    "swin-l": "swin_large_patch4_window7_224",
    "vit-b/16": VIT,
    "vit-b/32": CLIP,
    "cvt": "cvt_13",
}


def write(path: Path, rows: list[Row]) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, [field.name for field in dataclasses.fields(Row)])
        writer.writeheader()
        writer.writerows(dataclasses.asdict(row) for row in rows)


@pytest.fixture(scope="module")
def compared() -> list[Compared]:
    return published.compare(filter(published.buildable, published.read()))


def test_no_published_count_is_unexplained(compared: list[Compared]) -> None:
    wrong = [(c.row, str(c.ours)) for c in compared if c.verdict == "unexplained"]
    assert wrong == []
    assert [c.verdict for c in compared] == [c.row.verdict for c in compared]
    assert all(c.row.note for c in compared if c.verdict == "erratum")


@pytest.mark.parametrize(("method", "settings", "backbone", "head", "expected"), NAMED)
def test_ours_is_the_published_integer(method: str, settings: str, backbone: str, head: Decimal, expected: int) -> None:
    assert int(published.mean_count(method, settings, backbone) + head) == expected


@pytest.mark.parametrize("backbone", SHAPES)
def test_ours_is_the_integer_of_the_shapes(backbone: str) -> None:
    ours = [
        (name, settings, int(published.mean_count(name, settings, backbone))) for name, settings, _ in SHAPES[backbone]
    ]
    assert ours == SHAPES[backbone]


@pytest.mark.parametrize("name", ["mimi", "tina", "pevit"])
def test_every_count_of_the_papers_has_its_row(name: str) -> None:
    with (published_folder() / f"{name}.csv").open(newline="") as file:
        counts = [row for row in csv.DictReader(file) if row["metric"] == "params"]
    backbones: dict[str, set[str]] = {}
    for row in counts:
        backbones.setdefault(row["table"], set()).add(row["backbone"])
    several = {table for table, names in backbones.items() if len(names) > 1}
    expected = [
        (
            row["table"],
            " ".join(filter(None, (row["backbone"] * (row["table"] in several), row["method"], row["variant"]))),
            BACKBONES[row["backbone"]],
            row["value"],
            row["unit"],
        )
        for row in counts
    ]
    rows = [row for row in published.read() if row.paper == name and row.table != "readme"]
    assert [(row.table, row.row, row.backbone, row.published, row.unit) for row in rows] == expected


def test_every_count_of_osu_has_its_row() -> None:
    with (published_folder() / "osu_vtab1k.csv").open(newline="") as file:
        counts = {(row["method"], row["params_without_head"]) for row in csv.DictReader(file)}
    ours = {(row.row.split()[0], row.published) for row in published.read() if row.paper == "osu"}
    assert ours == {(method, value) for method, value in counts if method != "difffit"}


def test_a_row_is_named_once() -> None:
    names = [(row.paper, row.table, row.row) for row in published.read()]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(
    ("printed", "unit", "ours", "expected"),
    [
        ("419865", "count", "419865", "exact"),
        ("29523", "count", "29523.15", "rounded"),
        ("17.54", "M", "17539737", "rounded"),
        ("1.2", "M", "1257238.71", "truncated"),
        ("0.53", "M", "534873", "rounded"),
        ("0.30", "M", "282969", ""),
        ("48.80", "M", "48837258", ""),  # a zero that is printed counts
        ("197", "M", "196532476", "rounded"),
        ("0", "M", "0", "exact"),
    ],
)
def test_ours_agrees_at_the_digits_that_are_printed(printed: str, unit: str, ours: str, expected: str) -> None:
    assert published.agreement(printed, unit, Decimal(ours)) == expected


LORA = Row("tina", "table10", "lora r=8", SWIN, "lora", "rank=8 bias=lora_only", "265305", "419865", "count", "419865", "match", "")  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, "match"),
        ({"settings": "rank=8"}, "unexplained"),
        ({"published": "419866"}, "unexplained"),
        ({"published": "419866", "verdict": "erratum", "note": "a slip"}, "erratum"),
        ({"published": "419866", "verdict": "erratum"}, "unexplained"),  # no reason
        ({"verdict": "erratum", "note": "but it fits"}, "unexplained"),
        (
            {"published": "0.41", "unit": "M", "verdict": "erratum", "note": "a slip", "settings": "rank=4"},
            "unexplained",
        ),
    ],
)
def test_a_row_is_explained_only_as_it_declares(changes: dict[str, str], expected: str) -> None:
    assert published.compare([dataclasses.replace(LORA, **changes)])[0].verdict == expected


def test_settings_may_name_several_networks_whose_mean_counts() -> None:
    assert published.mean_count("fact_tk", "rank=16 | 2x rank=32", VIT) == Decimal(30_976 + 2 * 86_528) / 3


def test_the_command_prints_every_row_and_the_sum(capsys: pytest.CaptureFixture[str], compared: list[Compared]) -> None:
    assert paper.paper_command(argparse.Namespace(what="counts", csv=False)) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(compared) + 2
    assert lines[0].split() == ["source", "row", "method", "published", "ours", "verdict"]
    assert any(line.split()[-4:] == ["419,865", "419,865", "match,", "exact"] for line in lines)
    assert lines[-1].startswith(f"{len(compared)} rows: ") and " 0 unexplained" in lines[-1]


def test_the_command_says_what_it_leaves_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "counts.csv", [LORA, dataclasses.replace(LORA, backbone="cvt_13")])
    monkeypatch.setattr(published, "published_folder", lambda: tmp_path)
    monkeypatch.setattr(published, "find_spec", lambda name: None)
    assert paper.paper_command(argparse.Namespace(what="counts", csv=False)) == 0
    told = capsys.readouterr()
    assert "1 rows: 1 match" in told.out
    assert "1 rows on a CvT are left out" in told.err


def test_the_command_writes_csv_with_the_reasons(capsys: pytest.CaptureFixture[str], compared: list[Compared]) -> None:
    assert paper.paper_command(argparse.Namespace(what="counts", csv=True)) == 0
    rows = list(csv.DictReader(capsys.readouterr().out.splitlines()))
    assert [row["verdict"] for row in rows] == [c.verdict for c in compared]
    assert all(row["note"] for row in rows if row["verdict"] == "erratum")


def test_the_command_fails_where_a_row_is_unexplained(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write(tmp_path / "counts.csv", [dataclasses.replace(LORA, published="419866")])
    monkeypatch.setattr(published, "published_folder", lambda: tmp_path)
    assert paper.paper_command(argparse.Namespace(what="counts", csv=False)) == 1
    assert "1 rows: 0 match, 0 errata, 1 unexplained" in capsys.readouterr().out


def test_a_row_that_is_no_row_is_refused_with_its_number(tmp_path: Path) -> None:
    path = tmp_path / "counts.csv"
    path.write_text("paper,table\nmimi,table1\n")
    with pytest.raises(UsageError, match="row 2"):
        published.read(path)


def test_the_page_counts_rows_and_errata_as_the_files_hold_them() -> None:
    page = (published_folder() / "README.md").read_text(encoding="utf-8")
    told = re.findall(r"^\| (\w+\.csv) \| (\d+) \| (\d+|-) \|", page, re.MULTILINE)
    assert len(told) >= 7
    for name, rows, errata in told:
        with open(published_folder() / name, newline="", encoding="utf-8") as file:
            found = list(csv.DictReader(file))
        marked = sum(bool(row.get("erratum")) or row.get("verdict") == "erratum" for row in found)
        assert (len(found), marked) == (int(rows), 0 if errata == "-" else int(errata)), name
