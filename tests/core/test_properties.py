"""What holds for any input, tried on random ones: identities are stable, and wrong input ends in our own errors only.

    BENCH_EXAMPLES=1000 python -m pytest tests/core/test_properties.py      the long run, of 14,000; another one each time

The normal run tries 100 examples of each property, always the same. A property whose examples take long tries a tenth.
"""

from __future__ import annotations

import dataclasses
import io
import json
import os
import random
import sys
import tempfile
import tomllib
import types
from argparse import ArgumentTypeError
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

import pandas as pd
import pytest
from hypothesis import HealthCheck, assume, example, given, reject, settings
from hypothesis import strategies as st

from bench import report
from bench.cli.console import positive
from bench.cli.main import main
from bench.core import configs
from bench.core.errors import BenchError, UsageError
from bench.core.record import Record, from_json
from bench.core.schema import Range, parse, plain
from bench.core.spec import NAME, Protocol, RunSpec, identity, omit_default
from bench.core.store import Store
from bench.models import registry
from bench.models.method import Method, build, params, variant
from bench.report import index
from bench.report.frame import COLUMNS, assemble, frame, row

T = TypeVar("T")
ROOT = Path(__file__).parents[2]
EXAMPLES = int(os.environ.get("BENCH_EXAMPLES", "100"))
LONG = EXAMPLES > 100


def tries(share: float = 1) -> Callable[[Any], Any]:
    return settings(
        max_examples=int(EXAMPLES * share),
        deadline=None,
        derandomize=not LONG,
        database=None,
        suppress_health_check=list(HealthCheck),
    )


# Random values of a type, dataclasses included: a field that is added later is tried without a change here. ----------

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
TEXTS = st.text(st.characters(exclude_categories=()), max_size=8) | st.sampled_from(
    ["lora", "pocket/digits", "last", "\udcff", "\n|"]
)
NAMES = st.from_regex(NAME, fullmatch=True).filter(lambda name: len(name.encode()) < 90)
BOUNDED: Mapping[tuple[type, str], st.SearchStrategy[Any]] = {
    (Protocol, "epochs"): st.integers(1),
    (Protocol, "batch_size"): st.integers(1),
    (Protocol, "val_share"): st.none() | st.floats(0, 1, exclude_min=True, exclude_max=True),
    (Protocol, "shots"): st.none() | st.integers(1),
    (Protocol, "lr"): st.floats(0, 1e9, exclude_min=True),
    (Protocol, "warmup"): st.floats(0, 1, exclude_max=True),
    (RunSpec, "method"): NAMES,
    (RunSpec, "backbone"): NAMES,
    (RunSpec, "dataset"): st.builds("{}/{}".format, NAMES, NAMES),
}


@cache
def values(kind: Any) -> st.SearchStrategy[Any]:
    origin, args = get_origin(kind), get_args(kind)
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return instances(kind)
    if origin is Annotated:
        return within(*args)
    if origin is Literal:
        return st.sampled_from(args)
    if origin in (Union, types.UnionType):
        return st.one_of(*map(values, args))
    if origin is tuple:
        return st.lists(values(args[0]), max_size=3).map(tuple)
    if origin in (dict, Mapping):
        return st.dictionaries(TEXTS, values(args[1]), max_size=4)
    simple = {bool: st.booleans(), int: st.integers(), float: FLOATS, str: TEXTS, type(None): st.none()}
    return simple[kind]


def within(kind: type, check: Any) -> st.SearchStrategy[Any]:
    """Values of a plain type that the schema's range or pattern admits."""
    if not isinstance(check, Range):
        return st.from_regex(check.regex, fullmatch=True)
    high = None if check.high == float("inf") else check.high
    numbers = st.integers(int(check.low), high and int(high)) if kind is int else st.floats(check.low, high)
    return numbers.filter(lambda number: number != float("inf"))


