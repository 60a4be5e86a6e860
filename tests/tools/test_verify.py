"""bench verify vouches for runs as they were made, and names what was edited."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from bench.cli.main import main
from bench.core.errors import UsageError
from bench.core.store import Store
from bench.models import registry
from bench.tools.verify import Finding, verify

COMMITTED, POCKET2, PAPERS = (Path(__file__).parents[2] / "results" / n for n in ("pocket-v1", "pocket", "papers"))
SOME = ("lora", "mimi", "full", "dtl")  # mimi is pruned in training, dtl refuses a Swin


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A few committed records, with their predictions; methods are of the version that they were made with."""
    for name in SOME:
        monkeypatch.setattr(registry.load(name), "version", 1)
    for backbone in ("pocket_vit", "pocket_swin"):
        for method in SOME:
            folder = Path("runs", "pocket", "digits", backbone, method)
            for path in (COMMITTED / folder).glob("seed0-*"):
                (tmp_path / folder).mkdir(parents=True, exist_ok=True)
                shutil.copy(path, tmp_path / folder)
    return tmp_path


def edit(root: Path, method: str, change: Callable[[Any], object], backbone: str = "pocket_vit") -> None:
    path = next((root / "runs" / "pocket" / "digits" / backbone / method).glob("*.json"))
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data))


def of(findings: tuple[Finding, ...], method: str, backbone: str = "pocket_vit") -> Finding:
    return next(f for f in findings if f"/{backbone}/{method}/" in f.record)


def test_records_as_they_were_made_are_vouched_for(root: Path) -> None:
    found = verify(root)
    assert found.count("vouched") == len(found.findings) == 8
    assert set(found.rows().values()) == {"vouched"} and len(found.rows()) == 8
    assert {"score", "head", "trained parameters in closed form", "operations", "bytes without head"} <= set(
        of(found.findings, "lora").checked
    )
    assert "refusal" in of(found.findings, "dtl", "pocket_swin").checked
    assert any("training changes their number" in reason for reason in of(found.findings, "mimi").unchecked)


LORA_HOLDS = 4 * 1_230_474 + 4 * 3 * (24_576 + 1_290)  # weights; of each trained one a gradient and two moments
EDITS: list[tuple[str, Callable[[Any], object], str]] = [
    ("lora", lambda d: d["scores"].update(test=0.99), "score: the record says 0.99, it is 0."),
    ("lora", lambda d: d["scores"].update(test_images=9), "test images: the record says 9, it is "),
    ("lora", lambda d: d["scores"].update(rule="validation"), "rule: the record says validation, it is last"),
    ("lora", lambda d: d["scores"].update(pe=0.99), "PE: the record says 0.99, it is 0."),
    ("lora", lambda d: d["cost"]["params"].update(method=7, deployed=7), "trained parameters: the record says 7"),
    ("lora", lambda d: d["cost"]["params"].update(head=7), "head: the record says 7, it is 1290"),
    ("lora", lambda d: d["cost"]["params"].update(total=7), "all parameters: the record says 7"),
    ("lora", lambda d: d["cost"]["params"].update(with_gradient=10**9), "gradients at most"),
    ("lora", lambda d: d["cost"]["storage_bytes"].update(without_head=7), "bytes without head: the record says 7"),
    ("lora", lambda d: d["cost"]["storage_bytes"].update(with_head=7), "bytes of the head"),
    ("lora", lambda d: d["cost"]["unmerged"].update(flops=7), "operations: the record says 7"),
    ("lora", lambda d: d["cost"].update(merged=None), "operations when merged: the record says None"),
    ("lora", lambda d: d["cost"].update(train_bytes=LORA_HOLDS - 1), "memory of training at least what it is made of"),
    ("lora", lambda d: d["cost"].update(inference_bytes=7), "memory of inference at least what it is made of"),
    ("mimi", lambda d: d["cost"]["params"].update(deployed=3), "parameters of the last phase"),
    ("mimi", lambda d: d["milestones"][-1].update(score=1.0), "score of the last phase: the record says 1.0"),
    ("full", lambda d: d["scores"].update(test=7.5), "scores.test = 7.5 is not between 0 and 1"),
    ("full", lambda d: d["spec"].update(seed=5), "is not that of its spec"),
]


@pytest.mark.parametrize(("method", "change", "fault"), EDITS, ids=[fault for *_, fault in EDITS])
def test_an_edited_record_is_a_mismatch_that_says_what(
    method: str, change: Callable[[Any], object], fault: str, root: Path
) -> None:
    edit(root, method, change)
    found = verify(root)
    assert any(fault in mismatch for mismatch in of(found.findings, method).mismatches)
    assert found.count("mismatch") == 1 and found.count("vouched") == 7


def test_memory_may_be_no_more_than_what_it_is_made_of(root: Path) -> None:
    edit(root, "lora", lambda d: d["cost"].update(train_bytes=LORA_HOLDS, inference_bytes=4 * 1_230_474))
    assert of(verify(root).findings, "lora").verdict == "vouched"


