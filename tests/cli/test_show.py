"""bench show: one run, whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.stored import DONE, FAILED

from bench.cli.main import main
from bench.core.store import Store


def test_a_finished_run_is_shown_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).write(DONE)
    assert main(["show", DONE.spec.digest[:6], "--out", str(tmp_path)]) == 0
    text = capsys.readouterr().out
    for part in (
        DONE.spec.digest,
        "50.00% (top1, 100 images, last epoch)",
        "method 5, head 50",
        "rank=8",
        "targets=q+v",
    ):
        assert part in text
    assert "at its largest   10 parameters" in text  # it was pruned
    assert main(["show", DONE.spec.digest[:6], "--out", str(tmp_path), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["scores"]["test"] == 0.5


def test_a_failed_run_shows_its_reason_and_has_no_result(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Store(tmp_path).write(FAILED)
    assert main(["show", FAILED.spec.digest, "--out", str(tmp_path)]) == 1
    assert "failed           it broke" in capsys.readouterr().out