def instances(cls: type) -> st.SearchStrategy[Any]:
    """Values of a dataclass; those that it refuses are not tried."""

    @st.composite
    def made(draw: st.DrawFn) -> Any:
        hints = get_type_hints(cls, include_extras=True)
        chosen = {
            f.name: draw(BOUNDED.get((cls, f.name), values(hints[f.name])))
            for f in dataclasses.fields(cls)
            if f.name not in ("schema", "status")
        }
        if cls is Record:
            chosen |= consistent(draw, chosen)
        if cls is Protocol and chosen["choose"] == "validation":
            chosen["train_on"] = "train"
        try:
            return cls(**chosen)
        except ValueError:
            reject()

    return made()


def consistent(draw: st.DrawFn, chosen: dict[str, Any]) -> dict[str, Any]:
    """What a record's status asks for."""
    hints = get_type_hints(Record, include_extras=True)
    status = draw(st.sampled_from(get_args(hints["status"])))
    if status != "done":
        return {"status": status, "scores": None, "cost": None, "reason": (chosen["reason"] or "").strip() or "why"} | (
            {} if status == "failed" or "failure" not in hints else {"failure": None}
        )
    found = {name: draw(values(get_args(hints[name])[0])) for name in ("scores", "cost")}
    return {"status": status, **found, "reason": None} | ({"failure": None} if "failure" in hints else {})


JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS | st.just(10**400),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def damaged(draw: st.DrawFn, data: Any) -> Any:
    """The data with some of its parts replaced, removed, renamed or added."""
    data = json.loads(json.dumps(data))
    for _ in range(draw(st.integers(1, 3))):
        here = list(containers(data))
        if not here:
            return draw(JUNK)
        part = draw(st.sampled_from(here))
        key: Any = draw(st.sampled_from(list(part) if isinstance(part, dict) else range(len(part))))
        what = draw(st.integers(0, 3))
        if what == 0:
            del part[key]
        elif what == 1 and isinstance(part, dict):
            part[draw(TEXTS)] = part.pop(key)
        else:
            part[key] = draw(JUNK)
    return data


def containers(data: Any) -> Iterator[Any]:
    if isinstance(data, (dict, list)) and data:
        yield data
        for item in data.values() if isinstance(data, dict) else data:
            yield from containers(item)


@cache
def real_records() -> list[dict[str, Any]]:
    """Committed records of all methods, one each, as they lie on disk."""
    paths = sorted((ROOT / "results" / "pocket-v1" / "runs").glob("pocket/digits/pocket_vit/*/seed0-*.json"))
    return [json.loads(path.read_text()) for path in paths]


def shuffled(data: Any, chance: random.Random) -> Any:
    """The same data with the keys of every table in another order."""
    if isinstance(data, dict):
        keys = list(data)
        chance.shuffle(keys)
        return {key: shuffled(data[key], chance) for key in keys}
    return [shuffled(item, chance) for item in data] if isinstance(data, list) else data


def attempt(work: Callable[..., T], *arguments: Any) -> tuple[T | None, str]:
    """What comes out, or what a person is told; any other error than ours is the test's."""
    try:
        return work(*arguments), ""
    except BenchError as error:
        return None, str(error)


# The identity of a run -----------------------------------------------------------------------------------------------


@tries()
@given(values(RunSpec), st.randoms(use_true_random=False))
def test_a_digest_survives_json_and_any_order_of_fields_and_keys(spec: RunSpec, chance: random.Random) -> None:
    again = parse(RunSpec, shuffled(json.loads(json.dumps(plain(spec))), chance), "here")
    assert again == spec
    assert again.canonical() == spec.canonical()
    assert again.digest == spec.digest


@tries()
@given(values(RunSpec), st.data())
def test_a_spec_with_one_other_field_has_another_digest(spec: RunSpec, data: st.DataObject) -> None:
    def changed(thing: Any, names: list[str]) -> Any:
        name = data.draw(st.sampled_from(names))
        kind = get_type_hints(type(thing), include_extras=True)[name]
        value = data.draw(BOUNDED.get((type(thing), name), values(kind)))
        assume(repr(value) != repr(getattr(thing, name)))  # 1, 1.0 and True are equal, and are three questions
        try:
            return dataclasses.replace(thing, **{name: value})
        except ValueError:
            reject()

    fields = [f.name for f in dataclasses.fields(RunSpec) if f.name not in ("params", "protocol")]
    assert changed(spec, fields).digest != spec.digest
    asked = [f.name for f in dataclasses.fields(Protocol) if f.name != "seeds"]
    other = changed(spec.protocol, asked)
    assume(other != spec.protocol)  # 0.0 and -0.0
    assert dataclasses.replace(spec, protocol=other).digest != spec.digest
    key = data.draw(TEXTS.filter(lambda key: key not in spec.params))
    assert dataclasses.replace(spec, params={**spec.params, key: 0}).digest != spec.digest


