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
    search = _Search(request, transforms, root, warn, on_progress, prepare)
    if own:
        return _own_suite(own, search)
    return _own_images(search) if request.data else _of_suites(search)


@dataclass(frozen=True)
class _Search:
    """What every kind of dataset is looked for with."""

    request: RunRequest
    transforms: Sequence[Transform]
    root: Path
    warn: Warn
    on_progress: Callable[[str], OnProgress]
    prepare: bool

    def may_lack(self, missing: int, total: int) -> bool:
        """Whether that many of the datasets may be missing: not all of them, and only where the request says so."""
        return self.request.skip_missing and missing < total

    def leaves_out(self, missing: Sequence[str], total: int) -> bool:
        """Whether what is missing is left out, rather than planned from its card; warns which it is."""
        left_out = self.prepare or self.request.skip_missing
        if missing:
            done = "are left out" if left_out else "are planned from what their cards say"
            self.warn(f"{len(missing)} of {total} datasets are not on this machine and {done}: {', '.join(missing)}.")
        return left_out


def _of_suites(search: _Search) -> Datasets:
    request, root = search.request, search.root
    if request.datasets:
        cards = [configs.dataset(name) for name in request.datasets]
    else:
        cards = list(configs.suite(request.suite or "").datasets)
    places: list[Located] = [(card, sources.find(card, root)) for card in cards]
    missing = [card for card, source in places if sources.is_local(card) and source is None]
    if missing and search.prepare and not search.may_lack(len(missing), len(places)):
        raise sources.Missing(missing_screen(missing, len(places), root))
    if search.leaves_out([card.name for card in missing], len(places)):
        places = [(card, source) for card, source in places if card not in missing]
    return _prepared(places, search)


def _prepared(places: Sequence[Located], search: _Search) -> Datasets:
    """One bad image must not keep the other datasets away."""
    found, refused = list[Located](), list[str]()
    for card, source in places:
        try:
            if isinstance(source, DatasetLocation) and search.prepare:
                progress = search.on_progress(card.name)
                card = ready.prepare_all_sizes(card, source, search.transforms, search.root, progress)
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
        search.warn(f"left out: {line}")
    return Datasets(tuple(found), tuple(refused))


def _own_images(search: _Search) -> Datasets:
    request, root = search.request, search.root
    found, folders, summaries = list[Located](), dict[str, str](), list[str]()
    for path in request.data:
        progress = search.on_progress(Path(path).name)
        source = folder.divide(Path(path), limit=request.limit, data_root=root, on_progress=progress)
        card = folder.card(source, request.limit)
        if card.name in folders:
            raise UsageError(f"{path} and {folders[card.name]} hold the same images: name one of them.")
        summaries += folder.summary(source)
        if search.prepare:
            card = _prepare_folder(card, source, search)
        found.append((card, source))
        folders[card.name] = str(Path(path).resolve())
    if search.prepare and len(found) > 1:
        suites.keep(Path(request.out), suites.together([card.name for card, _ in found]), search.warn)
    return Datasets(tuple(found), folders=folders, summary=tuple(summaries))


def _own_suite(own: OwnSuite, search: _Search) -> Datasets:
    """The datasets of a suite file. What one of them lacks is told with what the others lack."""
    root, prepare = search.root, search.prepare
    places = {key: own_suites.folder_of(dataset, own.path, root) for key, dataset in own.datasets.items()}
    missing = [key for key, place in places.items() if not place.is_dir()]
    unplanned = [key for key in missing if prepare or not own_suites.is_planned(own.datasets[key])]
    if unplanned and not search.may_lack(len(missing), len(places)):
        raise sources.Missing(own_suites.missing_screen(own, {key: places[key] for key in unplanned}))
    left_out = search.leaves_out([f"{own.card.name}/{key}" for key in missing], len(places))
    found, folders, summaries, refused = list[Located](), dict[str, str](), list[str](), list[str]()
    twins: list[str] = []
    for key, dataset in own.datasets.items():
        name = f"{own.card.name}/{key}"
        if key in missing:
            if not left_out:
                found.append((own_suites.planned_card(name, dataset, NOT_PREPARED), None))
            continue
        try:
            source = folder.divide(places[key], data_root=root, on_progress=search.on_progress(name))
            card = own_suites.card(name, dataset, source)
            same = [other.name for other, _ in found if other.fingerprint == card.fingerprint]
            twins += [f"{name} and {other} hold the same images." for other in same]
            summaries += folder.summary(source)
            if prepare:
                card = _prepare_folder(card, source, search)
        except UsageError as error:
            refused.append(f"{name}: {error}")
            continue
        found.append((card, source))
        folders[name] = str(places[key].resolve())
    if twins or not found:
        raise UsageError("\n".join(twins or refused))
    for line in refused:
        search.warn(f"left out: {line}")
    if prepare:
        suites.keep(Path(search.request.out), own.card, search.warn)
    return Datasets(tuple(found), tuple(refused), folders, tuple(summaries))


def _prepare_folder(card: Dataset, source: folder.ImageFolder, search: _Search) -> Dataset:
    lists = Path(search.request.out) / "data" / f"{file_name(card.name.replace('/', '-'))}.json"
    folder.write_lists(source, lists)
    card = ready.prepare_all_sizes(card, source, search.transforms, search.root, search.on_progress(card.name))
    _warn_of_one_colour(card, search)
    return card


def _warn_of_one_colour(card: Dataset, search: _Search) -> None:
    count, examples = ready.one_colour(card, search.root)
    if count:
        few = ", ".join(map(printable, examples)) + (", ..." if count > len(examples) else "")
        told = f"{counted(count, 'image')} of one colour throughout ({few}). Are they saved as you think?"
        search.warn(f"{card.name}: {told}")