def test_other_labels_than_those_of_most_records_of_the_same_data_are_a_mismatch(root: Path) -> None:
    path = next((root / "runs").rglob("pocket_vit/lora/*.npz"))
    record = next(r for r in Store(root).records() if r.spec.method == "lora" and r.spec.backbone == "pocket_vit")
    assert record.scores is not None
    count, right = record.scores.test_images, round(record.scores.test * record.scores.test_images)
    forged = np.zeros(count, np.uint8)
    np.savez_compressed(path, labels=forged, predictions=np.where(np.arange(count) < right, 0, 1).astype(np.uint8))
    found = of(verify(root).findings, "lora")
    assert found.mismatches == ("labels: they differ from those of most records of the same data",)


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"labels": np.zeros(9, np.uint8)}, "predictions are missing"),
        ({"labels": np.zeros(9, np.uint8), "predictions": np.zeros(8, np.uint8)}, "do not fit"),
        ({"labels": np.zeros(9), "predictions": np.zeros(9, np.uint8)}, "labels are float64, not classes"),
        ({"labels": np.zeros(9, np.uint8), "predictions": np.full(9, 200, np.uint8)}, "class 200 of 10"),
        ({"labels": np.array([{}]), "predictions": np.zeros(1, np.uint8)}, "not plain numbers"),
    ],
)
def test_predictions_of_another_shape_or_type_are_a_mismatch(arrays: dict[str, Any], fault: str, root: Path) -> None:
    np.savez(next((root / "runs").rglob("pocket_vit/lora/*.npz")), **arrays)
    assert any(fault in mismatch for mismatch in of(verify(root).findings, "lora").mismatches)


def test_without_predictions_a_score_is_not_vouched_for(root: Path) -> None:
    next((root / "runs").rglob("pocket_vit/lora/*.npz")).unlink()
    found = of(verify(root).findings, "lora")
    assert found.verdict == "cannot" and "score: there are no predictions beside the record" in found.unchecked


def test_a_method_that_is_not_here_is_not_vouched_for_and_stops_nothing(root: Path) -> None:
    stray = next((root / "runs").rglob("pocket_vit/lora/*.json"))
    stray.with_name("seed0-backup.json").write_bytes(stray.read_bytes())
    found = verify(root)
    assert found.count("mismatch") == 1 and found.count("vouched") == 8


def test_the_command_prints_rows_and_its_exit_code_tells(root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(root)]) == 0
    out = capsys.readouterr().out
    assert "8 records: 8 vouched for, 0 with a mismatch, 0 that cannot be checked." in out and "lora" in out
    edit(root, "lora", lambda d: d["scores"].update(test=0.99))
    assert main(["verify", str(root), "--json"]) == 1
    data = json.loads(capsys.readouterr().out)
    assert data["mismatch"] == 1 and data["vouched"] == 7 and len(data["records"]) == 8


def test_a_folder_without_records_is_a_wrong_question(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="There are no records under"):
        verify(tmp_path)


def test_counts_that_data_or_classes_decide_are_no_mismatch(tmp_path: Path) -> None:
    """DA-VPT keeps a number for each class, VQT reads more into the head, and SPT lets the data choose its weights."""
    runs = Path("runs", "pocket2", "count", "pocket_vit_patch8")  # eight classes
    for method in ("da_vpt", "vqt", "spt"):
        (tmp_path / runs / method).mkdir(parents=True)
        for path in (POCKET2 / runs / method).glob("seed0-*"):
            shutil.copy(path, tmp_path / runs / method)
    found = verify(tmp_path)
    assert found.count("vouched") == len(found.findings) == 3
    checked = {f.record.split("/")[-2]: (set(f.checked), f.unchecked) for f in found.findings}
    assert {"bytes without head", "all parameters", "operations"} <= checked["vqt"][0] & checked["da_vpt"][0]
    assert any("data decide" in reason for reason in checked["spt"][1])


def test_neurons_that_go_before_training_are_held_to_the_closed_form(tmp_path: Path) -> None:
    """MiMi by SNIP or GraSP removes once, before the first step: other numbers train than were attached."""
    runs = Path("runs", "pocket2", "tilt", "pocket_swin_patch4", "mimi")
    (tmp_path / runs).mkdir(parents=True)
    paths = [p for p in sorted((PAPERS / runs).glob("seed0-*.json")) if '"score": "snip"' in p.read_text()]
    for path in paths:
        shutil.copy(path, tmp_path / runs)
        shutil.copy(path.with_suffix(".npz"), tmp_path / runs)
    found = verify(tmp_path)
    assert found.count("vouched") == len(found.findings) == len(paths) == 4
    assert all("trained parameters in closed form" in f.checked for f in found.findings)
    data = json.loads((tmp_path / runs / paths[0].name).read_text())
    data["cost"]["params"]["method"] += 96
    (tmp_path / runs / paths[0].name).write_text(json.dumps(data))
    (wrong,) = (f for f in verify(tmp_path).findings if f.mismatches)
    assert wrong.record.endswith(paths[0].name)
    assert any("trained parameters in closed form" in each for each in wrong.mismatches)


@pytest.mark.slow
@pytest.mark.parametrize(("folder", "least"), [(POCKET2, 1440), (PAPERS, 1335)])
def test_every_committed_run_is_vouched_for(folder: Path, least: int) -> None:
    found = verify(folder)
    assert found.count("vouched") == len(found.findings) >= least