@tries()
@given(values(Protocol), st.sampled_from(["lr", "weight_decay", "warmup", "label_smoothing", "clip_norm"]), st.data())
def test_a_whole_number_is_the_same_as_int_and_as_float(protocol: Protocol, name: str, data: st.DataObject) -> None:
    number = 0 if name == "warmup" else data.draw(st.integers(1, 2**53))
    one, two = (parse(Protocol, {**plain(protocol), name: value}, "here") for value in (number, float(number)))
    assert json.dumps(identity(one)) == json.dumps(identity(two))


@tries()
@given(values(RunSpec), st.sampled_from([float("nan"), float("inf"), -float("inf")]), st.booleans(), TEXTS)
def test_what_is_no_number_has_no_digest(spec: RunSpec, number: float, in_protocol: bool, key: str) -> None:
    if in_protocol:
        wrong = dataclasses.replace(spec, protocol=dataclasses.replace(spec.protocol, weight_decay=number))
    else:
        wrong = dataclasses.replace(spec, params={**spec.params, key: number})
    with pytest.raises(ValueError, match="not JSON compliant"):
        _ = wrong.digest
    with pytest.raises(UsageError):
        parse(RunSpec, plain(wrong), "here")


@tries()
@given(values(Protocol), values(int | float | str | bool | tuple[str, ...] | None), JUNK)
def test_a_new_field_at_its_default_changes_no_digest(protocol: Protocol, default: Any, other: Any) -> None:
    young = dataclasses.make_dataclass("young", [("extra", Any, omit_default(default))], bases=(Protocol,), frozen=True)
    fields = {f.name: getattr(protocol, f.name) for f in dataclasses.fields(protocol)}
    assert identity(young(**fields)) == identity(protocol)
    assume(other != default)
    assert "extra" in identity(young(**fields, extra=other))


# Records -------------------------------------------------------------------------------------------------------------


@tries()
@given(values(Record))
def test_a_record_survives_its_json(record: Record) -> None:
    text = record.to_json()
    again = from_json(text, "here")
    assert again == record
    assert again.to_json() == text


def read(text: str) -> None:
    record, told = attempt(from_json, text, "here")
    if record is None:
        assert told.startswith("here")
    else:
        assert len(frame([record])) == 1  # what is taken for a record can be shown


@tries()
@given(st.data())
def test_a_damaged_record_is_refused_in_our_own_words(data: st.DataObject) -> None:
    real = data.draw(st.sampled_from(real_records()))
    read(json.dumps(data.draw(damaged(real))))


@tries()
@given(st.data())
def test_a_record_with_torn_text_is_refused_in_our_own_words(data: st.DataObject) -> None:
    text = json.dumps(data.draw(st.sampled_from(real_records())), indent=1)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), min_size=2, max_size=2)))
    read(
        text[: cuts[0]]
        + data.draw(TEXTS | st.sampled_from(["1", "NaN", "1e999", "{", "]", '"', ","]))
        + text[cuts[1] :]
    )


@tries()
@given(JUNK.map(json.dumps) | st.text(max_size=50))
def test_no_text_is_a_record_by_chance(text: str) -> None:
    with pytest.raises(BenchError):
        from_json(text, "here")


@tries(0.3)
@given(st.lists(values(Record), max_size=4))
def test_any_records_come_out_of_the_index_as_they_went_in(records: list[Record]) -> None:
    rows = [row(record) for record in records]
    columns = {name: [cells[name] for cells in rows] for name in COLUMNS}
    again = json.loads(json.dumps({name: index._packed(column) for name, column in columns.items()}))
    found = assemble({name: index._unpacked(column) for name, column in again.items()})
    pd.testing.assert_frame_equal(found, frame(records), check_exact=True)


