"""CvT (Wu et al., "CvT: Introducing Convolutions to Vision Transformers", ICCV 2021) with the face of a timm model.

The network is Hugging Face transformers' own, which is imported only here and only when a CvT is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import ModuleType
from typing import Any

from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bench.core.errors import UsageError

HUB = {"cvt_13": "microsoft/cvt-13"}  # ImageNet-1k, 224 px
EVERY_STAGE_WHOLE = [0.0, 0.0, 0.0]  # drop-path: transformers drops the residual sum too, not the branch alone


class Cvt(nn.Module):
    """transformers' encoder, the last norm and a linear head, under the names of transformers' classifier."""

    def __init__(self, cvt: nn.Module, layernorm: nn.Module, classes: int, size: int) -> None:
        super().__init__()
        config: Any = cvt.config
        self.cvt = cvt
        self.layernorm = layernorm
        self.head = nn.Linear(config.embed_dim[-1], classes)
        self.size = size
        self.pretrained_cfg = {
            "mean": IMAGENET_DEFAULT_MEAN,
            "std": IMAGENET_DEFAULT_STD,
            "input_size": (config.num_channels, size, size),
        }
        for stage in self.stages:
            stage.layers = Layers(*stage.layers)

    @property
    def stages(self) -> list[Any]:
        return list(self.cvt.get_submodule("encoder.stages").children())

    def forward_features(self, x: Tensor) -> Tensor:
        """The class token, or the patches of a CvT that has none, behind the last norm: (B, N, D)"""
        found: tuple[Tensor, ...] = self.cvt(x, return_dict=False)
        tokens = found[1] if len(found) > 1 else found[0].flatten(2).transpose(1, 2)
        normed: Tensor = self.layernorm(tokens)
        return normed

    def forward_head(self, x: Tensor, pre_logits: bool = False) -> Tensor:
        x = x.mean(1)
        return x if pre_logits else self.head(x)

    def forward(self, x: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(x))

    def get_classifier(self) -> nn.Linear:
        return self.head

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        for stage in self.stages:
            stage.layers.checkpointing = enable


class Layers(nn.Sequential):
    """A stage's layers, whose activations may be computed again in the backward pass instead of being kept."""

    checkpointing = False

    def __iter__(self) -> Iterator[Callable[..., Any]]:  # type: ignore[override]
        layers = super().__iter__()
        return (partial(checkpoint, layer, use_reentrant=False) for layer in layers) if self.checkpointing else layers


def create(name: str, *, classes: int, pretrained: bool) -> Cvt:
    """A CvT by name. Raises UsageError where transformers is not installed or the hub does not give the weights."""
    library = _transformers()
    if not pretrained:
        return from_config(library.CvtConfig(), classes=classes)
    try:
        full = library.CvtForImageClassification.from_pretrained(HUB[name], drop_path_rate=EVERY_STAGE_WHOLE)
    except Exception as error:
        told = str(error).strip().partition("\n")[0][:160]
        raise UsageError(
            f"The weights of {name!r} could not be loaded from the hub as {HUB[name]!r} ({type(error).__name__}: "
            f"{told}). Give a file with --weights FILE, or use --weights random."
        ) from error
    return Cvt(full.cvt, full.layernorm, classes, 224)


def from_config(config: Any, *, classes: int, size: int = 224) -> Cvt:
    """A CvT of any shape, a transformers CvtConfig, with random weights."""
    config.drop_path_rate = EVERY_STAGE_WHOLE[: len(config.depth)]
    return Cvt(_transformers().CvtModel(config), nn.LayerNorm(config.embed_dim[-1]), classes, size)


def _transformers() -> ModuleType:
    try:
        import transformers
    except ImportError as error:
        raise UsageError("A CvT needs Hugging Face transformers: pip install 'petbench[cvt]'.") from error
    return transformers
