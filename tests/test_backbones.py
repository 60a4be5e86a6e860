from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from bench import backbones
from bench.errors import UsageError


def test_the_bundled_weights_are_whole_and_small(backbone: str) -> None:
    model = backbones.create(backbone, classes=7)
    assert (backbones.WEIGHTS / f"{backbone}.safetensors").stat().st_size <= 6e6
    assert model.get_classifier().out_features == 7  # type: ignore[operator]
    assert backbones.weights_digest(model) == backbones.weights_digest(backbones.create(backbone, classes=3))
    assert "cifar10" in str(backbones.pretraining_data(backbone))
    assert not model.training


def test_the_model_card_tells_the_digest_and_accuracy_of_the_files(backbone: str) -> None:
    import hashlib

    from safetensors import safe_open

    path = backbones.WEIGHTS / f"{backbone}.safetensors"
    page = (Path(__file__).parents[1] / "docs" / "backbones.md").read_text()
    assert hashlib.sha256(path.read_bytes()).hexdigest()[:16] in page
    with safe_open(path, "pt") as file:
        assert f"{100 * float(file.metadata()['test_accuracy']):.2f} %" in page


def test_normalisation_is_the_checkpoints_own() -> None:
    for name in (
        "vit_base_patch16_224.orig_in21k",
        "swin_tiny_patch4_window7_224.ms_in1k",
        "vit_base_patch32_clip_quickgelu_224.openai",
    ):
        with torch.device("meta"):
            model = backbones.create(name, classes=2, weights="random", device="meta")
        config = timm.get_pretrained_cfg(name)
        assert backbones.normalisation(model) == (tuple(config.mean), tuple(config.std))
        assert backbones.input_size(model) == 224


def test_weights_are_read_from_a_file_and_a_wrong_file_is_refused(tmp_path: Path) -> None:
    donor = backbones.create("vit_tiny_patch16_224", classes=5, weights="random")
    save_file(donor.state_dict(), tmp_path / "tiny.safetensors")
    model = backbones.create("vit_tiny_patch16_224", classes=9, weights=str(tmp_path / "tiny.safetensors"))
    assert backbones.weights_digest(model) == backbones.weights_digest(donor)
    with pytest.raises(UsageError, match="does not hold the weights of 'pocket_vit'"):
        backbones.create("pocket_vit", classes=5, weights=str(tmp_path / "tiny.safetensors"))


def test_an_unknown_backbone_comes_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'vit_base_patch16_224'"):
        backbones.create("vit_base_patch16_22", classes=2)
