"""What counts for today's question, and what has changed where a record does not."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest
from helpers.plans import job, plan_of
from helpers.stored import DONE, FAILED

from bench.cli.main import main
from bench.core import configs
from bench.core.record import Record
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution import explain
from bench.execution import plan as planning
from bench.models import registry
from bench.training import provenance

NOW: RunSpec = job().spec  # as it would be asked today
PLUGIN = (Path(__file__).parents[2] / "README.md").read_text().split("```python\n")[1].split("```")[0]


def recorded(root: Path, spec: RunSpec, record: Record = DONE) -> RunSpec:
    method = registry.source_digest(registry.load("lora"))
    harness = provenance.harness_digest()
    made = dataclasses.replace(record.provenance, method_sha256=method, harness_sha256=harness, versions={})
    Store(root).write(dataclasses.replace(record, spec=spec, provenance=made))
    return spec


def told(root: Path, spec: RunSpec, plugins: tuple[Path, ...] = ()) -> tuple[bool, list[str]]:
    counts, lines = explain.explain(root, spec.digest[:8], plugins, pytest.fail)
    assert lines[0].startswith(spec.digest)
    return counts, [line.strip() for line in lines[1:]]


def test_a_record_of_todays_question_counts(tmp_path: Path) -> None:
    counts, lines = told(tmp_path, recorded(tmp_path, NOW))
    assert counts and lines[0] == "record: done" and len(lines) == 2
    assert "It counts" in lines[1]


OLD_PROTOCOL = dataclasses.replace(NOW.protocol, lr=0.125, epochs=7)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"params": {**NOW.params, "old": 5}}, ["hyper-parameter old: was 5, is absent"]),
        (
            {"params": {k: v for k, v in NOW.params.items() if k != "alpha"}},
            ["hyper-parameter alpha: was absent, is 8.0"],
        ),
        ({"method_version": NOW.method_version + 1}, [f"method version: was {NOW.method_version + 1}, is {NOW.method_version}"]),
        ({"fingerprint": "ab" * 32}, [f"data fingerprint: was '{'ab' * 32}', is '{NOW.fingerprint}'"]),
        ({"protocol": OLD_PROTOCOL}, [f"protocol lr: was 0.125, is {NOW.protocol.lr}", "protocol epochs: was 7, is 3"]),
    ],
)  # fmt: skip
def test_every_part_of_the_question_that_changed_is_named(
    change: dict[str, object], expected: list[str], tmp_path: Path
) -> None:
    counts, lines = told(tmp_path, recorded(tmp_path, dataclasses.replace(NOW, **change)))  # type: ignore[arg-type]
    assert not counts
    assert lines[1:-1] == expected and "does not count" in lines[-1]


def test_a_protocol_of_an_option_is_the_changed_one_still(tmp_path: Path) -> None:
    """`--epochs 5` makes a protocol that no card names: it is asked again as it was."""
    own = dataclasses.replace(NOW.protocol, name=f"{NOW.protocol.name}+epochs=5", epochs=5)
    assert told(tmp_path, recorded(tmp_path, dataclasses.replace(NOW, protocol=own)))[0]
    both = dataclasses.replace(own, name=f"{own.name}+precision=bf16", precision="bf16")
    assert told(tmp_path, recorded(tmp_path, dataclasses.replace(NOW, protocol=both)))[0]
    old = dataclasses.replace(own, name=f"{NOW.protocol.name}+epochs=6", epochs=6, lr=0.125)
    counts, lines = told(tmp_path, recorded(tmp_path, dataclasses.replace(NOW, protocol=old)))
    assert not counts and lines[1:-1] == [f"protocol lr: was 0.125, is {configs.protocol('pocket@v1').lr}"]


def test_a_failed_record_is_tried_again(tmp_path: Path) -> None:
    counts, lines = told(tmp_path, recorded(tmp_path, NOW, FAILED))
    assert not counts and lines == [
        "record: failed, it broke",
        "It is today's question, but has no result: 'bench run' tries it again.",
    ]


def test_what_changed_beside_the_question_is_told_and_the_record_counts(tmp_path: Path) -> None:
    made = dataclasses.replace(DONE.provenance, method_sha256="ff" * 8, versions={"torch": "1.0"})
    Store(tmp_path).write(dataclasses.replace(DONE, spec=NOW, provenance=made))
    counts, lines = told(tmp_path, NOW)
    assert counts and any("method's file has changed" in line for line in lines)
    assert any(line.startswith("made with torch 1.0, here is ") for line in lines)
    assert any("whether that has changed since is not known" in line for line in lines)


def test_a_changed_harness_is_told_and_the_record_counts(tmp_path: Path) -> None:
    made = dataclasses.replace(DONE.provenance, harness_sha256="ff" * 8)
    Store(tmp_path).write(dataclasses.replace(DONE, spec=NOW, provenance=made))
    counts, lines = told(tmp_path, NOW)
    assert counts and any("the harness's own code (models, training) has changed since" in line for line in lines)


def test_a_planned_run_without_a_record_is_held_against_its_neighbours(tmp_path: Path) -> None:
    planning.write(plan_of(job()), tmp_path)
    counts, lines = told(tmp_path, NOW)
    assert not counts and lines == ["It has no record yet: it is planned."]
    other = dataclasses.replace(NOW, params={**NOW.params, "rank": 16})
    recorded(tmp_path, other)
    recorded(tmp_path, dataclasses.replace(NOW, seed=1))  # no neighbour: that is another seed
    counts, lines = told(tmp_path, NOW)
    assert not counts and lines[1:] == [
        f"{other.digest[:8]}, a record of the same method, data, backbone and seed, is another run:",
        "hyper-parameter rank: 16 there, 4 here",
    ]


def test_a_method_from_a_file_is_asked_with_that_file(tmp_path: Path) -> None:
    plugin = tmp_path / "own_why_method.py"
    plugin.write_text(PLUGIN)
    spec = dataclasses.replace(NOW, method="own_why_method", params={})
    recorded(tmp_path, spec)
    counts, lines = told(tmp_path, spec)
    assert not counts and lines[1].startswith("It cannot be asked today: No method is called 'own_why_method'.")
    assert lines[2].endswith("--plugin FILE.")
    counts, lines = told(tmp_path, spec, (plugin,))
    assert counts and "method's file has changed" in lines[1]
    sys.modules.pop("petbench_plugin_own_why_method", None)


def test_the_exit_code_tells_whether_it_counts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(tmp_path, NOW)
    old = recorded(tmp_path, dataclasses.replace(NOW, fingerprint="ab" * 32))
    assert main(["why", NOW.digest, "--out", str(tmp_path)]) == 0
    assert main(["why", old.digest, "--out", str(tmp_path)]) == 1
    assert main(["why", "0" * 16, "--out", str(tmp_path)]) == 2
    assert "No run under" in capsys.readouterr().err