@tries(0.1)
@given(st.lists(values(Record), min_size=1, max_size=4))
def test_any_records_have_a_report(records: list[Record]) -> None:
    told: list[str] = []
    with tempfile.TemporaryDirectory() as folder:
        made = report.of(records)
        paths = made.write_tables(Path(folder), told.append)
        assert len(paths) == 2 * len(made.terminal())
        assert len(paths) / 2 + len(told) == len(made.parts)


# Cards ---------------------------------------------------------------------------------------------------------------


def toml(data: Mapping[str, Any]) -> str:
    """One line a key, tables inline; what TOML has no word for is left out."""
    return "".join(f"{json.dumps(key)} = {_toml(item)}\n" for key, item in data.items() if item is not None)


def _toml(item: Any) -> str:
    if isinstance(item, Mapping):
        pairs = (f"{json.dumps(key)} = {_toml(value)}" for key, value in item.items() if value is not None)
        return "{" + ", ".join(pairs) + "}"
    if isinstance(item, list):
        return "[" + ", ".join(_toml(value) for value in item if value is not None) + "]"
    if isinstance(item, float):
        return repr(item)
    return json.dumps(item)


@cache
def real_cards() -> list[dict[str, Any]]:
    return [tomllib.loads((configs.folder() / f"{name}.toml").read_text()) for name in ("pocket", "vtab")]


@contextmanager
def file_of(data: bytes) -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "card.toml"
        path.write_bytes(data)
        yield path


def read_card(data: bytes) -> None:
    with file_of(data) as path:
        suite, told = attempt(configs.read_suite, path)
    if suite is None:
        assert "card.toml" in told
    else:
        assert len(suite.datasets) == sum(len(keys) for keys in suite.card.groups.values())


def test_the_cards_of_this_test_are_cards() -> None:
    """A writer of TOML that made nonsense would let every card be refused."""
    for card in real_cards():
        assert tomllib.loads(toml(card)) == card
        with file_of(toml(card).encode()) as path:
            assert len(configs.read_suite(path).datasets) == len(card["datasets"])


@tries(0.5)
@given(st.data())
def test_a_damaged_card_is_refused_in_our_own_words(data: st.DataObject) -> None:
    read_card(toml(draw_table(data, real_cards())).encode("utf-8", "surrogatepass"))


def draw_table(data: st.DataObject, real: list[dict[str, Any]]) -> dict[str, Any]:
    found = data.draw(damaged(data.draw(st.sampled_from(real))))
    return found if isinstance(found, dict) else {"suite": found}


@tries()
@given(st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
@example(b"\xff")
@example(b"a = 1" + b"0" * 5000)
@example(b"a = 0x1" + b"0" * 5000)
@example(b"a = " + b"[" * 5000)
@example(b"datasets = 3")
def test_a_file_that_is_no_card_is_refused_in_our_own_words(data: bytes) -> None:
    read_card(data)


@tries()
@given(values(Protocol).map(plain).flatmap(damaged) | JUNK)
@example({f.name: 10**400 for f in dataclasses.fields(Protocol)})
def test_a_protocol_of_any_data_is_one_or_is_refused(data: Any) -> None:
    protocol, told = attempt(parse, Protocol, data, "here")
    if protocol is None:
        assert told.startswith("here: ")
    else:
        assert parse(Protocol, plain(protocol), "here") == protocol


# Methods and the command line ----------------------------------------------------------------------------------------

WORDS = (
    *(
        "",
        " ",
        ",",
        "=",
        "-",
        "--",
        "-1",
        "0",
        "1",
        "1.5",
        "8",
        "8.0",
        "1e999",
        "nan",
        "-inf",
        "9" * 5000,
        "٣",
        "²",
        "1_0",
    ),
    *(
        "none",
        "None",
        "true",
        "False",
        "q",
        "q,v",
        "q+v",
        "+",
        "all",
        "é",
        "a" * 300,
        "\udcff",
        "../..",
        "%s",
        "{}",
        "\n",
    ),
    *(
        "lora",
        "lora,",
        "lora,mimi",
        "linear_probe",
        "loar",
        "pocket",
        "pocket/digits",
        "pocket/digits,",
        "pocket/",
        "/",
    ),
    *("vtab", "pocket_vit", "pocket_swin,", "pocket@v1", "rank=4", "rank=", "=4", "rank=x", "alpha=8", "targets=q+k"),
    *("pretrained", "random", "cpu", "cuda", "auto", "sha256:0", "methods", "suites", "datasets", "squash"),
)
ARGUMENTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=6)
VALUES = st.sampled_from(WORDS) | ARGUMENTS


