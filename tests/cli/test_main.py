from __future__ import annotations

import csv
import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from helpers.images import paint
from helpers.readme import PLUGIN

from bench.cli.main import main
from bench.core.store import Store
from bench.data.readers import folder
from bench.models import registry


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return paint(tmp_path / "pets", {"cat": 15, "dog": 15})


def run(pets: Path, out: Path, *more: str) -> int:
    return main(
        [
            "run",
            "--data",
            str(pets),
            "--backbone",
            "pocket_swin",
            "--seeds",
            "0",
            "--out",
            str(out),
            "--epochs",
            "1",
            *more,
        ]
    )


def test_one_command_leads_from_images_to_a_leaderboard(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(pets, out, "--method", "linear_probe,lora") == 0
    text = capsys.readouterr().out
    assert "[2/2] lora" in text and "linear_probe" in text
    name = folder.card(folder.divide(pets)).name.replace("/", "-")  # with a digest of the images
    rows = list(csv.DictReader((out / "leaderboards" / f"{name}.csv").read_text().splitlines()))
    assert {row["method"] for row in rows} == {"linear_probe", "lora"}
    for row in rows:
        assert 0 <= float(row[name.removeprefix("folder-")]) <= 100
        assert float(row["coverage"]) == 1
    names = {path.name for path in (out / "plots").iterdir()}
    assert {
        f"{name}-pocket_swin-{kind}.{suffix}" for kind in ("params", "gflops", "heatmap") for suffix in ("png", "svg")
    } <= names
    lists = json.loads((out / "data" / f"{name}.json").read_text())
    assert len(lists["test"]) == 6


def test_what_is_finished_is_not_run_again(pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    run(pets, out, "--method", "linear_probe")
    before = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*.json")}
    capsys.readouterr()
    assert run(pets, out, "--method", "linear_probe,bitfit") == 0
    text = capsys.readouterr().out
    assert "2 runs, 1 of them finished already" in text and "[1/1] bitfit" in text
    after = {path: path.stat().st_mtime_ns for path in (out / "runs").rglob("*.json")}
    assert before.items() <= after.items() and len(after) == 2


def test_a_plugin_file_outside_the_repository_runs(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "scaled_residual.py"
    plugin.write_text(PLUGIN)
    assert run(pets, tmp_path / "out", "--method", "scaled_residual", "--plugin", str(plugin), "--json") == 0
    record = json.loads(capsys.readouterr().out)["records"][0]
    assert record["spec"]["method"] == "scaled_residual"
    assert record["cost"]["params"]["method"] == 2 * (48 + 96 + 192)
    assert main(["list", "methods", "--plugin", str(plugin)]) == 0
    assert "scaled_residual" in capsys.readouterr().out


def test_check_tells_what_a_method_owes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plugin = tmp_path / "scaled_residual.py"
    plugin.write_text(PLUGIN)
    args = ["check", "scaled_residual", "--plugin", str(plugin), "--backbone", "pocket_swin"]
    assert main(args) == 0
    assert "FAIL" not in capsys.readouterr().out
    plugin.write_text(PLUGIN.replace("return self.s * y", "return self.s * y + 1e-3 * y.mean(0)"))
    assert main(args) == 1
    assert "FAIL images_do_not_mix" in capsys.readouterr().out


def test_a_dry_run_runs_nothing(pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pets, tmp_path / "out", "--method", "all", "--epochs", "4", "--dry-run") == 0
    every = len(registry.entries())
    assert f"{every} runs: {every} to do, 0 finished." in capsys.readouterr().out
    assert not (tmp_path / "out" / "runs").exists()


def test_a_method_that_breaks_when_attached_fails_alone(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "crashy.py"
    plugin.write_text(PLUGIN.replace("for block in net.blocks:", "for block in nte.blocks:"))
    assert run(pets, tmp_path / "out", "--method", "crashy,linear_probe", "--plugin", str(plugin)) == 1
    text = capsys.readouterr().out
    assert "failed: NameError" in text
    assert sorted(record.status for record in Store(tmp_path / "out").records()) == ["done", "failed"]
    assert main(["check", "crashy", "--plugin", str(plugin), "--backbone", "pocket_swin"]) == 1
    assert "FAIL attaches NameError" in capsys.readouterr().out


def test_new_images_in_a_folder_make_a_new_leaderboard(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert run(pets, out, "--method", "linear_probe,bitfit") == 0
    (pets / "cat" / "000.png").write_bytes((pets / "cat" / "001.png").read_bytes())
    assert run(pets, out, "--method", "linear_probe") == 0
    boards = [
        list(csv.DictReader(path.read_text().splitlines())) for path in (out / "leaderboards").glob("folder-pets-*.csv")
    ]
    methods = sorted(sorted(row["method"] for row in rows) for rows in boards)
    assert methods == [["bitfit", "linear_probe"], ["linear_probe"]]  # the older images' results stay in their own
    assert len(list((out / "runs").rglob("*.json"))) == 3


def test_a_finished_run_of_a_changed_method_is_told(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "scaled_residual.py"
    plugin.write_text(PLUGIN)
    args = ("--method", "scaled_residual", "--plugin", str(plugin))
    assert run(pets, tmp_path / "out", *args) == 0
    assert "before its file was changed" not in capsys.readouterr().err
    plugin.write_text(PLUGIN.replace("return self.s * y", "return y * self.s"))
    assert run(pets, tmp_path / "out", *args) == 0
    assert "made before the file of their method was changed (1 of scaled_residual)" in capsys.readouterr().err


def test_a_failed_run_is_told_counted_and_tried_again(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plugin = tmp_path / "fragile.py"
    plugin.write_text(PLUGIN.replace("return self.s * y", "raise RuntimeError('broken on purpose')"))
    args = ("--method", "fragile", "--plugin", str(plugin))
    assert run(pets, tmp_path / "out", *args) == 1
    assert "failed: RuntimeError: broken on purpose" in capsys.readouterr().out
    plugin.write_text(PLUGIN)
    sys.modules.pop("petbench_plugin_fragile", None)
    assert run(pets, tmp_path / "out", *args) == 0
    assert [record.status for record in Store(tmp_path / "out").records()] == ["done"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["run", "--method", "lroa", "--suite", "pocket"], "No method is called 'lroa'. Did you mean 'lora'?"),
        (["run", "--method", "lora", "--suite", "poket"], "No suite is called 'poket'. Did you mean 'pocket'?"),
        (["run", "--method", "lora", "--dataset", "pocket/digit"], "Did you mean 'pocket/digits'?"),
        (["run", "--method", "lora", "--suite", "pocket", "--set", "rnk=4"], "lora has no hyper-parameter 'rnk'. Did you mean 'rank'?"),
        (["run", "--method", "lora", "--suite", "pocket", "--set", "rank=0"], "rank = 0 must be at least 1"),
        (["run", "--method", "adapters", "--suite", "pocket", "--set", "sigma=0"], "sigma = 0.0 must be positive"),
        (["run", "--method", "lora", "--suite", "pocket", "--set", "rank=four"], "rank = 'four' is not a whole number"),
        (["run", "--method", "lora", "--suite", "pocket", "--set", "targets=q,w"], "no target is called 'w'"),
        (["run", "--method", "lora", "--suite", "pocket", "--set", "rank"], "is not KEY=VALUE"),
        (["run", "--method", "lora,full", "--suite", "pocket", "--set", "rank=4"], "say which one, like --set lora.rank=4"),
        (["run", "--suite", "pocket"], "--method is missing"),
        (["run", "--method", "x", "--suite", "a", "--data", "b"], "--suite and --data exclude each other"),
        (["run", "--method", "mimi", "--suite", "pocket", "--epochs", "2"], "2 epochs cannot be divided among 3 cycles"),
        (["run", "--method", "lora", "--suite", "pocket", "--limit", "5"], "--limit goes with --data"),
        (["run", "--method", "lora", "--data", "/nowhere"], "/nowhere is not a folder"),
        (["run", "--method", "lora", "--suite", "pocket", "--backbone", "pocket_vitt"], "Did you mean 'pocket_vit'?"),
        (["run", "--method", "lora", "--suite", "pocket", "--weights", "gone.safetensors"], "neither 'pretrained' nor 'random' nor a file"),
        (["run", "--method", "lora", "--suite", "pocket", "--plugin", "/nowhere.py"], "No plugin file"),
        (["count", "--method", "lora", "--backbone", "resnet18", "--classes", "5"], "ResNet is not understood"),
        (["table", "--out", "/nowhere"], "No records under"),
        (["pretrain", "pocket_vi", "--data", "/nowhere"], "Did you mean 'pocket_vit'?"),
    ],
)  # fmt: skip
def test_a_wrong_question_gets_one_clear_line_and_exit_code_2(
    args: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(args) == 2
    captured = capsys.readouterr()
    assert message in captured.err
    assert captured.err.strip().splitlines()[-1].startswith("bench: ")
    assert "Traceback" not in captured.err
    assert not list(tmp_path.rglob("*.json"))


@pytest.mark.parametrize(
    "args",
    [
        ["nothing"],
        ["run", "--method", "lora", "--suite", "pocket", "--seeds", "a"],
    ],
)
def test_the_parser_refuses_with_exit_code_2(args: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(args)
    assert stop.value.code == 2


def test_count_prints_one_object(capsys: pytest.CaptureFixture[str]) -> None:
    assert (
        main(["count", "--method", "lora", "--backbone", "pocket_vit", "--classes", "10", "--set", "rank=4", "--json"])
        == 0
    )
    counted = json.loads(capsys.readouterr().out)
    assert counted["params"] == {"method": 6 * 2 * 2 * 4 * 128, "head": 1290, "total": counted["params"]["total"]}
    assert counted["flops"]["unmerged"] > counted["flops"]["merged"] == 2 * counted["macs"]["merged"]
    assert set(counted) == {
        "params",
        "deployed",
        "macs",
        "flops",
        "flops_linear_conv",
        "flops_counter",
        "storage_bytes",
    }
    assert counted["deployed"] is None  # nothing is pruned
    assert set(counted["storage_bytes"]) == {"with_head", "without_head"}


def test_a_results_folder_that_cannot_be_written_is_told_in_one_line(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "out").write_text("a file where a folder should be")
    assert run(pets, tmp_path / "out", "--method", "linear_probe") == 2
    assert "bench: [Errno" in capsys.readouterr().err


@pytest.mark.parametrize("what", ["methods", "suites", "datasets", "backbones", "protocols"])
def test_lists_name_what_there_is(what: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list", what]) == 0
    expected = {
        "methods": "lora",
        "suites": "pocket",
        "datasets": "pocket/digits",
        "backbones": "pocket_swin",
        "protocols": "pocket@v1",
    }
    assert expected[what] in capsys.readouterr().out


def test_doctor_finds_the_bundled_weights(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    text = capsys.readouterr().out
    assert "pocket_vit" in text and "torch" in text and "problem" not in text


@pytest.mark.slow
def test_a_suite_killed_again_and_again_is_finished_by_starting_it_again(pets: Path, tmp_path: Path) -> None:
    """SIGKILL at ten seeded moments; afterwards every run has one whole record, and none was repeated or lost."""
    out, chance = tmp_path / "out", random.Random(0)
    command = [
        sys.executable,
        "-m",
        "bench",
        "run",
        "--data",
        str(pets),
        "--backbone",
        "pocket_swin",
        "--out",
        str(out),
    ]
    command += ["--method", "linear_probe,bitfit,lora", "--epochs", "1", "--seeds", "0,1,2,3", "--device", "cpu"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    seen: dict[Path, str] = {}
    for _ in range(10):
        process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        already = len(seen)
        deadline = time.monotonic() + 60
        while (
            len(list((out / "runs").rglob("*.json"))) <= already
            and process.poll() is None
            and time.monotonic() < deadline
        ):
            time.sleep(0.02)
        time.sleep(chance.random() * 0.3)
        process.send_signal(signal.SIGKILL)
        process.wait(60)
        now = {path: path.read_text() for path in (out / "runs").rglob("*.json")}
        assert seen.items() <= now.items()  # nothing finished was lost, changed or repeated
        seen = now
        if len(seen) == 12:
            break
    subprocess.run(command, env=environment, check=True, stdout=subprocess.DEVNULL, timeout=400)
    records = list(Store(out).records())
    assert len(records) == 12 and {record.status for record in records} == {"done"}
    for path, text in seen.items():
        assert path.read_text() == text
