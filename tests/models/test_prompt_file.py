"""prompts.py of ELEVATER's toolkit: parsed and never executed, and its names put in the order of the labels."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
from helpers import tiny_sources as tiny

from bench.core import configs
from bench.core.errors import UsageError
from bench.data.readers import elevater
from bench.models import prompt_file
from bench.models.texts import Texts

MOODS = [["angry"], ["happy", "smiling"], ["neutral", "bored"], ["sad", "depressed"]]


def test_names_and_templates_are_those_that_python_would_assign(tmp_path: Path) -> None:
    path = tiny.prompts(
        tmp_path / "prompts.py",
        {"eurosat_clip": ["sea, or lake", 'the "river"', "élan"], "fer-2013": MOODS},
        ["a {}.", "the {}, seen from above"],
    )
    space: dict[str, dict[str, list[str]]] = {}
    exec(compile(path.read_text(encoding="utf-8"), str(path), "exec"), space)  # the oracle: Python itself
    found = prompt_file.read(path, "eurosat")
    assert list(found.names) == space["class_map"]["eurosat_clip"]
    assert list(found.templates) == space["template_map"]["eurosat_clip"]
    assert prompt_file.read(path, "fer2013").names == ("angry", "happy", "neutral", "sad")  # the first of several


def test_tables_may_hold_their_lists(tmp_path: Path) -> None:
    path = tmp_path / "p.py"
    path.write_text("class_map = {'mnist': ['0', '1']}\ntemplate_map = {'mnist': ['{}']}\n")
    assert prompt_file.read(path, "mnist") == Texts(("0", "1"), ("{}",))


def test_nothing_of_the_file_is_executed(tmp_path: Path) -> None:
    path = tiny.prompts(tmp_path / "p.py", {"mnist": ["0", "1"]})
    path.write_text(f"import os\nos.mkdir({str(tmp_path / 'made')!r})\n" + path.read_text())
    assert prompt_file.read(path, "mnist").names == ("0", "1")
    assert not (tmp_path / "made").exists()


def test_all_sets_of_both_suites_have_a_name_in_the_toolkit() -> None:
    cards = [card for suite in ("elevater", "pevit7") for card in configs.suite(suite).datasets]
    assert {card.key for card in cards} == set(prompt_file.SETS)
    assert len({*prompt_file.SETS.values()}) == 22 and set(elevater.SETS) <= set(prompt_file.SETS)
    with pytest.raises(UsageError, match=r"no set for 'svhn'.*--texts FILE.toml"):
        prompt_file.toolkit_name("svhn")


GOOD = "class_map = {'mnist': a}\ntemplate_map = {'mnist': b}\na = ['0', '1']\nb = ['{}']\n"


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a = [", "is no file of Python"),
        ("a = '\0'", "is no file of Python"),
        ("(" * 5000, "is no file of Python"),
        ("a" * (prompt_file.LARGEST + 1), "at most 1,048,576 are read"),
        ("a = 1", "has no table class_map"),
        (GOOD.replace("class_map = {", "class_map = [").replace(": a}", ", a]"), "has no table class_map"),
        (GOOD.replace("{'mnist': b}", "{}"), "template_map has no 'mnist'"),
        (GOOD.replace("a = ['0', '1']", "a = list('01')"), "what class_map has for 'mnist' is no list of texts"),
        (GOOD.replace("a = ['0', '1']", ""), "what class_map has for 'mnist' is no list of texts"),
        (GOOD.replace("'1'", "1"), "what class_map has for 'mnist' is no list of texts"),
        (GOOD.replace("'1'", "[]"), "what class_map has for 'mnist' is no list of texts"),
        (GOOD.replace("['{}']", "'{}'"), "what template_map has for 'mnist' is no list of texts"),
        (GOOD.replace("['{}']", "['a photo']"), "mnist: templates: 'a photo' needs one {}"),
        (GOOD.replace("['{}']", "[]"), "mnist: names and templates must not be empty"),
    ],
)
def test_what_is_wrong_is_one_line(tmp_path: Path, text: str, fault: str) -> None:
    path = tmp_path / "p.py"
    path.write_text(text)
    with pytest.raises(UsageError) as told:
        prompt_file.read(path, "mnist")
    assert fault in str(told.value) and str(path) in str(told.value) and "\n" not in str(told.value)
    with pytest.raises(UsageError, match="is not there"):
        prompt_file.read(tmp_path / "q.py", "mnist")
    assert ast.parse(GOOD)  # what the cases change is right itself
    path.write_text(GOOD)
    assert prompt_file.read(path, "mnist").names == ("0", "1")


def test_names_follow_the_labels_of_the_data() -> None:
    said = Texts(("jail cell", "jail indoor", "F-16A-B"), ("{}",))
    for alike in (True, False):
        found = prompt_file.in_label_order(said, ("jail/indoor", "F-16A/B", "Jail_cell"), alike=alike)
        assert found == Texts(("jail indoor", "F-16A-B", "jail cell"), ("{}",))


def test_where_classes_are_numbered_alike_the_order_stays_unless_names_contradict() -> None:
    said = Texts(("annual crop land", "forest", "river"), ("{}",))
    for labels in ((), ("AnnualCrop", "Forest", "River"), ("a", "b", "c"), ("AnnualCrop", "Forest")):
        assert prompt_file.in_label_order(said, labels, alike=True) == said
    with pytest.raises(UsageError, match="'forest' is class 1 there and 0 of the data"):
        prompt_file.in_label_order(said, ("Forest", "AnnualCrop", "River"), alike=True)


@pytest.mark.parametrize(
    ("labels", "told"),
    [
        (("sad", "merry", "angry"), "the data have no 'happy' (1 of 3 names)"),
        ((), "the data have no 'angry' and no 'happy' and no 'sad' (3 of 3 names)"),
        (("sad", "happy", "angry", "neutral"), "'angry' is class 0 there and 2 of the data"),
        (("angry", "happy", "sad", "Sad!"), "'sad' is class 2 there and 3 of the data"),
        (("angry", "happy", "sad", "neutral"), "the data name 4 classes, not 3"),
    ],
)
def test_an_order_that_cannot_be_told_is_refused(labels: tuple[str, ...], told: str) -> None:
    with pytest.raises(UsageError) as error:
        prompt_file.in_label_order(Texts(("angry", "happy", "sad"), ("{}",)), labels, alike=False)
    assert told in str(error.value) and "--texts FILE.toml" in str(error.value)
