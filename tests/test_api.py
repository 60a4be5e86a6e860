"""The benchmark from Python: the grid, store and records of the command line, and a model for a loop of one's own."""

from __future__ import annotations

import json
import warnings
from pathlib import Path

import pandas as pd
import pytest
from helpers.images import paint

import bench
from bench.cli.main import main
from bench.core.errors import UsageError
from bench.core.join import numbers
from bench.core.store import Store
from bench.execution.events import RunEvent
from bench.execution.request import RunRequest, read_request

SMALL = {"backbones": "pocket_swin", "epochs": 1, "seeds": [0]}


@pytest.fixture
def pets(tmp_path: Path) -> Path:
    return paint(tmp_path / "pets", {"cat": 15, "dog": 15})


def test_python_and_the_command_line_make_the_same_records(pets: Path, tmp_path: Path) -> None:
    events: list[RunEvent] = []
    results = bench.run("lora", data=pets, out=tmp_path / "a", rank=2, on_event=events.append, **SMALL)
    args = ["--data", str(pets), "--backbone", "pocket_swin", "--epochs", "1", "--seeds", "0"]
    assert main(["run", "--method", "lora", "--set", "rank=2", *args, "--out", str(tmp_path / "b")]) == 0
    (ours,), (theirs,) = results.records(), Store(tmp_path / "b").records()
    assert ours.spec == theirs.spec and ours.spec.params["rank"] == 2 and numbers(ours) == numbers(theirs)
    assert [event.outcome for event in events if event.outcome] == ["done"]
    assert results.account is not None and results.account.complete and len(results) == 1


