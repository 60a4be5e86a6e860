"""What finished runs have kept of what they trained: their tuned models, and what these forget of another dataset."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from bench.core import configs
from bench.core.configs import Dataset
from bench.core.errors import UsageError
from bench.core.record import Cost, Record
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data import sources
from bench.data.hints import missing_screen
from bench.data.readers import folder
from bench.data.sources import Source
from bench.execution import inspect
from bench.models import backbones, head_norm, registry, static_cost
from bench.models.families import build_view
from bench.models.method import build
from bench.models.tuned_model import TunedModel
from bench.tools import forgetting
from bench.tools.forgetting import ForgettingScores, ProbeScore
from bench.training import provenance

Warn = Callable[[str], object]


@dataclass(frozen=True)
class Kept:
    """A finished run that was made with `keep_delta`."""

    record: Record
    cost: Cost
    file: Path  # of what it trained

    @property
    def spec(self) -> RunSpec:
        return self.record.spec


def find(root: Path, run: str, warn: Warn) -> Kept:
    """The run whose digest begins so. Raises UsageError where there is no such run, or where it has kept nothing."""
    spec, store = inspect.find(root, run, warn), Store(root)
    record, file = store.find(spec), store.path(spec).with_suffix(".safetensors")
    if record is None or record.cost is None or not file.is_file():
        raise UsageError(f"{inspect.title(spec)} has kept nothing of what it trained: run it with keep_delta.")
    return Kept(record, record.cost, file)


def every(root: Path, warn: Warn) -> Iterator[Kept]:
    """All of a results folder, in the order of its files."""
    store = Store(root)
    for record in store.records(warn):
        file = store.path(record.spec).with_suffix(".safetensors")
        if record.cost is not None and file.is_file():
            yield Kept(record, record.cost, file)


def untouched(kept: Kept, weights: str | None) -> nn.Module:
    """The backbone as it was before the run, with a head of as many classes.

    Raises UsageError where its weights cannot be had, or are others than the run's.
    """
    spec, name = kept.spec, inspect.title(kept.spec)
    if weights is None and spec.weights.startswith("sha256:"):
        raise UsageError(f"{name} was made with a file of weights: name it with weights= (--weights).")
    torch.manual_seed(spec.seed)  # a backbone with random weights
    model = backbones.create(
        spec.backbone,
        classes=kept.cost.params.head // (static_cost.head_width(spec.backbone) + 1),
        weights=weights or spec.weights,
        image_size=spec.protocol.image_size,
        precision=spec.protocol.precision,
    )
    if backbones.weights_digest(model) != kept.record.provenance.weights_sha256:
        raise UsageError(f"The weights of {spec.backbone} here are not those that {name} was made with.")
    return model


def tuned(kept: Kept, weights: str | None) -> TunedModel:
    """The model that the run has reported, in eval mode. Raises UsageError as `untouched` does."""
    spec = kept.spec
    net = TunedModel.attach(untouched(kept, weights), build(registry.load(spec.method), dict(spec.params), spec.method))
    if spec.protocol.head_norm == "batch":
        head_norm.attach(net.view)
    net.load(kept.file)
    return net.eval()


def other_dataset(name: str | None, data: Path | None, root: Path) -> tuple[Dataset, Source]:
    """The dataset SUITE/NAME, or own images in a folder. Raises UsageError where it is not here."""
    if name is not None and data is None:
        card = configs.dataset(name)
        source = sources.find(card, root)
        if sources.is_local(card) and source is None:
            raise sources.Missing(missing_screen([card], 1, root))
        return card, source
    if data is not None and name is None:
        images = folder.divide(data, data_root=root)
        return folder.card(images), images
    raise UsageError("Name the other data: a dataset, SUITE/NAME, or a folder of images; one of the two.")


def measure(
    runs: Iterable[Kept], card: Dataset, source: Source, data_root: Path, device: str, weights: str | None = None
) -> Iterator[ForgettingScores]:
    """How much each run has forgotten of a dataset. A backbone is probed once, however many runs have tuned it."""
    before: dict[tuple[object, ...], ProbeScore] = {}
    for kept in runs:
        spec, made = kept.spec, kept.record.provenance
        seen = (spec.backbone, made.weights_sha256, spec.protocol.image_size, spec.protocol.resize, made.dtype)
        if seen not in before:
            view = build_view(untouched(kept, weights).to(device))
            before[seen] = forgetting.score(view, card, spec.protocol, data_root, source)
        net = tuned(kept, weights)
        net.model.to(device)
        yield ForgettingScores(
            run=spec.digest,
            method=spec.method,
            variant=kept.record.variant,
            backbone=spec.backbone,
            trained_on=spec.dataset,
            seed=spec.seed,
            dataset=card.name,
            untouched=before[seen],
            tuned=forgetting.score(net.view, card, spec.protocol, data_root, source),
            device=provenance.device_name(device),
            dtype=made.dtype,
        )
