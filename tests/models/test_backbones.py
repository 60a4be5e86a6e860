from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import load_file, save_file

from bench.core.errors import UnsupportedBackbone, UsageError
from bench.models import backbones, cost
from bench.models.families import build_view
from methods.adapters import Adapters
from methods.lora import LoRA

DATA = {
    "pocket_vit": "cifar10",
    "pocket_swin": "cifar10",
    "pocket_vit_patch8": "tinyimagenet32",
    "pocket_swin_patch4": "tinyimagenet32",
}
every_pocket_backbone = pytest.mark.parametrize("backbone", backbones.POCKET)


@every_pocket_backbone
def test_the_bundled_weights_are_whole_and_small(backbone: str) -> None:
    model = backbones.create(backbone, classes=7)
    assert (backbones.WEIGHTS / f"{backbone}.safetensors").stat().st_size <= 6e6
    assert model.get_classifier().out_features == 7  # type: ignore[operator]
    assert backbones.weights_digest(model) == backbones.weights_digest(backbones.create(backbone, classes=3))
    assert str(backbones.pretraining_data(backbone)).partition(":")[0] == DATA[backbone]
    assert not model.training


@every_pocket_backbone
def test_the_model_card_tells_the_digest_and_accuracy_of_the_files(backbone: str) -> None:
    import hashlib

    from safetensors import safe_open

    path = backbones.WEIGHTS / f"{backbone}.safetensors"
    page = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text()
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


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    ("name", "saved", "asked"),
    [
        ("vit_tiny_patch16_224", 96, 64),
        ("vit_small_patch14_reg4_dinov2", 70, 42),
        ("swin_tiny_patch4_window7_224", 224, 128),
    ],
)
def test_weights_of_another_image_size_are_resampled_as_timm_does_with_those_of_the_hub(
    name: str, saved: int, asked: int, tmp_path: Path
) -> None:
    file = tmp_path / "other.safetensors"
    save_file(timm.create_model(name, img_size=saved, num_classes=4).state_dict(), file)
    ours = backbones.create(name, classes=4, weights=str(file), image_size=asked)
    given = {"file": str(file), "num_classes": 4, "custom_load": False}  # as safetensors, whatever the hub has
    theirs = timm.create_model(
        name, pretrained=True, pretrained_cfg_overlay=given, img_size=asked, num_classes=4
    ).eval()
    kept = {key: value for key, value in theirs.state_dict().items() if not key.startswith(backbones.HEAD)}
    assert all(torch.equal(ours.state_dict()[key], value) for key, value in kept.items())
    stored = load_file(file)
    resized = {key for key, value in kept.items() if value.shape != stored[key].shape}
    assert resized and all(key == "pos_embed" or "relative_position" in key for key in resized)
    assert backbones.input_size(ours) == asked and ours(torch.zeros(1, 3, asked, asked)).shape == (1, 4)


def test_files_of_other_patches_or_models_are_refused_in_one_line(tmp_path: Path) -> None:
    def saved(model: torch.nn.Module | dict[str, torch.Tensor]) -> str:
        save_file(model if isinstance(model, dict) else model.state_dict(), tmp_path / "other.safetensors")
        return str(tmp_path / "other.safetensors")

    other = saved(timm.create_model("vit_tiny_patch16_224", img_size=28, patch_size=14, num_classes=0))
    with pytest.raises(UsageError, match="shapes of patch_embed.proj.weight are 192x3x14x14 and 192x3x16x16"):
        backbones.create("vit_tiny_patch16_224", classes=2, weights=other)
    good = timm.create_model("vit_tiny_patch16_224", img_size=32, num_classes=0).state_dict()
    for broken in (
        {**good, "pos_embed": torch.zeros(1, 4, 192)},
        {"model.x": torch.zeros(2)},
        {"mask_token": torch.zeros(1)},
    ):
        with pytest.raises(UsageError, match="does not hold the weights of 'vit_tiny_patch16_224'"):
            backbones.create("vit_tiny_patch16_224", classes=2, weights=saved(broken))