def test_a_leaderboard_is_a_frame_of_what_was_asked(pets: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    both = bench.run(["linear_probe", "bitfit"], data=pets, out=out, **SMALL)
    one = bench.run("bitfit", data=pets, out=out, **SMALL)
    board = both.leaderboard()
    assert isinstance(board, pd.DataFrame) and sorted(board["method"]) == ["bitfit", "linear_probe"]
    assert list(one.leaderboard()["method"]) == ["bitfit"] and len(bench.load(out)) == 2
    assert both.to_frame().shape[0] == 2
    with pytest.raises(UsageError, match="no such leaderboard"):
        both.leaderboard(suite="vtab")
    with pytest.raises(UsageError, match="no results folder"):
        bench.load(tmp_path / "elsewhere")


def test_methods_may_have_settings_of_their_own(pets: Path, tmp_path: Path) -> None:
    choices = [bench.MethodChoice("lora", {"rank": 2}), bench.MethodChoice("lora", {"rank": 4}), "linear_probe"]
    asked = bench.plan(choices, data=pets, out=tmp_path / "out", **SMALL)
    assert [(spec.method, spec.params.get("rank")) for spec in asked.specs] == [
        ("lora", 2),
        ("lora", 4),
        ("linear_probe", None),
    ]
    assert not (tmp_path / "out").exists()


def test_a_file_is_a_request(pets: Path, tmp_path: Path) -> None:
    file = tmp_path / "sweep.toml"
    file.write_text(
        'data = ["pets"]\nbackbones = ["pocket_swin"]\nepochs = 1\nseeds = [0, 1]\n'
        '[[methods]]\nname = "lora"\nsettings = { rank = 2 }\n[[methods]]\nname = "linear_probe"\n'
    )
    request = read_request(file, out=str(tmp_path / "out"))
    assert isinstance(request, RunRequest) and request.data == (str(pets),)
    assert len(bench.plan(request).specs) == 4
    file.write_text('suite = "pocket"\nseedz = [0]\n[[methods]]\nnam = "lora"\n')
    with pytest.raises(UsageError) as error:
        read_request(file)
    assert "unknown key 'seedz' (did you mean 'seeds'?)" in str(error.value)
    assert "unknown key 'methods[0].nam'" in str(error.value) and len(str(error.value).splitlines()) == 1


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"suite": "pocket", "data": "x"}, "exactly one of suite, datasets and data"),
        ({"suite": "pocket", "limit": 5}, "limit goes with data"),
        ({"suite": "pocket", "epochs": 0}, "epochs = 0 must be at least 1"),
        ({"suite": "pokcet"}, "Did you mean 'pocket'"),
        ({"suite": "pocket", "backbones": "resnet50"}, "--backbone resnet50 is not supported"),
        ({"suite": "pocket", "rnk": 4}, "lora has no hyper-parameter 'rnk'. Did you mean 'rank'"),
        ({"suite": "pocket", "seeds": []}, "seeds must be"),
    ],
)
def test_a_wrong_question_is_one_sentence(given: dict[str, object], fault: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as error:
        bench.plan("lora", out=tmp_path / "out", **given)
    assert fault in str(error.value) and not (tmp_path / "out").exists()


def test_what_is_left_out_is_a_warning(pets: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        asked = bench.plan("lora", suite="vtab", out=tmp_path / "out", seeds=[0], weights="random")
    assert len(asked.specs) == 19  # planned before any of the data are here
    assert any("not on this machine" in str(warning.message) for warning in caught)


def test_the_public_names_are_there_without_torch() -> None:
    import subprocess
    import sys

    code = "import sys, bench; assert 'torch' not in sys.modules; [getattr(bench, n) for n in bench.__all__]"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    with pytest.raises(AttributeError, match="has no attribute 'rnu'"):
        bench.rnu  # noqa: B018


def test_json_is_one_object_whatever_a_plugin_prints(
    pets: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from helpers.readme import PLUGIN

    plugin = tmp_path / "chatty.py"
    plugin.write_text("print('hello from a plugin')\n" + PLUGIN)
    args = ["--data", str(pets), "--backbone", "pocket_swin", "--epochs", "1", "--seeds", "0", "--plugin", str(plugin)]
    assert main(["run", "--method", "chatty", *args, "--out", str(tmp_path / "out"), "--json"]) == 0
    captured = capsys.readouterr()
    assert [outcome["state"] for outcome in json.loads(captured.out)["outcomes"]] == ["done"]
    assert "hello from a plugin" in captured.err


def test_a_tuned_model_trains_in_a_plain_loop_is_stored_and_merged(tmp_path: Path) -> None:
    import timm
    import torch

    torch.manual_seed(0)
    small = {"img_size": 32, "patch_size": 8, "embed_dim": 48, "depth": 2, "num_heads": 3, "num_classes": 4}
    model = timm.create_model("vit_tiny_patch16_224", pretrained=False, **small)
    frozen = {name: tensor.clone() for name, tensor in model.state_dict().items() if not name.startswith("head")}
    net = bench.attach(model, "lora", rank=2)
    images, labels = torch.randn(16, 3, 32, 32), torch.arange(16) % 4
    optimizer = torch.optim.AdamW(net.trainable_parameters().values(), lr=1e-2)
    losses = []
    for _ in range(30):
        loss = torch.nn.functional.cross_entropy(net(images), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.5 * losses[0]
    assert all(torch.equal(model.state_dict()[name], tensor) for name, tensor in frozen.items())
    with torch.no_grad():
        before = net(images)
        net.save(tmp_path / "delta.safetensors")
        net.merge()
        assert torch.allclose(net(images), before, atol=1e-5)
    with pytest.raises(UsageError, match="Did you mean 'lora'"):
        bench.attach(model, "lroa")


@pytest.mark.parametrize("name", ["lora", "mimi"])
def test_what_a_run_has_trained_is_kept_and_opened_again(name: str, pets: Path, tmp_path: Path) -> None:
    import numpy as np

    from bench.data.prepare import Transform
    from bench.data.readers import folder
    from bench.data.splits import ArraySplit
    from bench.training import inference

    out = tmp_path / "out"
    (record,) = bench.run(name, data=pets, out=out, keep_delta=True, **{**SMALL, "epochs": 6}).records()
    net = bench.load_tuned(record.spec.digest[:8], out)
    stored = np.load(Store(out).path(record.spec).with_suffix(".npz"), allow_pickle=False)
    source = folder.divide(pets)
    images = np.stack([Transform(32)(source.open(file))[0] for file, _ in source.parts["test"]])
    logits = inference.predict(net.view, ArraySplit(images, stored["labels"].astype(np.int64)))
    assert (logits.argmax(1) == stored["predictions"]).all()
    assert record.cost is not None
    trainable = sum(parameter.numel() for parameter in net.trainable_parameters().values())
    assert trainable == record.cost.params.deployed + record.cost.params.head
    bench.run("linear_probe", data=pets, out=out, **SMALL)
    (other,) = (r for r in bench.load(out).records() if r.spec.method == "linear_probe")
    with pytest.raises(UsageError, match="has kept nothing of what it trained"):
        bench.load_tuned(other.spec.digest, out)
