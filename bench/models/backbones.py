"""Backbones: timm models by their full tag, CvT-13, and the two pocket backbones that ship with the package.

A backbone carries the mean and std of the checkpoint it comes from (`normalisation`), never a data set's.
"""

from __future__ import annotations

import hashlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file
from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from bench.core.errors import UsageError, unknown
from bench.models import clip, cvt
from bench.models.attention import choose_attention

WEIGHTS = Path(__file__).parents[1] / "weights"
HEAD = ("head.", "classifier.")  # of the names of a head's tensors, ours and Hugging Face's


@dataclass(frozen=True)
class Pocket:
    """A small backbone for 32 x 32 images, pretrained by `bench pretrain` and shipped as safetensors."""

    build: Callable[..., nn.Module]
    title: str
    mean: tuple[float, float, float] = (0.4914, 0.4822, 0.4465)
    std: tuple[float, float, float] = (0.2470, 0.2435, 0.2616)


def _pocket_vit(**kwargs: Any) -> nn.Module:
    return VisionTransformer(img_size=32, patch_size=4, embed_dim=128, depth=6, num_heads=4, **kwargs)


def _pocket_swin(**kwargs: Any) -> nn.Module:
    return SwinTransformer(
        img_size=32,
        patch_size=2,
        embed_dim=48,
        depths=(2, 2, 2),
        num_heads=(2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
        **kwargs,
    )


def _pocket_vit_patch8(**kwargs: Any) -> nn.Module:
    return VisionTransformer(img_size=32, patch_size=8, embed_dim=128, depth=4, num_heads=4, **kwargs)


def _pocket_swin_patch4(**kwargs: Any) -> nn.Module:
    return SwinTransformer(
        img_size=32,
        patch_size=4,
        embed_dim=48,
        depths=(2, 2, 2),
        num_heads=(2, 4, 8),
        window_size=4,
        drop_path_rate=0.0,
        **kwargs,
    )


POCKET = {
    "pocket_vit": Pocket(_pocket_vit, "ViT, 32 px, patch 4, width 128, depth 6"),
    "pocket_swin": Pocket(_pocket_swin, "Swin, 32 px, patch 2, width 48, depths 2-2-2, window 4"),
    "pocket_vit_patch8": Pocket(_pocket_vit_patch8, "ViT, 32 px, patch 8, width 128, depth 4"),
    "pocket_swin_patch4": Pocket(_pocket_swin_patch4, "Swin, 32 px, patch 4, width 48, depths 2-2-2, window 4"),
}


def create(
    name: str,
    *,
    classes: int,
    weights: str = "pretrained",
    device: str = "cpu",
    image_size: int | None = None,
    precision: str = "fp32",
) -> nn.Module:
    """The backbone with a fresh head of `classes` outputs, in eval mode on `device`, for images of `image_size` pixels.

    None is the size of its checkpoint. Raises UsageError where it cannot be built for another.

    `weights` is "pretrained", "random", or the path of a safetensors file with the backbone's own keys. What depends on
    the image size is then resampled as timm does with weights from the hub: position embeddings and Swin's tables.
    `precision`, "fp32" or "bf16", is what it will be computed in: the faster attention there is chosen.
    """
    if name in POCKET:
        pocket = POCKET[name]
        model = pocket.build(num_classes=classes)
        model.pretrained_cfg = {"mean": pocket.mean, "std": pocket.std, "input_size": (3, 32, 32)}  # type: ignore[assignment]
        if weights == "pretrained":
            _load(model, WEIGHTS / f"{name}.safetensors", name)
    elif name in cvt.HUB:
        model = cvt.create(name, classes=classes, pretrained=weights == "pretrained")
    elif name.endswith(clip.SUFFIX):
        tag = clip.timm_tag(name)
        _check_known(tag)
        own = _timm_model(tag, None, image_size, pretrained=weights == "pretrained")
        model = clip.keep_projection(own, classes, pretrained=weights == "pretrained")
    else:
        _check_known(name)
        model = _timm_model(name, classes, image_size, pretrained=weights == "pretrained")
    if image_size not in (None, input_size(model)):
        own = input_size(model)
        raise UsageError(
            f"{name} sees images of {own} pixels, the protocol asks for {image_size}. Choose another backbone, or a "
            "protocol without an image size, like --protocol pocket@v1."
        )
    if weights not in ("pretrained", "random"):
        _load(model, Path(weights), name)
    choose_attention(model, device, precision)
    return model.to(device).eval()


def _check_known(tag: str) -> None:
    if not timm.is_model(tag.split(".")[0]):
        raise unknown("backbone", tag, [*POCKET, *cvt.HUB, *timm.list_models()])


def _timm_model(name: str, classes: int | None, image_size: int | None, *, pretrained: bool) -> Any:
    """With the head of its own weights where `classes` is None."""
    try:
        cfg = timm.get_pretrained_cfg(name)
        own = cfg.input_size[-1] if cfg else image_size
        other: dict[str, Any] = {} if image_size in (None, own) else {"img_size": image_size}
        head: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        model: nn.Module = timm.create_model(name, pretrained=pretrained, **head, **other)
        if other:
            model.pretrained_cfg = {**model.pretrained_cfg, "input_size": (3, image_size, image_size)}  # type: ignore[assignment, dict-item]
        return model
    except Exception as error:
        if not pretrained:
            raise UsageError(f"timm cannot build {name!r}: {error}") from error
        told = str(error).strip().partition("\n")[0][:160]
        raise UsageError(
            f"The weights of {name!r} could not be loaded from the hub ({type(error).__name__}: "
            f"{told}). Give a file with --weights FILE, or use --weights random."
        ) from error


def _load(model: nn.Module, path: Path, name: str) -> None:
    """Loads every tensor but the head, which belongs to another task."""
    if not path.is_file():
        make = f" Make them with 'bench pretrain {name} --data DIR --out {path.parent}'." if name in POCKET else ""
        raise UsageError(f"No weights of {name!r} at {path}.{make}")
    try:
        stored = load_file(path)
    except SafetensorError as error:
        raise UsageError(f"{path} is not a safetensors file ({error}).") from error
    fitted = _resampled(stored, model, path, name)
    tensors = {key: value for key, value in fitted.items() if not key.startswith(HEAD)}
    own = {key: value for key, value in model.state_dict().items() if not key.startswith(HEAD)}
    wrong = sorted(set(tensors) ^ set(own) or {key for key, value in own.items() if value.shape != tensors[key].shape})
    if wrong:
        few = ", ".join(wrong[:3])
        raise UsageError(f"{path} does not hold the weights of {name!r}: {len(wrong)} tensors do not fit, {few} first.")
    model.load_state_dict(tensors, strict=False)


def _resampled(stored: dict[str, torch.Tensor], model: nn.Module, path: Path, name: str) -> dict[str, torch.Tensor]:
    """The tensors of a file at the model's image size, by the function that timm has for its class, if it has one.

    That would resample the patches too, as if a backbone of patch 14 were one of patch 16; such a file is refused.
    """
    convert: Any = getattr(sys.modules[type(model).__module__], "checkpoint_filter_fn", None)
    if convert is None:
        return stored
    patch = "patch_embed.proj.weight"
    found, own = stored.get(patch), model.state_dict().get(patch)
    if found is not None and own is not None and found.shape != own.shape:
        shapes = " and ".join("x".join(map(str, tensor.shape)) for tensor in (found, own))
        raise UsageError(f"{path} does not hold the weights of {name!r}: the shapes of {patch} are {shapes}.")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # of timm's resampling, about its own use of torch
            return dict(convert(stored, model))
    except Exception as error:  # of whatever a file of another model leads to
        told = str(error).strip().partition("\n")[0][:160]
        raise UsageError(f"{path} does not hold the weights of {name!r} ({type(error).__name__}: {told}).") from error


def normalisation(model: nn.Module) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std, on the 0 to 1 scale, that the checkpoint was trained with (its own configuration)."""
    config: Any = model.pretrained_cfg
    return tuple(config["mean"]), tuple(config["std"])


def input_size(model: nn.Module) -> int:
    """Side of the square input image in pixels."""
    config: Any = model.pretrained_cfg
    return int(config["input_size"][-1])


@cache
def size_of(name: str) -> int:
    """The same by the backbone's name; no weights are made."""
    return input_size(create_empty(name))


def create_empty(name: str) -> nn.Module:
    """A backbone without numbers, on torch's "meta" device, which costs neither memory nor a download."""
    with torch.device("meta"):
        return create(name, classes=2, weights="random", device="meta")


def weights_digest(model: nn.Module) -> str:
    """sha256 over names, shapes and bytes of the backbone's own tensors, 16 hex digits; head and method left out."""
    digest = hashlib.sha256()
    for key, value in sorted(model.state_dict().items()):
        if not key.startswith((*HEAD, "pet.")):
            digest.update(f"{key} {tuple(value.shape)} {value.dtype}".encode())
            digest.update(value.detach().cpu().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def pretraining_data(name: str) -> str | None:
    """The data that a pocket backbone was pretrained on, from the metadata of its weight file."""
    path = WEIGHTS / f"{name}.safetensors"
    if not path.is_file():
        return None
    with safe_open(path, "pt") as file:
        metadata: dict[str, str] = file.metadata() or {}
    return metadata.get("data")