@cache
def method_classes() -> dict[str, type[Method]]:
    return {name: registry.load(name) for name in registry.entries()}


@tries()
@given(st.data())
def test_settings_make_a_method_or_are_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(method_classes())))
    cls = method_classes()[name]
    keys = st.sampled_from([f.name for f in dataclasses.fields(cls)] or ["rank"]) | ARGUMENTS
    chosen = data.draw(st.dictionaries(keys, VALUES | JUNK, max_size=3))
    method, told = attempt(build, cls, chosen, name)
    if method is None:
        assert told.startswith(name)
        return
    again = build(cls, params(method), name)
    assert (again, params(again), variant(again)) == (method, params(method), variant(method))
    json.dumps(params(method), allow_nan=False)


@tries()
@given(VALUES)
def test_a_number_of_the_command_line_is_one_or_is_refused(text: str) -> None:
    with suppress(ArgumentTypeError, ValueError):  # argparse tells a person of both
        assert positive(text) >= 1


RUN = (
    *("--method", "--suite", "--dataset", "--data", "--backbone", "--weights", "--protocol", "--epochs", "--seeds"),
    "--precision",
    *("--limit", "--skip-missing", "--only-failed", "--data-root", "--device", "--threads", "--jobs", "--config"),
    *("--bundle-minutes", "--retries", "--checkpoint-seconds", "--set", "--plugin", "--out", "--json", ""),
)
FLAGS: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("list",): ("--plugin", ""),
    ("table",): ("--out", ""),
    ("plot",): ("--out", ""),
    ("page",): ("--out", "--file"),
    ("run", "--dry-run"): RUN,
    ("plan",): RUN,
    ("status",): ("--runs", "--json", "--out", ""),
    ("logs",): ("--out", ""),
    ("why",): ("--out", "--plugin", ""),
    ("compare",): ("--out", "--suite", "--backbone", ""),
    ("join",): ("--out", "--reported", "--suite", "--backbone", "--citation", "--where", ""),
    ("merge",): ("--out", ""),
    ("count",): ("--method", "--backbone", "--classes", "--set", "--plugin", "--json", ""),
    ("check",): ("--backbone", "--plugin"),
    ("paper",): ("--csv",),
    ("data", "list"): ("--data-root",),
    ("data", "status"): ("--data-root", ""),
    ("data", "prune"): ("--data-root", "--keep", ""),
    ("data", "prepare"): ("--data-root", "--size", "--resize"),
    ("data", "verify"): ("--data-root", ""),
    ("doctor",): ("",),
    ("nonsense",): ("",),
    (): ("--version", "--help", ""),
}
SWITCHES = ("--json", "--csv", "--runs", "--skip-missing", "--only-failed", "--version", "--help", "")
COMPULSORY: Mapping[tuple[str, ...], tuple[str, ...]] = {
    ("run", "--dry-run"): ("--method", "--suite"),
    ("plan",): ("--method", "--suite"),
    ("logs",): ("",),
    ("why",): ("",),
    ("compare",): ("", ""),
    ("join",): ("",),
    ("merge",): ("",),
    ("count",): ("--method", "--backbone", "--classes"),
}
SENSIBLE = {
    "--method": ("lora", "linear_probe,mimi", "vpt"),
    "--suite": ("pocket", "vtab"),
    "--dataset": ("pocket/digits", "pocket/digits,pocket/count"),
    "--backbone": ("pocket_vit", "pocket_swin"),
    "--classes": ("1", "10"),
    "--set": ("rank=4", "rank=0", "rank=-1", "rank=1" + "0" * 30, "alpha=0", "targets=q+k", "targets=", "cycles=99"),
    "--seeds": ("0,1", "9" * 30),
    "--epochs": ("1", "9" * 30),
    "--protocol": ("pocket@v1", "vtab1k@v1"),
}


