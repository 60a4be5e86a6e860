"""The batch norm of ELEVATER's toolkit before the head: what it computes, and that a run is whole with it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.images import paint
from helpers.jobs import PROTOCOL, job
from helpers.views import random_view
from torch import nn
from torch.nn import functional as F

from bench.core import configs
from bench.core.spec import stream
from bench.core.store import Store
from bench.data.prepare import Transform
from bench.data.readers import folder
from bench.data.splits import ArraySplit
from bench.execution import kept
from bench.models import head_norm
from bench.tools.verify import verify
from bench.training import inference
from bench.training.execute import execute
from bench.training.job import Job
from bench.training.setup import prepare_model

NORMED = replace(PROTOCOL, head_norm="batch", epochs=3)


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> folder.ImageFolder:
    return folder.divide(paint(tmp_path_factory.mktemp("normed") / "pets", {"cat": 15, "dog": 15}))


def asked(source: folder.ImageFolder, method: str, **changes: object) -> Job:
    made = job(source, method, backbone="pocket_vit_patch8")
    return replace(made, spec=replace(made.spec, protocol=replace(NORMED, **changes)), keep_delta=True)  # type: ignore[arg-type]


def features(views: int = 8, width: int = 5) -> torch.Tensor:
    return 3 + 2 * torch.randn(views, width, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


def test_it_is_a_standardisation_by_the_batch_then_by_running_means() -> None:
    norm, x = head_norm.HeadNorm(5).double(), features()
    mean, variance = x.mean(0), x.var(0, unbiased=False)
    assert torch.allclose(norm(x), (x - mean) / (variance + 1e-5).sqrt())
    norm.eval()
    running = 0.1 * mean, 0.9 + 0.1 * x.var(0, unbiased=True)
    assert torch.allclose(norm(x), (x - running[0]) / (running[1] + 1e-5).sqrt())
    assert not list(norm.parameters())


def test_a_batch_of_one_image_goes_by_the_running_means() -> None:
    norm, x = head_norm.HeadNorm(5).double(), features(1)
    norm.train()
    assert torch.allclose(norm(x), x / (1 + 1e-5) ** 0.5) and not norm.running_mean.any()  # type: ignore[union-attr]


@pytest.mark.parametrize("backbone", ["pocket_vit_patch8", "pocket_swin_patch4"])
def test_a_merged_head_gives_the_same_logits(backbone: str) -> None:
    net = random_view(backbone)
    head_norm.attach(net)
    (norm,) = net.pet.values()
    assert isinstance(norm, head_norm.HeadNorm)
    images = torch.randn(4, 3, 32, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    net.pet.train()
    net.model(images)
    net.model.eval()
    seen = net.model.forward_head(net.model.forward_features(images), pre_logits=True)  # type: ignore[operator]
    expected = F.linear(F.batch_norm(seen, norm.running_mean, norm.running_var), net.head.weight, net.head.bias)
    logits = net.model(images)
    assert torch.allclose(logits, expected)
    net.merge()
    assert not net.pet and torch.allclose(net.model(images), logits, atol=1e-10)


def test_linear_probing_is_that_of_batch_norm_and_a_linear_layer_on_features_computed_once(
    source: folder.ImageFolder,
) -> None:
    """Against torch's own layers, trained beside it from the same head on the same batches."""
    run = asked(source, "linear_probe", weight_decay=0.0, warmup=0.0, batch_size=8, lr=0.01)
    net = prepare_model(run)
    assert net.only_head_trains()
    names = [name for part in ("train", "val") for name, _ in source.parts[part]]
    labels = torch.tensor([label for part in ("train", "val") for _, label in source.parts[part]])
    images = np.stack([Transform(32)(source.open(name))[0] for name in names])
    x = inference.features(net, ArraySplit(images, labels.numpy()))
    twin = nn.Sequential(nn.BatchNorm1d(x.shape[1], affine=False), nn.Linear(x.shape[1], 2))
    twin[1].load_state_dict(net.head.state_dict())

    record = execute(run)
    assert record.status == "done", record.reason
    order = torch.Generator().manual_seed(stream(run.spec, "data"))
    optimizer = torch.optim.AdamW(twin.parameters(), lr=0.01, weight_decay=0.0)
    losses, step, steps = [], 0, 3 * -(-len(x) // 8)
    for _ in range(3):
        total = 0.0
        for index in torch.randperm(len(x), generator=order).split(8):
            for group in optimizer.param_groups:
                group["lr"] = 0.01 * _schedule(step, steps)
            loss = F.cross_entropy(twin(x[index]), labels[index])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(index)
            step += 1
        losses.append(total / len(x))
    assert [epoch.loss for epoch in record.epochs] == pytest.approx(losses, rel=1e-4)


def _schedule(step: int, steps: int) -> float:
    return 1.0 if step == 0 else 0.5 * (1 + np.cos(np.pi * (step - 1) / (steps - 1)))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_what_is_kept_has_the_running_means_and_the_merged_model_is_told(
    source: folder.ImageFolder, tmp_path: Path, precision: str
) -> None:
    run, store = asked(source, "lora", precision=precision, batch_size=8), Store(tmp_path / "out")
    record = execute(run, store)
    assert record.status == "done" and record.cost and record.cost.merged, record.reason
    plain = execute(asked(source, "lora", head_norm="none", batch_size=8))
    assert plain.cost and record.cost.params == plain.cost.params
    assert record.cost.storage_bytes.with_head > plain.cost.storage_bytes.with_head
    net = kept.tuned(kept.find(tmp_path / "out", record.spec.digest[:8], print), None)
    (norm,) = (module for module in net.view.pet.values() if isinstance(module, head_norm.HeadNorm))
    assert norm.num_batches_tracked == 9 and norm.running_mean.any()  # type: ignore[union-attr]
    stored = np.load(store.path(run.spec).with_suffix(".npz"), allow_pickle=False)
    images = np.stack([Transform(32)(source.open(name))[0] for name, _ in source.parts["test"]])
    split = ArraySplit(images, stored["labels"].astype(np.int64))
    logits = inference.predict(net.view, split, run.spec.protocol.precision)
    assert (logits.argmax(1) == stored["predictions"]).all()


def test_it_is_part_of_a_run_s_identity_and_of_no_older_one() -> None:
    older, now = configs.protocol("elevater-5shot@v2"), configs.protocol("elevater-5shot@v3")
    assert replace(now, name=older.name, head_norm="none") == older and now.head_norm == "batch"
    for name, twin in (("elevater-full@v3", "elevater-full@v2"), ("elevater-full@v3-drawn", "elevater-full@v1")):
        assert replace(configs.protocol(name), name=twin, head_norm="none") == configs.protocol(twin)


@pytest.mark.parametrize("method", ["lora", "linear_probe", "vqt", "full"])
def test_a_run_with_it_is_vouched_for_and_what_is_stored_of_it_is_the_head_s(
    source: folder.ImageFolder, tmp_path: Path, method: str
) -> None:
    store = Store(tmp_path / "out")
    record, plain = (execute(asked(source, method, head_norm=norm, epochs=5), store) for norm in ("batch", "none"))
    assert record.cost and plain.cost
    assert record.cost.storage_bytes.without_head == plain.cost.storage_bytes.without_head
    more = record.cost.storage_bytes.with_head - plain.cost.storage_bytes.with_head
    assert 0 <= more - head_norm.nbytes(128) < 512  # names and shapes in the file's header
    assert verify(tmp_path / "out").count("vouched") == 2
