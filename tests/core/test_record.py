"""What a record may hold: ranges, names, one value a key; and that the records of the first release are still read."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
from helpers.records import cycle
from helpers.specs import SPEC
from helpers.stored import DONE, FAILED

from bench.core.errors import CorruptRecord
from bench.core.record import Epoch, Record, Trial, from_json, pe
from bench.core.spec import RunSpec
from bench.core.store import Store, read
from bench.report.frame import row

ROOT = Path(__file__).parents[2]
WHOLE = dataclasses.replace(
    DONE,
    milestones=(cycle(1, 0.5, 100),),
    epochs=(Epoch(0, 1.0, 0.1, 2.0, 0.5),),
    trials=(Trial(0.1, 0.0, 0.5, 1.0),),
)


def edited(record: Record, path: str, value: object) -> str:
    """The record's file with one value replaced, its digest made to fit."""
    data: Any = json.loads(record.to_json())
    *parents, last = path.split(".")
    part = data
    for key in parents:
        part = part[int(key)] if isinstance(part, list) else part[key]
    part[last] = value
    return json.dumps(data)


@pytest.mark.parametrize(
    ("path", "value", "fault"),
    [
        ("scores.test", 7.5, "scores.test = 7.5 is not between 0 and 1"),
        ("scores.test", -0.01, "scores.test = -0.01 is not between 0 and 1"),
        ("scores.val", 1.01, "scores.val = 1.01 is not between 0 and 1"),
        ("scores.pe", 2, "scores.pe = 2 is not between 0 and 1"),
        ("scores.test_images", -1, "scores.test_images = -1 is not between 0 and"),
        ("scores.metric", "../top1", "scores.metric = '../top1' is not a name"),
        ("cost.params.method", -5, "cost.params.method = -5 is not between 0 and"),
        ("cost.params.total", 10**400, "cost.params.total = 1000"),
        ("cost.storage_bytes.with_head", -1, "cost.storage_bytes.with_head = -1"),
        ("cost.unmerged.flops", -1, "cost.unmerged.flops = -1"),
        ("cost.peak_bytes", -1, "cost.peak_bytes = -1"),
        ("cost.train_seconds", -1.0, "cost.train_seconds = -1.0 is not at least 0"),
        ("cost.inference_images_per_second", float("inf"), "cost.inference_images_per_second = inf is not a finite"),
        ("milestones.0.score", 1.5, "milestones[0].score = 1.5"),
        ("milestones.0.sizes", {"a": -1}, "milestones[0].sizes.a = -1"),
        ("epochs.0.loss", float("nan"), "epochs[0].loss = nan is not a finite number"),
        ("epochs.0.val", 2.0, "epochs[0].val = 2.0"),
        ("epochs.0.seconds", -1, "epochs[0].seconds = -1"),
        ("trials.0.val", -1.0, "trials[0].val = -1.0"),
        ("attempts", -1, "attempts = -1"),
        ("log", "../../secret.log", "log = '../../secret.log' is not the name of a log"),
        ("provenance.method_sha256", "../x", "provenance.method_sha256 = '../x' is not a sha256"),
        ("provenance.weights_sha256", "x", "provenance.weights_sha256 = 'x' is not a sha256"),
        ("provenance.harness_sha256", "", "provenance.harness_sha256 = '' is not a sha256"),
        ("provenance.code", "main; rm", "provenance.code = 'main; rm' is not a commit"),
        ("provenance.started", "yesterday", "provenance.started = 'yesterday' is not a time"),
        ("provenance.seconds", -1, "provenance.seconds = -1"),
        ("spec.dataset", "/etc/x", "spec.dataset = '/etc/x' is not a name"),
        ("spec.dataset", "pocket/../../x", "spec.dataset = 'pocket/../../x' is not a name"),
        ("spec.method", "../lora", "spec.method = '../lora' is not a name"),
        ("spec.method", "a/b", "spec.method = 'a/b' is not a name"),
        ("spec.method", "a\nbench: done", "is not a name"),
        ("spec.method", "x" * 201, "is not a name: a name has 1 to 200 bytes"),
        ("spec.backbone", "..", "spec.backbone = '..' is not a name"),
        ("spec.backbone", "a\u202eb", "is not a name"),
        ("spec.weights", "sha256:../../x", "spec.weights = 'sha256:../../x' is not pretrained, random or sha256:"),
        ("spec.fingerprint", "../x", "spec.fingerprint = '../x' is not a sha256"),
        ("spec.seed", -1, "spec.seed = -1 is not at least 0"),
    ],
)
def test_a_value_out_of_its_range_is_refused_in_one_line_with_file_and_field(
    path: str, value: object, fault: str
) -> None:
    with pytest.raises(CorruptRecord) as caught:
        from_json(edited(WHOLE, path, value), "runs/seed0.json")
    message = str(caught.value)
    assert message.startswith("runs/seed0.json: ") and fault in message and "\n" not in message


@pytest.mark.parametrize("key", ['"digest"', '"dataset"', '"test"'])
def test_a_key_that_stands_twice_is_refused(key: str) -> None:
    text = DONE.to_json()
    start = text.index(key)
    line = text[start : text.index(",", start) + 1]
    with pytest.raises(CorruptRecord, match=f"file is not a record: .*the key '{key[1:-1]}' stands twice"):
        from_json(text.replace(line, line + line, 1), "file")


@pytest.mark.parametrize("reason", ["", " \n"])
def test_an_empty_reason_cannot_be_written_or_read(reason: str) -> None:
    with pytest.raises(ValueError, match="is empty: it says why a run is failed"):
        dataclasses.replace(FAILED, reason=reason)
    with pytest.raises(CorruptRecord, match="reason = .* is empty"):
        from_json(edited(FAILED, "reason", reason), "file")


@pytest.mark.parametrize("name", ["folder/тест", "folder/my pets@10", "hf-hub:timm/vit_tiny", "a.b-c_d+e"])
def test_names_of_every_alphabet_are_names(name: str) -> None:
    assert dataclasses.replace(SPEC, dataset=name, backbone=name).dataset == name


def test_no_spec_is_made_with_a_name_that_leaves_the_results() -> None:
    for name in ("../x", "/x", ".hidden", "a//b", "a/", "", "a\0", "a\\b"):
        with pytest.raises(ValueError, match="dataset = .* is not a name"):
            dataclasses.replace(SPEC, dataset=name)


def test_every_record_of_the_first_release_is_read_and_found() -> None:
    store, count = Store(ROOT / "results" / "pocket-v1"), 0
    for path in sorted((store.root / "runs").rglob("*.json")):
        record = read(path)
        assert store.path(record.spec) == path
        assert record.provenance.harness_sha256 is None
        count += 1
    assert count >= 1184


def test_the_frame_tells_what_a_row_would_mix() -> None:
    made = dataclasses.replace(DONE.provenance, harness_sha256="ab" * 8, versions={"torch": "2.9"}, transform="RGB")
    cells = row(dataclasses.replace(DONE, provenance=made))
    assert cells["harness_sha256"] == "ab" * 8 and cells["torch"] == "2.9" and cells["transform"] == "RGB"
    assert cells["weights_sha256"] == made.weights_sha256 and cells["code"] == made.code


def test_performance_efficiency_is_that_of_elevater() -> None:
    assert pe(1.0, 0) == 1.0
    assert pe(0.8, 100e6) == pytest.approx(0.8 * 0.7401, abs=1e-4)


def test_the_spec_in_a_file_is_the_spec_that_was_asked() -> None:
    assert isinstance(SPEC, RunSpec) and from_json(WHOLE.to_json(), "file") == WHOLE
