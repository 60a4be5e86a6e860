"""Scoring: what it gives does not depend on how many images are scored at a time, nor on where their bytes lie."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.arrays import DATA
from helpers.images import paint
from helpers.specs import PROTOCOL
from helpers.views import as_tuned, random_view

from bench.core.spec import Precision
from bench.data.readers import folder
from bench.data.root import default_data_root
from bench.data.splits import ArraySplit
from bench.models import backbones
from bench.models.families import build_view
from bench.models.method import Phase, build
from bench.models.registry import load
from bench.models.view import ModelView
from bench.training import inference, loop
from bench.training.batches import BatchLoader
from bench.training.execute import execute
from bench.training.job import make_job


def tuned(backbone: str, name: str = "lora", dtype: torch.dtype = torch.float32) -> ModelView:
    net = random_view(backbone, dtype)
    build(load(name), {}, name).attach(net)
    return net


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_scores_do_not_depend_on_how_many_images_are_scored_at_a_time(
    backbone: str, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An image's logits are those of the image alone, but for the rounding of the precision."""
    net, seen = tuned(backbone), []
    tolerance = 1e-4 if precision == "fp32" else 0.02
    for images in (1, 5, 24):
        monkeypatch.setattr(inference, "images_at_a_time", lambda net, images=images: images)
        seen.append((inference.predict(net, DATA, precision), inference.features(net, DATA, precision)))
    for logits, features in seen[1:]:
        scale = float(np.abs(seen[0][0]).max())
        assert np.abs(logits - seen[0][0]).max() < tolerance * scale
        torch.testing.assert_close(features, seen[0][1], rtol=0, atol=tolerance * float(seen[0][1].abs().max()))
    assert seen[0][0].shape == (24, 5) and np.abs(seen[0][0]).max() > 0.1


@pytest.mark.parametrize(
    ("name", "size"),  # bytes of the largest tensor of one image: the MLP's hidden layer
    [
        ("pocket_vit", 65 * 512 * 4),
        ("pocket_swin", 256 * 192 * 4),
        ("vit_base_patch16_224", 197 * 3072 * 4),
        ("swin_tiny_patch4_window7_224", 3136 * 384 * 4),
    ],
)
def test_as_many_images_are_scored_at_a_time_as_their_largest_tensor_leaves_room_for(name: str, size: int) -> None:
    net = build_view(backbones.create_empty(name))
    net.model.to_empty(device="cpu")
    assert inference.images_at_a_time(net) == inference.ROOM["cpu"] // size


def test_scoring_computes_in_the_precision_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    """bf16 rounds to 8 bits: the logits of training's first batch and of scoring are those of autocast, to the bit."""
    net = tuned("pocket_vit")
    index = torch.arange(24)
    x = inference.Pixels(net, DATA)(index)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        expected = net.model(x).float()
    monkeypatch.setattr(inference, "images_at_a_time", lambda net: 24)
    assert torch.equal(BatchLoader(net, DATA, precision="bf16")(index)[0].detach(), expected)
    assert np.array_equal(inference.predict(net, DATA, "bf16"), expected.numpy())
    assert not np.array_equal(inference.predict(net, DATA, "fp32"), expected.numpy())


def test_validation_and_the_record_are_in_the_protocols_precision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []
    predict = inference.predict

    def spy(net: ModelView, data: ArraySplit, precision: Precision = "fp32") -> np.ndarray:
        asked.append(precision)
        return predict(net, data, precision)

    monkeypatch.setattr(inference, "predict", spy)
    source = folder.divide(paint(tmp_path / "pets", {"cat": 20, "dog": 20}))
    for precision in ("fp32", "bf16"):
        protocol = replace(PROTOCOL, epochs=3, precision=precision, train_on="train", choose="validation")
        method, card = build(load("mimi"), {"cycles": 1}, "mimi"), folder.card(source)
        root = default_data_root()
        job = make_job("mimi", method, "pocket_swin", card, protocol, 0, data_root=root, source=source)
        record = execute(job)
        assert record.status == "done", record.reason
        assert set(asked) == {precision} and len(asked) == 3 + 1 + 2  # epochs, the reported model, both milestones
        assert record.provenance.dtype == {"fp32": "float32", "bf16": "bfloat16 autocast"}[precision]
        asked.clear()


@pytest.mark.parametrize("name", ["linear_probe", "lora", "vpt_deep", "mimi", "ssf", "full"])
def test_bf16_trains_about_as_well_as_float32(name: str) -> None:
    """The same steps from the same start; weights, moments and losses are float32 in both."""
    losses = {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(1)
        net, protocol = tuned("pocket_vit", name), replace(PROTOCOL, epochs=6, batch_size=8, precision=precision)
        losses[precision] = [e.loss for e in loop.fit(as_tuned(net), (Phase(6),), protocol, DATA, None, seed=3).epochs]
        assert {p.dtype for p in net.trainable_parameters().values()} == {torch.float32}
    assert losses["bf16"] != losses["fp32"]
    assert losses["bf16"] == pytest.approx(losses["fp32"], rel=0.15)


def test_images_that_lie_on_the_device_give_the_bits_of_those_that_do_not(backbone: str) -> None:
    """The path of an accelerator, here on the CPU: whole arrays of bytes, chosen from and normalised there."""
    net = tuned(backbone)
    larger = ArraySplit(np.random.default_rng(1).integers(0, 256, (24, 37, 37, 3), dtype=np.uint8), DATA.labels)
    for data in (DATA, larger, DATA.take(np.arange(3, 20)) + DATA.take(np.arange(4))):
        index = torch.randperm(len(data))[:7]
        far = inference.Pixels(net, data)
        near = inference.Pixels(net, data)
        near.resident = torch.from_numpy(np.array(data.images[:]))
        assert torch.equal(far(index), near.normalised(near.resident[index]))
        assert far(index).shape == (7, 3, 32, 32) and far(index).is_contiguous()


def test_no_step_of_training_waits_for_the_device() -> None:
    """A tensor's `item`, `tolist` or truth is a round trip: three steps note gradients, and an epoch reads its loss."""

    class Count(torch.overrides.TorchFunctionMode):
        trips = 0

        def __torch_function__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if getattr(func, "__name__", "") in ("item", "tolist", "__bool__", "__float__", "__int__", "cpu", "numpy"):
                Count.trips += 1
            return func(*args, **(kwargs or {}))

    net, trips = tuned("pocket_vit", "linear_probe"), []
    for batch in (24, 4):  # 2 steps, then 12
        Count.trips = 0
        with Count():
            loop.fit(as_tuned(net), (Phase(2),), replace(PROTOCOL, batch_size=batch, clip_norm=1.0), DATA, None, seed=0)
        trips.append(Count.trips)
    assert trips[0] > 0
    assert trips[1] <= trips[0] + 1
