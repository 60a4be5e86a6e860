"""The datasets of suite files: where their images are, and their cards once these have been read."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path

from bench.core.configs import Dataset
from bench.core.errors import UsageError
from bench.core.suites import OwnDataset, OwnSuite
from bench.data.readers import folder, hub


def folder_of(dataset: OwnDataset, file: Path, root: Path) -> Path:
    """Of its images: a path is relative to the suite's file, a dataset of the Hub lies where `data fetch` saves it."""
    kind, _, key = dataset.source.partition(":")
    return hub.saved_folder(key, root / "raw" / "hub") if kind == "hub" else file.parent / Path(key).expanduser()


def is_planned(dataset: OwnDataset) -> bool:
    """Whether runs can be planned before the images are here: their number and that of the classes are given."""
    return dataset.classes is not None and dataset.sizes is not None


def planned_card(name: str, dataset: OwnDataset, fingerprint: str) -> Dataset:
    """The card of a dataset that is not here, from what its suite file says."""
    assert dataset.classes is not None
    assert dataset.sizes is not None
    return Dataset(
        title=dataset.title or name,
        classes=dataset.classes,
        metric=dataset.metric,
        source=dataset.source,
        sizes=dataset.sizes,
        fingerprint=dataset.fingerprint or fingerprint,
        license=dataset.license,
        citation=dataset.citation,
        name=name,
    )


def card(name: str, dataset: OwnDataset, source: folder.ImageFolder) -> Dataset:
    """The card of the images that were read. Raises UsageError where they are not what the suite file says."""
    found = folder.card(source)
    for what in ("classes", "sizes", "fingerprint"):
        given, here = getattr(dataset, what), getattr(found, what)
        if given and given != here:
            raise UsageError(f"{what} of {source.root}: {_shown(here)}, the suite file says {_shown(given)}.")
    title = dataset.title or name.rpartition("/")[2]
    return dataclasses.replace(
        found, name=name, title=title, metric=dataset.metric, license=dataset.license, citation=dataset.citation
    )


def missing_screen(own: OwnSuite, missing: Mapping[str, Path]) -> str:
    """What `bench run` says where data of a suite file are missing, with a remedy for each."""
    lines = [f"{len(missing)} of {len(own.datasets)} datasets of {own.path.name} are not on this machine:"]
    for key, place in missing.items():
        source = own.datasets[key].source
        told = f"'bench data fetch {source}'" if source.startswith(hub.PREFIX) else f"there is no folder {place}"
        lines.append(f"  {own.card.name}/{key}  {told}")
    if len(missing) < len(own.datasets):
        lines.append("--skip-missing runs what is here; the table then shows the coverage.")
    return "\n".join(lines)


def _shown(value: object) -> str:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return ", ".join(f"{count} {part}" for part, count in dataclasses.asdict(value).items())
    return str(value)[:64]
