"""Which attention a model computes: torch's fused kernel, or its products and softmax one after the other.

Both give the same numbers but for rounding, so a choice is part of how a run is computed. It is made module by module,
from what is faster where it runs. On an accelerator that is the fused kernel, always. On a CPU, images/s of a ViT with
LoRA, training and scoring, one core, torch 2.14 (batches of 20 to 64):

    tokens   float32: products   fused        bf16 autocast: products   fused
        17      1516    3647    1521   3601         2044    5353     1018   5340
        65       268     615     277    652          623    1596      322   1314
       145       176     423     182    463          396     905      180    766
       197        41      94      43    100          131     285       82    226

so that float32 gains from some hundred tokens on, and bf16 loses everywhere.
"""

from __future__ import annotations

from timm.layers.attention import Attention
from timm.models.swin_transformer import SwinTransformer, WindowAttention
from timm.models.vision_transformer import VisionTransformer
from torch import nn

FUSED_FROM = 128  # tokens that attend to each other, on a CPU in float32


def choose_attention(model: nn.Module, device: str, precision: str) -> None:
    """Sets the fused kernel in each attention of a timm ViT or Swin, or unsets it; elsewhere there is no choice."""
    if not isinstance(model, VisionTransformer | SwinTransformer):
        return
    for module in model.modules():
        if isinstance(module, WindowAttention):
            module.fused_attn = _fused(module.window_area, device, precision)
        elif isinstance(module, Attention) and isinstance(model, VisionTransformer):
            tokens = model.patch_embed.num_patches + model.num_prefix_tokens
            module.fused_attn = _fused(tokens, device, precision)  # type: ignore[misc]  # Final, for TorchScript


def _fused(tokens: int, device: str, precision: str) -> bool:
    return device != "cpu" or (precision == "fp32" and tokens >= FUSED_FROM)
