"""Hugging Face PEFT: IA3, OFT, VeRA and DoRA, the code of their library, under this benchmark's protocol.

    y = d * (W x + b)      before fc2: W (d * x) + b      IA3
    y = W R x + b      R = (I + Q)(I - Q)^-1              OFT: Q skew and block-diagonal
    y = W x + b + l_b * B (l_d * A x)                     VeRA: A, B random, fixed and common to all layers
    y = m * (W + B A) / ||W + B A|| x + b                 DoRA: m and the norm are a row's

    pip install peft
    bench run --method hf_peft --set kind=ia3 --plugin plugins/hf_peft.py

With each kind the model starts as the frozen one and the update merges into the weights. PEFT puts layers of its own in
place of the targets, so that the trained tensors have PEFT's names and do not stand under `pet`. There is no BOFT:
without its CUDA extension PEFT makes OFT of it.

Liu et al. 2022, arXiv 2205.05638; Qiu et al. 2023, arXiv 2306.07280; Kopiczko et al. 2024, arXiv 2310.11454; Liu et al.
2024, arXiv 2402.09353. That every linear of a block is a target is ours.
"""

from dataclasses import dataclass
from typing import Any, Literal

import peft
from peft.tuners.tuners_utils import BaseTunerLayer

from bench.models.method import Method
from bench.models.view import ModelView


@dataclass(frozen=True)
class HuggingFacePeft(Method):
    kind: Literal["ia3", "oft", "vera", "dora"] = "ia3"
    rank: int = 8  # of VeRA and DoRA
    block: int = 8  # side of OFT's blocks; divides every width
    targets: tuple[str, ...] = ("qkv", "proj", "fc1", "fc2")

    family = "low-rank"
    supports = "vit swin"
    merges = True

    def attach(self, net: ModelView) -> None:
        paths = [block.linear[target].path for block in net.blocks for target in self.targets]
        kinds: dict[str, tuple[type[Any], dict[str, Any]]] = {
            "ia3": (peft.IA3Config, {"feedforward_modules": [path for path in paths if path.endswith("fc2")]}),
            "oft": (peft.OFTConfig, {"r": 0, "oft_block_size": self.block, "use_cayley_neumann": False}),
            "vera": (peft.VeraConfig, {"r": self.rank}),
            "dora": (peft.LoraConfig, {"r": self.rank, "lora_alpha": self.rank, "use_dora": True}),
        }
        config, options = kinds[self.kind]
        peft.get_peft_model(net.model, config(target_modules=paths, **options))  # in place
        net.head.requires_grad_(True)  # PEFT freezes whatever is not its own

    def merge(self, net: ModelView) -> None:
        for path, layer in list(net.model.named_modules()):
            if isinstance(layer, BaseTunerLayer):
                layer.merge()
                net.model.set_submodule(path, layer.get_base_layer())
