"""Suite files of somebody's own, and the cards of suites in a results folder."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from bench.core import configs, suites
from bench.core.errors import UsageError
from bench.data import sources

FILE = """
[suite]
name = "pacs"
title = "Three styles"
headline = "mean_groups"
[suite.groups]
real = ["photo"]
drawn = ["sketch", "cartoon"]
[protocol]
name = "pacs@v1"
base = "own@v1"
epochs = 7
[datasets.cartoon]
source = "folder:images/cartoon"
[datasets.photo]
source = "folder:images/photo"
metric = "mean_per_class"
[datasets.sketch]
source = "hub:somebody/sketch"
"""


def written(folder: Path, text: str = FILE) -> Path:
    path = folder / "pacs.toml"
    path.write_text(text, encoding="utf-8")
    return path


def test_a_suite_file_says_groups_sources_and_a_protocol_over_a_shipped_one(tmp_path: Path) -> None:
    found = suites.read_suite(written(tmp_path))
    assert list(found.datasets) == ["photo", "sketch", "cartoon"]  # in the order of the groups
    assert found.datasets["photo"].metric == "mean_per_class" and found.card.headline == "mean_groups"
    assert found.protocol == dataclasses.replace(configs.protocol("own@v1"), name="pacs@v1", epochs=7)
    assert found.card.protocol == "pacs@v1"


def test_the_shortest_suite_file_has_one_group_and_the_protocol_of_own_images(tmp_path: Path) -> None:
    found = suites.read_suite(written(tmp_path, '[suite]\nname = "x"\n[datasets]\na.source = "folder:a"\n'))
    assert found.card.groups == {"all": ("a",)} and found.protocol == configs.protocol("own@v1")


def test_the_protocol_may_be_a_known_one_or_stand_in_another_file(tmp_path: Path) -> None:
    short = '[suite]\nname = "x"\nprotocol = "{}"\n[datasets]\na.source = "folder:a"\n'
    assert suites.read_suite(written(tmp_path, short.format("vtab1k@v1"))).protocol == configs.protocol("vtab1k@v1")
    (tmp_path / "how").mkdir()
    (tmp_path / "how/long.toml").write_text('[protocol]\nname = "long"\nbase = "own@v1"\nepochs = 300\n')
    found = suites.read_suite(written(tmp_path, short.format("how/long.toml")))
    assert (found.protocol.name, found.protocol.epochs, found.card.protocol) == ("long", 300, "long")


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ('name = "pacs"', 'name = "pocket"', "is the name of a suite that bench has"),
        ('name = "pacs"', 'name = "folder"', "is the name of a suite that bench has"),
        ('name = "pacs"', 'name = "../x"', "is not a name of small letters"),
        ('name = "pacs"', 'name = "PACS"', "is not a name of small letters"),
        ('name = "pacs"', 'name = "vtab-sample"', "is not a name of small letters"),
        ("folder:images/photo", "foldr:photo", r"did you mean 'folder:photo'\?"),
        ("folder:images/photo", "vtab:dtd", "known: folder:, hub:"),
        ("folder:images/photo", "folder:", "is no source"),
        ("[datasets.sketch]", "[datasets.Photo]", "suite.groups name|nothing but small and capital"),
        ('["sketch", "cartoon"]', '["sketch"]', "suite.groups name .*the tables are"),
        ("[datasets.sketch]", '[datasets."a/b"]', "datasets.a/b: a name has"),
        ("headline", "heading", r"unknown key 'suite.heading' \(did you mean 'headline'\?\)"),
        ("base = ", "bass = ", r"\[protocol\]: unknown key 'bass'"),
        ('"own@v1"', '"own@v2"', r"\[protocol\]: base: No protocol is called 'own@v2'. Did you mean 'own@v1'"),
        ('name = "pacs@v1"', 'name = "own@v1"', "'own@v1' is a protocol that bench has"),
        ('name = "pacs@v1"', "", "missing key 'name'"),
        ('name = "pacs@v1"', 'name = "a/b"', "is no name"),
        ("epochs = 7", "epochs = 0", "epochs and batch_size must be at least 1"),
        ('title = "Three styles"', 'protocol = "own@v1"', "one of them"),
        ('metric = "mean_per_class"', 'metric = "map11"', "is not one of top1, mean_per_class"),
        ('metric = "mean_per_class"', "classes = 1", "at least 2"),
    ],
)
def test_what_is_wrong_in_a_suite_file_is_told(old: str, new: str, told: str, tmp_path: Path) -> None:
    assert old in FILE
    with pytest.raises(UsageError, match=told) as caught:
        suites.read_suite(written(tmp_path, FILE.replace(old, new, 1)))
    assert "pacs.toml" in str(caught.value)


def test_a_shipped_card_with_an_unknown_source_is_refused_when_it_is_read(tmp_path: Path) -> None:
    text = (configs.folder() / "pocket.toml").read_text(encoding="utf-8")
    for source, told in (("poket:digits", "did you mean 'pocket:digits'"), ("folder:photo", "--suite FILE.toml")):
        path = tmp_path / "pocket.toml"
        path.write_text(text.replace("pocket:digits", source, 1), encoding="utf-8")
        with pytest.raises(UsageError, match=told):
            configs.read_suite(path)
    assert {*sources.KINDS, "pocket", "photos"} == set(configs.SHIPPED)


def test_a_results_folder_keeps_the_card_and_tells_where_it_changes(tmp_path: Path) -> None:
    card, told = suites.read_suite(written(tmp_path)).card, list[str]()
    suites.keep(tmp_path, card, told.append)
    suites.keep(tmp_path, card, told.append)
    suites.keep(tmp_path, dataclasses.replace(card, title="other words"), told.append)
    assert told == []
    changed = dataclasses.replace(card, groups={"all": ("photo", "sketch")})
    suites.keep(tmp_path, changed, told.append)
    assert len(told) == 1 and "other datasets or groups of the suite 'pacs'" in told[0]
    pair = suites.together(["folder/a-123456", "folder/b-123456"])
    suites.keep(tmp_path, pair, told.append)
    assert suites.kept(tmp_path) == (pair, changed)


def test_joining_takes_cards_over_and_leaves_what_is_hostile_or_otherwise(tmp_path: Path) -> None:
    card, told = suites.read_suite(written(tmp_path)).card, list[str]()
    ours, theirs = tmp_path / "ours", tmp_path / "theirs"
    suites.keep(theirs, card, told.append)
    good = (theirs / "suites/pacs.json").read_text(encoding="utf-8")
    for number, name in enumerate(("pocket", "../x", "")):
        (theirs / f"suites/bad{number}.json").write_text(good.replace('"pacs"', json.dumps(name)), encoding="utf-8")
    (theirs / "suites/deep.json").write_text("[" * 10000)
    (theirs / "suites/link.json").symlink_to(tmp_path / "pacs.toml")
    suites.join(theirs, ours, told.append)
    assert [path.name for path in (ours / "suites").iterdir()] == ["pacs.json"] and suites.kept(ours) == (card,)
    assert len(told) == 5
    assert len(suites.kept(theirs)) == 1
    suites.keep(ours, dataclasses.replace(card, headline="mean_datasets"), lambda _: None)
    suites.join(theirs, ours, told.append)
    assert suites.kept(ours)[0].headline == "mean_datasets" and any("says otherwise" in line for line in told)
