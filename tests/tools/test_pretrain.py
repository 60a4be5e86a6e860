from __future__ import annotations

from pathlib import Path

import pytest
import torch
from helpers.images import paint
from safetensors import safe_open
from safetensors.torch import load_file

from bench.core.errors import UsageError
from bench.models import backbones
from bench.tools import glyphs, pretrain

RECIPE = pretrain.Recipe(epochs=3, batch=8)
ALL_LESSONS = pretrain.Recipe(epochs=3, batch=8, rotation=0.5, turned=0.5, pixels=1.0, letters=0.25)


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return paint(tmp_path_factory.mktemp("pretrain") / "tiny", {"train/a": 12, "train/b": 12, "test/a": 4, "test/b": 4})


def train(images: Path, out: Path, recipe: pretrain.Recipe = RECIPE) -> dict[str, torch.Tensor]:
    return load_file(pretrain.pretrain("pocket_swin", images, out, recipe, "cpu", lambda _: None))


@pytest.mark.parametrize("recipe", [RECIPE, ALL_LESSONS], ids=["classes", "all lessons"])
def test_a_pretraining_cut_after_an_epoch_goes_on_as_if_uncut(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, recipe: pretrain.Recipe
) -> None:
    whole = train(images, tmp_path / "whole", recipe)
    epoch, calls = pretrain._epoch, []

    def cut(*args: object) -> float:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return epoch(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pretrain, "_epoch", cut)
    with pytest.raises(KeyboardInterrupt):
        train(images, tmp_path / "cut", recipe)
    resumed = train(images, tmp_path / "cut", recipe)
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


def test_every_pocket_backbone_has_a_recipe() -> None:
    assert list(pretrain.RECIPES) == list(backbones.POCKET)


def test_the_lessons_reach_the_backbone_and_leave_no_trace_in_its_file(images: Path, tmp_path: Path) -> None:
    plain, taught = train(images, tmp_path / "plain"), train(images, tmp_path / "taught", ALL_LESSONS)
    assert plain.keys() == taught.keys() == backbones.create("pocket_swin", classes=2).state_dict().keys()
    assert not torch.equal(plain["patch_embed.proj.weight"], taught["patch_embed.proj.weight"])


def test_letters_are_whole_without_digits_and_shapes_and_drawn_alike_from_one_seed() -> None:
    letters = glyphs.atlas()
    assert letters.shape == (len(glyphs.LETTERS), len(glyphs.FONTS), glyphs.CELL, glyphs.CELL)
    assert letters.amax((2, 3)).min() > 0.9  # every font has every letter
    assert max(float(letters[..., edge].max()) for edge in (0, -1)) == 0  # and none is cut off
    assert not set(glyphs.LETTERS) & set("0123456789oOlIisSzZxX+*<>^")
    images, labels = glyphs.draw(letters, 200, torch.Generator().manual_seed(0))
    again, _ = glyphs.draw(letters, 200, torch.Generator().manual_seed(0))
    assert images.shape == (200, 3, 32, 32) and images.dtype == torch.uint8
    assert torch.equal(images, again) and len(images.flatten(1).unique(dim=0)) == 200
    assert labels.min() >= 0 and labels.max() < len(glyphs.LETTERS)


def test_a_letter_covers_the_square_of_its_size() -> None:
    """A cell that is white all over: as a square of side 0.22 to 0.95, wherever it stands and however it is turned."""
    images, _ = glyphs.draw(torch.ones(1, 1, glyphs.CELL, glyphs.CELL), 300, torch.Generator().manual_seed(1))
    corner = images[:, :, :2, :2].float().mean((2, 3), keepdim=True)
    share = ((images - corner).abs().sum(1) > 150).float().mean((1, 2))
    assert 0.25 < share.median() < 0.45  # the side's median is 0.585 of the image's
    assert share.quantile(0.1) < 0.15 and share.quantile(0.95) > 0.7
