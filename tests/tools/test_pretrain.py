from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.images import paint
from safetensors import safe_open
from safetensors.torch import load_file

from bench.core.errors import UsageError
from bench.tools import pretrain

RECIPE = pretrain.Recipe(epochs=3, batch=8)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("pretrain") / "tiny", {"train/a": 12, "train/b": 12, "test/a": 4, "test/b": 4})


def train(images: Path, out: Path, recipe: pretrain.Recipe = RECIPE) -> dict[str, torch.Tensor]:
    return load_file(pretrain.pretrain("pocket_swin", images, out, recipe, "cpu", lambda _: None))


def test_a_pretraining_cut_after_an_epoch_goes_on_as_if_uncut(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = train(images, tmp_path / "whole")
    epoch, calls = pretrain._epoch, []

    def cut(*args: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pretrain, "_epoch", cut)
    with pytest.raises(KeyboardInterrupt):
        train(images, tmp_path / "cut")
    resumed = train(images, tmp_path / "cut")
    assert len(calls) == 4  # two whole epochs, the one that was cut, and that one again
    assert all(torch.equal(whole[name], resumed[name]) for name in whole)


def test_the_weight_file_tells_its_data_recipe_and_accuracy(images: Path, tmp_path: Path) -> None:
    train(images, tmp_path)
    with safe_open(tmp_path / "pocket_swin.safetensors", "pt") as file:
        metadata = file.metadata()
    assert metadata["data"] == "tiny: 24 images, 2 classes"
    assert '"epochs": 3' in metadata["recipe"]
    assert 0 <= float(metadata["test_accuracy"]) <= 1


def test_a_state_of_another_recipe_is_refused(images: Path, tmp_path: Path) -> None:
    train(images, tmp_path)
    with pytest.raises(UsageError, match="belongs to another recipe"):
        train(images, tmp_path, pretrain.Recipe(epochs=4, batch=8))


def test_augmentation_shifts_mirrors_and_erases_and_keeps_the_rest() -> None:
    x = torch.arange(64 * 3 * 32 * 32).remainder(120).to(torch.uint8).view(64, 3, 32, 32)
    plain = pretrain._augment(x, 4, torch.Generator().manual_seed(0))
    assert plain.shape == x.shape and plain.dtype == torch.uint8
    found = 0
    for image, original in zip(plain, x, strict=True):
        padded = torch.nn.functional.pad(original, (4, 4, 4, 4))
        candidates = [padded[:, r : r + 32, c : c + 32] for r in range(9) for c in range(9)]
        candidates += [candidate.flip(-1) for candidate in candidates]
        erased = image == 127
        found += any(bool(((image == candidate) | erased).all()) for candidate in candidates)
    assert found == 64
    assert 10 < int((plain == 127).flatten(1).any(1).sum()) < 60
