"""A head that starts as what CLIP's text tower says of the class names: the zero-shot classifier.

    w_c = normalised mean over templates t of normalised f(t with the name of c)       b_c = 0

The text tower is needed once for a dataset: what it says is a small file, ROOT/texts/<dataset>/<backbone>.safetensors,
which is read without it. `names` are in the order of the dataset's labels.

Radford et al., ICML 2021, section 3.1.4; Li et al. (ELEVATER), NeurIPS 2022, section 4.1.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from torch.nn import functional as F

from bench.core import configs
from bench.core.errors import UsageError
from bench.core.schema import parse
from bench.core.store import write_atomically

FORMAT = "petbench texts 1"
Encode = Callable[[Sequence[str]], Tensor]
"""encode(texts) gives their features (texts, D), of any length."""


@dataclass(frozen=True)
class Texts:
    """A file that says what is written of each class, TOML."""

    names: tuple[str, ...]  # of the classes, in the order of the labels
    templates: tuple[str, ...]  # "a photo of a {}."

    def __post_init__(self) -> None:
        if not self.names or not self.templates:
            raise ValueError("names and templates must not be empty")
        if wrong := [template for template in self.templates if template.count("{}") != 1]:
            raise ValueError(f"templates: {wrong[0]!r} needs one {{}}, where the name of the class goes")


@dataclass(frozen=True, eq=False)
class Features:
    """The zero-shot classifier of a dataset."""

    weight: Tensor  # (classes, D), each row of length 1
    sha256: str  # of the numbers, 16 hex digits
    names: tuple[str, ...]


def read_texts(path: Path) -> Texts:
    """Raises UsageError where the file is none."""
    return parse(Texts, configs.read_toml(path), str(path))


@torch.no_grad()
def classifier(encode: Encode, texts: Texts) -> Tensor:
    """(classes, D): of each class the mean direction of its texts."""
    rows = []
    for name in texts.names:
        features = F.normalize(encode([template.replace("{}", name) for template in texts.templates]).float(), dim=-1)
        rows.append(F.normalize(features.mean(0), dim=-1))
    return torch.stack(rows)


def place(root: Path, dataset: str, backbone: str) -> Path:
    """Of the file of a dataset "suite/key", below the data root."""
    return root / "texts" / dataset / f"{backbone.replace('/', '_')}.safetensors"


def write(path: Path, weight: Tensor, texts: Texts, model: str, layout: str = "") -> None:
    """`model` says whose text tower it was, `layout` how the data lie whose labels the names follow; "" of none."""
    metadata = {
        "format": FORMAT,
        "model": model,
        "names": json.dumps(texts.names),
        "templates": json.dumps(texts.templates),
        "layout": layout,
    }
    write_atomically(path, lambda file: save_file({"weight": weight.contiguous()}, file, metadata))


def read(root: Path, dataset: str, backbone: str, classes: int, width: int | None = None, layout: str = "") -> Features:
    """The zero-shot classifier of a dataset for a backbone of `width` features.

    Raises UsageError, with the command that makes it, where there is none, and where it is of other classes or width,
    or was made for data that lie in another layout than `layout` and may number the classes otherwise.
    """
    path = place(root, dataset, backbone)
    make = f"Make it with 'bench data texts --dataset {dataset} --backbone {backbone} --model NAME [--texts FILE]'."
    if not path.is_file():
        raise UsageError(f"The head starts from texts of the class names, and {path} is not there. {make}")
    try:
        with safe_open(path, "pt") as file:
            metadata: dict[str, Any] = file.metadata() or {}
            weight: Tensor = file.get_tensor("weight")
    except (SafetensorError, OSError) as error:
        raise UsageError(f"{path} is no file of text features ({error}). {make}") from error
    if metadata.get("format") != FORMAT or weight.ndim != 2 or not bool(weight.isfinite().all()):
        raise UsageError(f"{path} is no file of text features. {make}")
    if len(weight) != classes or (width is not None and weight.shape[1] != width):
        asked = f"{classes} classes" + ("" if width is None else f" of {width} features")
        raise UsageError(f"{path} has {weight.shape[0]} classes of {weight.shape[1]} features, not {asked}. {make}")
    made_for = metadata.get("layout", "")
    if layout and made_for and layout != made_for:
        raise UsageError(f"{path} was made for data in the layout {made_for}, not {layout}: classes may differ. {make}")
    return Features(weight.float(), digest(weight), tuple(json.loads(metadata["names"])))


def digest(weight: Tensor) -> str:
    data = weight.detach().cpu().float().contiguous().numpy().tobytes()
    return hashlib.sha256(f"{tuple(weight.shape)} ".encode() + data).hexdigest()[:16]


def transformers_encoder(name: str) -> Encode:
    """The text tower of a CLIP of Hugging Face transformers, by its name on the hub or its folder.

    Raises UsageError where transformers is not installed, or the model cannot be had; `encode` where a text is longer
    than the tower reads, 77 tokens of CLIP's.
    """
    try:
        import transformers
    except ImportError as error:
        raise UsageError("Texts need Hugging Face transformers: pip install 'petbench[cvt]'.") from error
    try:
        library: Any = transformers
        model, tokenizer = library.CLIPModel.from_pretrained(name), library.AutoTokenizer.from_pretrained(name)
        model.eval()
    except Exception as error:  # of whatever the hub or a folder leads to
        told = str(error).strip().partition("\n")[0][:160]
        raise UsageError(f"--model {name}: no CLIP could be loaded ({type(error).__name__}: {told}).") from error

    def encode(texts: Sequence[str]) -> Tensor:
        tokens = tokenizer(list(texts), padding=True, return_tensors="pt")
        length, limit = tokens["attention_mask"].sum(1), model.config.text_config.max_position_embeddings
        if int(length.max()) > limit:
            longest = texts[int(length.argmax())]
            raise UsageError(f"{longest!r} has {int(length.max())} tokens, and {name} reads {limit}. Shorten it.")
        with torch.no_grad():
            found: Tensor = model.text_projection(model.text_model(**tokens).pooler_output)
        return found

    return encode
