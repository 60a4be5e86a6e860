"""Every script of benchmarks/ runs, in its smallest form. What it measures there says nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SCRIPTS = sorted(path.stem for path in (ROOT / "benchmarks").glob("*.py"))
SMALL: dict[str, tuple[list[str], list[str]]] = {  # arguments, and words of what it prints
    "data": (["--images", "8", "--rounds", "1", "--batch", "4"], ["8 images", "prepared array", "DataLoader"]),
    "gpu": (
        [
            "--device",
            "cpu",
            "--backbone",
            "pocket_vit",
            "--train",
            "10",
            "--test",
            "10",
            "--epochs",
            "3",
            "--batch",
            "5",
        ],
        ["linear_probe", "lora", "mimi", "full", "peft"],
    ),
    "mimi": (
        ["sizes", "--dataset", "pocket2/digits", "--seeds", "0", "--epochs", "5", "--out", "OUT"],
        ["sigma 16  MiMi", "sizes.csv", "sizes.png"],
    ),
    "overhead": (["--images", "40", "--rounds", "1"], ["lora on pocket_vit, 40 images", "ratio"]),
    "peft_side_by_side": (
        ["--images", "20,20", "--epochs", "1", "--rounds", "1", "--threads", "1"],
        ["script / ours:", "script / ours bf16:"],
    ),
    "pocket": (
        ["features", "--dataset", "pocket2/digits", "--backbone", "pocket_vit_patch8", "--out", "OUT"],
        ["pocket_vit_patch8 pocket2/digits"],
    ),
    "store": (["--sizes", "600,700", "--rounds", "1", "--plain"], ["600", "700", "plain"]),
}
OF_ANOTHER = {"peft_script": "peft_side_by_side", "scheduled_adapters": "mimi"}  # started or loaded by it
LONG = {"data", "gpu", "mimi", "peft_side_by_side", "pocket"}  # on a busy core


def test_every_script_has_a_small_form() -> None:
    assert set(SCRIPTS) <= {*SMALL, *OF_ANOTHER}


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow) if name in LONG else name for name in SCRIPTS if name in SMALL]
)
def test_it_runs_in_its_small_form(name: str, tmp_path: Path) -> None:
    arguments, printed = SMALL[name]
    command = [sys.executable, str(ROOT / "benchmarks" / f"{name}.py")]
    command += [str(tmp_path / "out") if each == "OUT" else each for each in arguments]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    for words in printed:
        assert words in done.stdout