@st.composite
def commands(draw: st.DrawFn) -> list[str]:
    verb = draw(st.sampled_from(sorted(FLAGS)))
    chosen = draw(st.lists(st.sampled_from(FLAGS[verb]), max_size=4))
    if draw(st.booleans()):  # else argparse refuses most, for want of what is compulsory
        chosen = [*COMPULSORY.get(verb, ()), *chosen]
    parts: list[str] = [*verb]
    for flag in chosen:
        if flag:
            parts.append(flag)
        if flag in SENSIBLE and draw(st.integers(0, 3)):
            parts.append(draw(st.sampled_from(SENSIBLE[flag])))
        elif flag not in SWITCHES or draw(st.integers(0, 5)) == 0:
            parts.append(draw(VALUES))
    assume(not ({"/", "../.."} & set(parts)))  # as folders they hold the whole machine
    return parts


def run(arguments: list[str]) -> tuple[int, str]:
    """Exit code and stderr, with the streams of a terminal: a character that is none cannot be printed."""
    out, err = (io.TextIOWrapper(io.BytesIO(), "utf-8", errors) for errors in ("strict", "backslashreplace"))
    old = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        code, codes = main(arguments), (0, 1, 2)
    except SystemExit as stop:
        code, codes = int(stop.code or 0), (0, 2)
    finally:
        sys.stdout, sys.stderr = old
    assert code in codes
    err.flush()
    return code, err.buffer.getvalue().decode()  # type: ignore[attr-defined]


@pytest.fixture
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@tries(0.5)
@given(commands())
def test_any_command_ends_with_a_code_and_a_sentence(empty_folder: Path, arguments: list[str]) -> None:
    os.environ["BENCH_DATA"] = str(empty_folder / "data")  # a --data-root of the command before stays in it
    code, text = run(arguments)
    assert "Traceback" not in text
    if code == 2:
        assert "bench" in text
    assert [path for path in empty_folder.rglob("*.json") if "runs" in path.parts] == []


NUMBERS = ("0", "-1", "1", "3", "64", "0.5", "-0.5", "1e300", "none", "q", "k+v", "x", "")


@tries(0.1)
@given(st.data())
def test_any_setting_of_a_method_can_be_counted_or_is_refused(data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(sorted(method_classes())))
    fields = st.sampled_from([f.name for f in dataclasses.fields(method_classes()[name])] or ["rank"])
    chosen = data.draw(st.dictionaries(fields, st.sampled_from(NUMBERS), max_size=2))
    backbone, classes = data.draw(st.sampled_from(["pocket_vit", "pocket_swin"])), data.draw(st.sampled_from("19"))
    pairs = [word for key, value in chosen.items() for word in ("--set", f"{key}={value}")]
    code, told = run(["count", "--method", name, "--backbone", backbone, "--classes", classes, *pairs])
    assert (code, bool(told)) in ((0, False), (2, True))


@tries(0.1)
@given(st.data())
def test_any_results_folder_has_tables_or_a_sentence(empty_folder: Path, data: st.DataObject) -> None:
    with tempfile.TemporaryDirectory(dir=empty_folder) as folder:
        runs = Path(folder) / "runs"
        runs.mkdir()
        for number in range(data.draw(st.integers(0, 3))):
            whole = st.sampled_from(real_records()).map(json.dumps)
            text = data.draw(whole | values(Record).map(Record.to_json) | JUNK.map(json.dumps) | st.just("{"))
            (runs / f"{number}.json").write_text(text)
        code, told = run(["table", "--out", folder])
        assert code in (0, 1, 2)
        assert "Traceback" not in told
        assert (
            len(list(runs.iterdir()))
            == len(list(Store(Path(folder)).records(lambda _: None))) + told.count(f"bench: {runs}")
            or code
        )
