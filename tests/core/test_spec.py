from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass

import pytest
from helpers.specs import PROTOCOL, SPEC

from bench.core.errors import UsageError
from bench.core.schema import parse, plain
from bench.core.spec import Protocol, RunSpec, changed, changes_of, identity, omit_default, recorded_as, stream


def test_the_identity_of_a_run_does_not_change_by_accident() -> None:
    assert SPEC.digest == "0cfa5fa0bea18bbb"


@pytest.mark.parametrize(
    "change",
    [
        {"method": "x"}, {"method_version": 2}, {"params": {**SPEC.params, "rank": 4}}, {"backbone": "pocket_swin"}, {"weights": "random"},
        {"dataset": "pocket/count"}, {"fingerprint": "cd" * 32}, {"seed": 1}, {"protocol": dataclasses.replace(PROTOCOL, lr=2e-3)},
    ],
)  # fmt: skip
def test_everything_that_changes_numbers_changes_the_digest(change: dict[str, object]) -> None:
    assert dataclasses.replace(SPEC, **change).digest != SPEC.digest  # type: ignore[arg-type]


def test_the_protocols_list_of_seeds_is_not_part_of_a_run() -> None:
    assert dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, seeds=(7,))).digest == SPEC.digest


def test_a_changed_protocol_tells_by_its_name_what_it_was_and_what_it_was_given() -> None:
    other = changed(PROTOCOL, {"epochs": 7, "precision": "bf16"})
    assert (other.epochs, other.precision, other.lr) == (7, "bf16", PROTOCOL.lr)
    assert other.name == f"{PROTOCOL.name}+epochs=7+precision=bf16"
    assert changes_of(other.name) == (PROTOCOL.name, {"epochs": "7", "precision": "bf16"})
    assert dataclasses.replace(SPEC, protocol=other).digest != SPEC.digest
    assert changed(PROTOCOL, {"epochs": PROTOCOL.epochs, "precision": None}) == PROTOCOL
    few = changed(PROTOCOL, {"shots": 3})
    assert (few.shots, few.name) == (3, f"{PROTOCOL.name}+shots=3") and changes_of(few.name)[1] == {"shots": "3"}
    assert changes_of("mine+more@v1") == ("mine+more@v1", {})


def test_a_younger_field_keeps_old_digests() -> None:
    @dataclass(frozen=True)
    class Old:
        rank: int = 8

    @dataclass(frozen=True)
    class Young(Old):
        dropout: float = omit_default(0.0)

    assert identity(Young()) == identity(Old())
    assert identity(Young(dropout=0.1)) != identity(Old())


def test_a_renamed_field_keeps_old_digests() -> None:
    @dataclass(frozen=True)
    class Old:
        after: str = "both"

    @dataclass(frozen=True)
    class Renamed:
        branches: str = recorded_as("after", "both")

    assert identity(Renamed()) == identity(Old()) == {"after": "both"}
    assert identity(Renamed("mlp")) == identity(Old("mlp"))


def test_canonical_json_is_sorted_tight_and_refuses_nan() -> None:
    text = SPEC.canonical()
    assert text == json.dumps(json.loads(text), sort_keys=True, separators=(",", ":"))
    with pytest.raises(ValueError, match="not JSON compliant"):
        dataclasses.replace(SPEC, params={"alpha": float("nan")}).canonical()


def test_data_and_head_streams_pair_methods_and_the_method_stream_does_not() -> None:
    other = dataclasses.replace(SPEC, method="bitfit", params={})
    assert stream(SPEC, "data") == stream(other, "data")
    assert stream(SPEC, "head") == stream(other, "head")
    assert stream(SPEC, "method") != stream(other, "method")
    for name in ("data", "head", "method"):
        assert stream(SPEC, name) != stream(dataclasses.replace(SPEC, seed=1), name)  # type: ignore[arg-type]
    assert stream(SPEC, "data") != stream(SPEC, "head")


def test_a_spec_survives_json() -> None:
    again = parse(RunSpec, json.loads(json.dumps(plain(SPEC))), "here")
    assert again == SPEC
    assert again.digest == SPEC.digest


def test_a_protocol_cannot_choose_on_what_it_trains_on() -> None:
    with pytest.raises(ValueError, match="needs train_on = 'train'"):
        dataclasses.replace(PROTOCOL, choose="validation")


def test_all_faults_of_one_file_are_told_at_once() -> None:
    data = {**plain(PROTOCOL), "epochs": "five", "lrr": 1, "choose": "best"}
    del data["batch_size"]
    with pytest.raises(UsageError) as error:
        parse(Protocol, data, "card.toml")
    for part in (
        "card.toml",
        "unknown key 'lrr' (did you mean 'lr'?)",
        "missing key 'batch_size'",
        "epochs = 'five' is not a whole number",
        "choose = 'best' is not one of last, validation",
    ):
        assert part in str(error.value)


@pytest.mark.parametrize("value", [True, 1.0, "1", None])
def test_a_whole_number_is_nothing_else(value: object) -> None:
    with pytest.raises(UsageError, match="epochs"):
        parse(Protocol, {**plain(PROTOCOL), "epochs": value}, "card")