def test_an_unknown_backbone_comes_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="Did you mean 'vit_base_patch16_224'"):
        backbones.create("vit_base_patch16_22", classes=2)


# name, blocks, tokens before the patches, rows of patches in the first and the last block, width of the last, final norm
TIMM = [
    ("vit_base_patch32_clip_quickgelu_224.openai", 12, 1, (7, 7), 768, "norm"),
    ("vit_small_patch14_reg4_dinov2", 12, 5, (37, 37), 384, "norm"),
    ("deit3_small_patch16_224", 12, 1, (14, 14), 384, "norm"),
    ("vit_base_patch16_clip_224", 12, 1, (14, 14), 768, "norm"),
    ("vit_base_patch16_siglip_gap_224", 12, 0, (14, 14), 768, "norm"),
    ("vit_medium_patch16_reg4_gap_256", 12, 4, (16, 16), 512, "fc_norm"),
    ("swin_small_patch4_window7_224", 24, 0, (56, 7), 768, "norm"),
    ("swin_base_patch4_window7_224", 24, 0, (56, 7), 1024, "norm"),
]


@pytest.mark.parametrize(("name", "blocks", "prefix", "rows", "width", "final"), TIMM, ids=lambda v: str(v))
def test_methods_attach_to_timm_models(
    name: str, blocks: int, prefix: int, rows: tuple[int, int], width: int, final: str
) -> None:
    """The adapters' and LoRA's counts are their closed forms, and an image goes through (no weights are made)."""
    with torch.device("meta"):
        net = build_view(backbones.create(name, classes=3, weights="random", device="meta"))
        size = backbones.input_size(net.model)
        for method in (LoRA(), Adapters()):
            before = cost.method_params(net)
            method.attach(net)
            assert cost.method_params(net) - before == method.count(net.shape)
        assert net.model(torch.zeros(2, 3, size, size)).shape == (2, 3)
    assert len(net.blocks) == blocks and net.shape.dims[-1] == width
    assert {block.prefix for block in net.blocks} == {prefix}
    assert (net.blocks[0].grid[0], net.blocks[-1].grid[0]) == rows
    assert net.final is not None and net.final.path == final
    assert len(net.merging) == (3 if name.startswith("swin") else 0)


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("beit_base_patch16_224", "Beit"),
        ("eva02_tiny_patch14_224", "blocks.0.mlp is a GluMlp"),
        ("convnext_atto", "ConvNeXt"),
        ("swinv2_cr_tiny_224", "SwinTransformerV2Cr"),
        ("vit_giant_patch14_dinov2", "blocks.0.mlp is a GluMlp"),
        ("vit_dwee_patch16_reg1_gap_256", "blocks.0.attn is a DiffAttention"),
        ("vit_pwee_patch16_reg1_gap_256", "blocks.0 is a ParallelScalingBlock"),
    ],
)
def test_a_backbone_of_another_kind_is_refused_by_name(name: str, part: str) -> None:
    if not timm.is_model(name):
        pytest.skip(f"timm {timm.__version__} has no {name}")
    with torch.device("meta"):
        model = backbones.create(name, classes=3, weights="random", device="meta")
    with pytest.raises(UnsupportedBackbone, match=f"^{part}.* is (not )?understood"):
        build_view(model)


def test_only_a_pocket_backbone_is_said_to_be_pretrained_here(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="Make them with 'bench pretrain pocket_vit"):
        backbones.create("pocket_vit", classes=2, weights=str(tmp_path / "no.safetensors"))
    with pytest.raises(UsageError, match=r"No weights of 'vit_tiny_patch16_224' at .*no\.safetensors\.$"):
        backbones.create("vit_tiny_patch16_224", classes=2, weights=str(tmp_path / "no.safetensors"))
