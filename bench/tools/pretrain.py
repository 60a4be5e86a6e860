"""Pretraining of the pocket backbones on an image folder with a `train` and a `test` part.

Recipe: Muon on matrices and AdamW on the rest (Jordan et al. 2024, as in timm), linear warm-up and cosine decay, label
smoothing 0.1, bf16 autocast; images shifted by up to 4 pixels, mirrored, and with probability 1/2 one square erased.
The state is saved after every epoch; every epoch draws from its own seed, so a resumed run continues as if uncut.

The class of the image is what the first two backbones were taught. The later two were taught three more things, each by
a linear layer on the features that a head would see; the layers are thrown away afterwards:
    rotation   by how many right angles the image was turned (Gidaris et al. 2018, arXiv:1803.07728), for a share of
               the batch of which three quarters are turned
    pixels     the image itself, averaged to 8x8 pixels: features that keep where things are
    letters    the letter in a drawn image (bench.tools.glyphs), which makes a share of every batch
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from timm.optim.muon import Muon
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import UsageError, unknown
from bench.data.readers import folder, image_tree
from bench.models import backbones
from bench.tools import glyphs

GRID = 8  # side of the image that the features are to tell


@dataclass(frozen=True)
class Recipe:
    epochs: int = 20
    batch: int = 250
    lr: float = 2e-3
    weight_decay: float = 0.05
    warmup: float = 0.1  # of all steps
    smoothing: float = 0.1
    erase: int = 12  # longest side of the erased square, pixels; 0: none
    seed: int = 0
    rotation: float = 0.0  # weight of the loss on the angle; 0: no image is turned
    turned: float = 0.25  # share of the images whose angle is asked for
    pixels: float = 0.0  # weight of the mean squared error of the 8x8 image
    letters: float = 0.0  # share of drawn letters in a batch


_LESSONS = Recipe(epochs=16, batch=500, erase=0, rotation=0.5, pixels=1.0, letters=0.2)
RECIPES = {
    "pocket_vit": Recipe(),
    "pocket_swin": Recipe(),
    "pocket_vit_patch8": _LESSONS,
    "pocket_swin_patch4": _LESSONS,
}
"""How the bundled weights were made."""


class Lessons(nn.Module):
    """What is learned beside the classes: a linear layer each on the features (N, D) that a head sees."""

    def __init__(self, features: int) -> None:
        super().__init__()
        self.rotation = nn.Linear(features, 4)
        self.pixels = nn.Linear(features, 3 * GRID**2)
        self.letters = nn.Linear(features, len(glyphs.LETTERS))


def recipe_of(name: str) -> Recipe:
    """The recipe of a pocket backbone by its name."""
    if name not in RECIPES:
        raise unknown("pocket backbone", name, RECIPES)
    return RECIPES[name]


def pretrain(name: str, data: Path, out: Path, recipe: Recipe, device: str, say: Callable[[str], None]) -> Path:
    """Trains pocket backbone `name` on DATA/train, reports accuracy on DATA/test, writes OUT/<name>.safetensors."""
    if name not in backbones.POCKET:
        raise unknown("pocket backbone", name, backbones.POCKET)
    train = _read(data / "train", data / "train")
    test = _read(data / "test", data / "train")
    classes = len(image_tree.classes_of(data / "train"))
    if len(train[1]) < recipe.batch:
        raise UsageError(f"{data / 'train'} holds {len(train[1])} images; one batch takes {recipe.batch}.")
    torch.manual_seed(recipe.seed)
    model = backbones.create(name, classes=classes, weights="random", device=device).train()
    lessons = Lessons(int(model.num_features)).to(device)  # type: ignore[arg-type]
    taught = nn.ModuleDict({"model": model, "lessons": lessons})
    optimizer = _optimizer(taught, recipe)
    state = out / f"{name}.state"
    first = _restore(state, taught, optimizer, recipe)
    if first:
        say(f"{name}: resumed after epoch {first}")
    for epoch in range(first, recipe.epochs):
        start = time.perf_counter()
        loss = _epoch(model, lessons, optimizer, train, recipe, epoch, device)
        _save(state, taught, optimizer, recipe, epoch + 1)
        rate = len(train[1]) / (time.perf_counter() - start)
        left = (recipe.epochs - epoch - 1) * len(train[1]) / rate
        say(
            f"{name}: epoch {epoch + 1}/{recipe.epochs}  loss {loss:.3f}  {rate:.0f} images/s  {left / 60:.0f} min left"
        )
    accuracy = evaluate(model, name, test, device)
    say(f"{name}: accuracy {accuracy:.2%} on {len(test[1])} test images")
    pocket = backbones.POCKET[name]
    metadata = {
        "data": f"{data.name}: {len(train[1])} images, {classes} classes",
        "data_sha256": hashlib.sha256(train[0].numpy().tobytes()).hexdigest(),
        "recipe": json.dumps(dataclasses.asdict(recipe)),
        "test_accuracy": f"{accuracy:.4f}",
        "mean": json.dumps(pocket.mean),
        "std": json.dumps(pocket.std),
        "device": device,
        "torch": torch.__version__.split("+")[0],
    }
    final = out / f"{name}.safetensors"
    _write(final, {key: value.cpu().contiguous() for key, value in model.state_dict().items()}, metadata)
    return final


def _read(part: Path, classes_from: Path) -> tuple[Tensor, Tensor]:
    """Images as uint8 (N, 3, 32, 32) and their labels, numbered by the classes of another folder."""
    if not part.is_dir():
        raise UsageError(
            f"{part} is not a folder. --data takes a folder with train/<class>/*.jpg and test/<class>/*.jpg."
        )
    items = image_tree.list_images(part, image_tree.classes_of(classes_from))
    images = torch.from_numpy(folder.decode_all([path for path, _ in items], size=32))
    return images.permute(0, 3, 1, 2).contiguous(), torch.tensor([label for _, label in items])


def _optimizer(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    groups = [{"params": matrices, "weight_decay": recipe.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    return Muon(groups, lr=recipe.lr, nesterov=True)


def _epoch(
    model: nn.Module,
    lessons: Lessons,
    optimizer: torch.optim.Optimizer,
    data: tuple[Tensor, Tensor],
    recipe: Recipe,
    epoch: int,
    device: str,
) -> float:
    """One pass over the images in an order and with chances of its own; the mean loss of the classes."""
    images, labels = data
    chance = torch.Generator().manual_seed(recipe.seed * 100_003 + epoch)
    order = torch.randperm(len(labels), generator=chance)
    drawn = round(recipe.batch * recipe.letters)
    taken = recipe.batch - drawn
    asked = round(taken * recipe.turned) if recipe.rotation else 0
    steps = len(labels) // taken
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in backbones.normalisation(model))
    letters = glyphs.atlas() if drawn else None
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    total = 0.0
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = recipe.lr * _schedule((epoch * steps + step) / (recipe.epochs * steps), recipe.warmup)
        index = order[step * taken : (step + 1) * taken]
        x, y = _augment(images[index], recipe.erase, chance), labels[index]
        angle = torch.randint(4, (asked,), generator=chance)
        for turns in (1, 2, 3):
            which = (angle == turns).nonzero()[:, 0]
            x[which] = x[which].rot90(turns, (2, 3))
        if letters is not None:
            extra, letter = glyphs.draw(letters, drawn, chance)
            x = torch.cat([x, extra])
        x = (x.to(device).float() / 255 - mean) / std
        with torch.autocast(device, torch.bfloat16):
            features = model.forward_head(model.forward_features(x), pre_logits=True)  # type: ignore[operator]
            logits = model.get_classifier()(features[:taken])  # type: ignore[operator]
            classes = F.cross_entropy(logits, y.to(device), label_smoothing=recipe.smoothing)
            loss = classes
            if asked:
                loss = loss + recipe.rotation * F.cross_entropy(lessons.rotation(features[:asked]), angle.to(device))
            if recipe.pixels:
                wanted = F.adaptive_avg_pool2d(x, GRID).flatten(1)
                loss = loss + recipe.pixels * F.mse_loss(lessons.pixels(features).float(), wanted)
            if letters is not None:
                loss = loss + F.cross_entropy(lessons.letters(features[taken:]), letter.to(device))
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        total += classes.item()
    return total / steps


def _schedule(progress: float, warmup: float) -> float:
    """Factor on the learning rate after the fraction `progress` of all steps."""
    if progress < warmup:
        return (progress + 1e-3) / (warmup + 1e-3)
    return 0.5 * (1 + math.cos(math.pi * (progress - warmup) / (1 - warmup)))


def _augment(x: Tensor, erase: int, chance: torch.Generator) -> Tensor:
    """Shift by up to 4 pixels, mirror, and erase one square in half of the images; (B, 3, 32, 32) of uint8."""
    batch, _, height, width = x.shape
    padded = F.pad(x, (4, 4, 4, 4))
    shift = torch.randint(0, 9, (2, batch, 1), generator=chance)
    rows, columns = shift[0] + torch.arange(height), shift[1] + torch.arange(width)
    mirrored = torch.rand(batch, 1, generator=chance) < 0.5
    columns = torch.where(mirrored, columns.flip(1), columns)
    x = padded[
        torch.arange(batch)[:, None, None, None],
        torch.arange(3)[None, :, None, None],
        rows[:, None, :, None],
        columns[:, None, None, :],
    ]
    if not erase:
        return x
    corner = torch.randint(-erase // 2, height - erase // 2, (2, batch, 1), generator=chance)
    side = torch.randint(4, erase + 1, (batch, 1), generator=chance)
    side = side * (torch.rand(batch, 1, generator=chance) < 0.5)
    row, column = torch.arange(height), torch.arange(width)
    inside_rows = (row >= corner[0]) & (row < corner[0] + side)
    inside_columns = (column >= corner[1]) & (column < corner[1] + side)
    return x.masked_fill((inside_rows[:, :, None] & inside_columns[:, None, :])[:, None], 127)


@torch.no_grad()
def evaluate(model: nn.Module, name: str, data: tuple[Tensor, Tensor], device: str) -> float:
    """Share of images whose class is predicted, in float32."""
    images, labels = data
    model.eval()
    mean, std = (torch.tensor(v, device=device).view(1, 3, 1, 1) for v in backbones.normalisation(model))
    hits = 0
    for start in range(0, len(labels), 500):
        x = (images[start : start + 500].to(device).float() / 255 - mean) / std
        hits += int((model(x).argmax(1).cpu() == labels[start : start + 500]).sum())
    return hits / len(labels)


def _save(state: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe, epochs_done: int) -> None:
    """Model and optimiser after an epoch, as one safetensors file; numbers of the optimiser are stored as scalars."""
    tensors = {f"model/{key}": value.cpu().contiguous() for key, value in model.state_dict().items()}
    for index, slots in optimizer.state_dict()["state"].items():
        for key, value in slots.items():
            tensors[f"optimizer/{index}/{key}"] = torch.as_tensor(value).detach().cpu().clone().contiguous()
    _write(state, tensors, {"epochs_done": str(epochs_done), "recipe": json.dumps(dataclasses.asdict(recipe))})


def _restore(state: Path, model: nn.Module, optimizer: torch.optim.Optimizer, recipe: Recipe) -> int:
    """Epochs already done: 0 without a state file. A state of another recipe is refused."""
    if not state.is_file():
        return 0
    with safe_open(state, "pt") as file:
        metadata: dict[str, str] = file.metadata()
    if json.loads(metadata["recipe"]) != dataclasses.asdict(recipe):
        raise UsageError(f"{state} belongs to another recipe ({metadata['recipe']}). Remove it, or give another --out.")
    tensors = load_file(state)
    model.load_state_dict({k.removeprefix("model/"): v for k, v in tensors.items() if k.startswith("model/")})
    slots: dict[int, dict[str, Any]] = {}
    for key, value in tensors.items():
        if key.startswith("optimizer/"):
            _, index, slot = key.split("/")
            slots.setdefault(int(index), {})[slot] = value
    optimizer.load_state_dict({"state": slots, "param_groups": optimizer.state_dict()["param_groups"]})
    return int(metadata["epochs_done"])


def _write(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(path.name + ".part")
    save_file(tensors, aside, metadata)
    os.replace(aside, path)
