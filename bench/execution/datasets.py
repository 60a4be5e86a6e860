"""The datasets of a request: where each is on this machine, prepared for the backbones that will see it."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from bench.core import configs, suites
from bench.core.configs import Dataset
from bench.core.errors import UsageError
from bench.core.spec import Protocol
from bench.core.suites import OwnSuite
from bench.core.text import counted, file_name, printable
from bench.data import own_suites, ready, sources
from bench.data.hints import missing_screen, with_name
from bench.data.prepare import Transform
from bench.data.progress import OnProgress
from bench.data.readers import folder
from bench.data.sources import DatasetLocation, Source
from bench.execution.request import RunRequest
from bench.training import setup

Located = tuple[Dataset, Source]
Warn = Callable[[str], object]
NOT_PREPARED = "not prepared yet"


@dataclass(frozen=True)
class Datasets:
    ready: tuple[Located, ...]
    refused: tuple[str, ...] = ()  # a line for each dataset that is here, but is not what its card says
    folders: dict[str, str] = field(default_factory=dict)  # of own images, by the name of their dataset
    summary: tuple[str, ...] = ()  # what own images were taken for: classes and sizes of splits


def locate(
    request: RunRequest,
    own: OwnSuite | None,
    protocol: Protocol,
    backbones: Sequence[str],
    root: Path,
    warn: Warn,
    on_progress: Callable[[str], OnProgress],
    *,
    prepare: bool,
) -> Datasets:
    """The datasets that are asked for, with their data and fingerprints.

    With `prepare`, every image is decoded once for every size that a backbone sees, and data that are missing are all
    named in one UsageError, or left out where the request says so. Without, nothing is decoded or written, and a
    dataset that is missing stands for itself by its card. `own` is the suite file that is asked for, if one is.
    """
    sizes = sorted({setup.image_size(backbone, protocol) for backbone in backbones})
    transforms = [setup.transform(protocol, size) for size in sizes]
    if own:
        return _own_suite(own, request, transforms, root, warn, on_progress, prepare=prepare)
    if request.data:
        return _own_images(request, transforms, root, warn, on_progress, prepare=prepare)
    if request.datasets:
        cards = [configs.dataset(name) for name in request.datasets]
    else:
        cards = list(configs.suite(request.suite or "").datasets)
    places: list[Located] = [(card, sources.find(card, root) if sources.is_local(card) else None) for card in cards]
    missing = [card for card, source in places if sources.is_local(card) and source is None]
    if missing and prepare and not (request.skip_missing and len(missing) < len(places)):
        raise sources.Missing(missing_screen(missing, len(places), root))
    if missing:
        names = ", ".join(card.name for card in missing)
        left_out = prepare or request.skip_missing
        done = "are left out" if left_out else "are planned from what their cards say"
        warn(f"{len(missing)} of {len(places)} datasets are not on this machine and {done}: {names}.")
        if left_out:
            places = [(card, source) for card, source in places if card not in missing]
    return _prepared(places, transforms, root, warn, on_progress, prepare=prepare)


def _own_images(
    request: RunRequest,
    transforms: Sequence[Transform],
    root: Path,
    warn: Warn,
    on_progress: Callable[[str], OnProgress],
    *,
    prepare: bool,
) -> Datasets:
    found, folders, summaries = list[Located](), dict[str, str](), list[str]()
    for path in request.data:
        name = Path(path).name
        source = folder.divide(Path(path), limit=request.limit, data_root=root, on_progress=on_progress(name))
        card = folder.card(source, request.limit)
        if card.name in folders:
            raise UsageError(f"{path} and {folders[card.name]} hold the same images: name one of them.")
        summaries += folder.summary(source)
        if prepare:
            card = _prepare_folder(card, source, request, transforms, root, warn, on_progress)
        found.append((card, source))
        folders[card.name] = str(Path(path).resolve())
    if prepare and len(found) > 1:
        suites.keep(Path(request.out), suites.together([card.name for card, _ in found]), warn)
    return Datasets(tuple(found), folders=folders, summary=tuple(summaries))


def _own_suite(
    own: OwnSuite,
    request: RunRequest,
    transforms: Sequence[Transform],
    root: Path,
    warn: Warn,
    on_progress: Callable[[str], OnProgress],
    *,
    prepare: bool,
) -> Datasets:
    """The datasets of a suite file. What one of them lacks is told with what the others lack."""
    places = {key: own_suites.folder_of(dataset, own.path, root) for key, dataset in own.datasets.items()}
    missing = [key for key, place in places.items() if not place.is_dir()]
    unplanned = [key for key in missing if prepare or not own_suites.is_planned(own.datasets[key])]
    if unplanned and not (request.skip_missing and len(missing) < len(places)):
        raise sources.Missing(own_suites.missing_screen(own, {key: places[key] for key in unplanned}))
    if missing:
        names = ", ".join(f"{own.card.name}/{key}" for key in missing)
        left_out = prepare or request.skip_missing
        done = "are left out" if left_out else "are planned from what their cards say"
        warn(f"{len(missing)} of {len(places)} datasets are not on this machine and {done}: {names}.")
    found, folders, summaries, refused = list[Located](), dict[str, str](), list[str](), list[str]()
    twins: list[str] = []
    for key, dataset in own.datasets.items():
        name = f"{own.card.name}/{key}"
        if key in missing:
            if not prepare and not request.skip_missing:
                found.append((own_suites.planned_card(name, dataset, NOT_PREPARED), None))
            continue
        try:
            source = folder.divide(places[key], data_root=root, on_progress=on_progress(name))
            card = own_suites.card(name, dataset, source)
            same = [other.name for other, _ in found if other.fingerprint == card.fingerprint]
            twins += [f"{name} and {other} hold the same images." for other in same]
            summaries += folder.summary(source)
            if prepare:
                card = _prepare_folder(card, source, request, transforms, root, warn, on_progress)
        except UsageError as error:
            refused.append(f"{name}: {error}")
            continue
        found.append((card, source))
        folders[name] = str(places[key].resolve())
    if twins or not found:
        raise UsageError("\n".join(twins or refused))
    for line in refused:
        warn(f"left out: {line}")
    if prepare:
        suites.keep(Path(request.out), own.card, warn)
    return Datasets(tuple(found), tuple(refused), folders, tuple(summaries))


def _prepare_folder(
    card: Dataset,
    source: folder.ImageFolder,
    request: RunRequest,
    transforms: Sequence[Transform],
    root: Path,
    warn: Warn,
    on_progress: Callable[[str], OnProgress],
) -> Dataset:
    folder.write_lists(source, Path(request.out) / "data" / f"{file_name(card.name.replace('/', '-'))}.json")
    card = ready.prepare_all_sizes(card, source, transforms, root, on_progress(card.name))
    _warn_of_one_colour(card, root, warn)
    return card


def _warn_of_one_colour(card: Dataset, root: Path, warn: Warn) -> None:
    count, examples = ready.one_colour(card, root)
    if count:
        few = ", ".join(map(printable, examples)) + (", ..." if count > len(examples) else "")
        warn(f"{card.name}: {counted(count, 'image')} of one colour throughout ({few}). Are they saved as you think?")


def _prepared(
    places: Sequence[Located],
    transforms: Sequence[Transform],
    root: Path,
    warn: Warn,
    on_progress: Callable[[str], OnProgress],
    *,
    prepare: bool,
) -> Datasets:
    """One bad image must not keep the other datasets away."""
    found, refused = list[Located](), list[str]()
    for card, source in places:
        try:
            if isinstance(source, DatasetLocation) and prepare:
                card = ready.prepare_all_sizes(card, source, transforms, root, on_progress(card.name))
            elif sources.is_local(card):
                name = sources.name_of(card, source) if isinstance(source, DatasetLocation) else card.name
                card = dataclasses.replace(card, name=name, fingerprint=card.fingerprint or NOT_PREPARED)
        except UsageError as error:
            refused.append(with_name(card, error))
            continue
        found.append((card, source))
    if not found:
        raise UsageError("\n".join(refused))
    for line in refused:
        warn(f"left out: {line}")
    return Datasets(tuple(found), tuple(refused))
