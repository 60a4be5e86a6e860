"""How own images lie: FOLDER/<class>/*.jpg, or FOLDER/<split>/<class>/*.jpg, told apart by what the folders hold.

A folder of folders that has a split's name is a split; a folder of images is a class, whatever its name.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.core.errors import UsageError
from bench.core.text import printable

Item = tuple[Path, int]  # an image and the index of its class

JPEG = {".jpg", ".jpeg", ".jfif", ".jpe"}
SUFFIXES = {*JPEG, ".png", ".bmp", ".webp", ".gif", ".tif", ".tiff", ".ppm", ".pgm"}
SPLITS = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing", "eval"),
}
LEFT_BY_SYSTEMS = {"__macosx", "thumbs.db", "desktop.ini", "@eadir"}


@dataclass(frozen=True)
class Tree:
    classes: tuple[str, ...]
    folders: Mapping[str, Path]  # "train", "val", "test" -> the folder of its classes; "" -> the undivided one
    notes: tuple[str, ...]  # what a person should know of: folders and files that are not used


def read_tree(root: Path) -> Tree:
    """The classes and splits of a folder. Raises UsageError in one line where they cannot be told."""
    children = _folders(root)
    splits = _splits(children)
    if not splits:
        _check_classes(root, children)
        loose = [name for name in _files(root) if _is_image(name)]
        notes = [f"{len(loose)} images lie in {_shown(root)} itself, in no class folder, and are not used."] * bool(
            loose
        )
        return Tree(_names(children), {"": root}, tuple(notes))
    _check_splits(root, splits, children)
    folders = {part: found[0] for part, found in splits.items()}
    classes = _names(_folders(folders["train"]))
    for folder in folders.values():
        _check_classes(folder, _folders(folder))
        if extra := set(_names(_folders(folder))) ^ set(classes):
            few = ", ".join(map(printable, sorted(extra)[:5]))
            raise UsageError(
                f"{_shown(folder)}: classes {few} are not in both {folders['train'].name}/ and {folder.name}/."
            )
    unused = [f"{printable(child.name)}/" for child in children if child not in folders.values()]
    return Tree(classes, folders, tuple([f"Not used, for it is no split: {', '.join(unused[:5])}."] * bool(unused)))


def classes_of(folder: Path) -> tuple[str, ...]:
    """Names of the sub-folders, sorted: the classes of an image folder."""
    return _names(_folders(folder))


def list_images(folder: Path, classes: Sequence[str]) -> list[Item]:
    """Every image below FOLDER/<class>, in sorted order, with the index of its class."""
    return [
        (path, label)
        for label, name in enumerate(classes)
        for path in sorted(path for path in _below(folder / name) if _is_image(path.name))
    ]


def other_files(folder: Path, classes: Sequence[str]) -> Counter[str]:
    """How many files below FOLDER/<class> are not read, by their suffix."""
    return Counter(
        path.suffix.lower() or "(no suffix)"
        for name in classes
        for path in _below(folder / name)
        if not _is_image(path.name)
    )


def _splits(children: Sequence[Path]) -> dict[str, list[Path]]:
    """The folders of folders that have the name of a split."""
    part_of = {name: part for part, names in SPLITS.items() for name in names}
    found: dict[str, list[Path]] = {}
    for child in children:
        part = part_of.get(child.name.casefold())
        if part and _folders(child) and not any(map(_is_image, _files(child))):
            found.setdefault(part, []).append(child)
    return dict(sorted(found.items(), key=lambda item: list(SPLITS).index(item[0])))


def _check_splits(root: Path, splits: Mapping[str, Sequence[Path]], children: Sequence[Path]) -> None:
    for part, found in splits.items():
        if len(found) > 1:
            raise UsageError(
                f"{_shown(root)}: {' and '.join(f'{path.name}/' for path in found)} both name {part}. Keep one."
            )
    if "train" not in splits:
        raise UsageError(
            f"{_shown(root)} has {next(iter(splits.values()))[0].name}/ but no train/. Add train/<class>/*."
        )
    if len(splits) > 1:
        return
    train = splits["train"][0]
    for child in children:
        if child.name.casefold() in (*SPLITS["test"], *SPLITS["val"]) and any(map(_is_image, _files(child))):
            raise UsageError(
                f"{_shown(child)} holds images without class folders, which cannot be scored. 'bench run --data "
                f"{_shown(train)}' cuts a test split off the images that have classes."
            )
    raise UsageError(
        f"{_shown(root)} has {train.name}/ but no test/. Add test/<class>/*; or --data {_shown(train)} cuts one off."
    )


def _check_classes(root: Path, children: Sequence[Path]) -> None:
    """Every class folder holds images; folders of folders are something else."""
    if len(children) == 1 and _folders(children[0]) and not any(map(_is_image, _files(children[0]))):
        raise UsageError(f"{_shown(root)} holds one folder. Did you mean --data {_shown(children[0])}?")
    nested = [child for child in children if _folders(child) and not any(map(_is_image, _files(child)))]
    if nested:
        few = ", ".join(printable(child.name) for child in nested[:3])
        raise UsageError(
            f"{_shown(root)}: the folders {few} hold folders, where a class folder holds images. Splits are called "
            "train, val and test; images lie in FOLDER/<class>/ or FOLDER/<split>/<class>/."
        )
    if len(children) < 2:
        raise UsageError(
            f"{_shown(root)} holds {len(children)} class folders; at least two are needed: FOLDER/<class>/*.jpg."
        )


def _folders(folder: Path) -> list[Path]:
    return sorted(Path(entry.path) for entry in os.scandir(folder) if _counts(entry.name) and entry.is_dir())


def _files(folder: Path) -> list[str]:
    return [entry.name for entry in os.scandir(folder) if _counts(entry.name) and not entry.is_dir()]


def _below(folder: Path) -> list[Path]:
    """Every file below a folder; links to folders are not followed, a link that leads nowhere is a file."""
    found: list[Path] = []
    for where, folders, files in os.walk(folder):
        folders[:] = filter(_counts, folders)
        found += [Path(where, name) for name in files if _counts(name)]
    return found


def _names(folders: Sequence[Path]) -> tuple[str, ...]:
    return tuple(sorted(folder.name for folder in folders))


def _counts(name: str) -> bool:
    """Whether it was put there by a person: not hidden, nor left by an operating system."""
    return not name.startswith(".") and name.casefold() not in LEFT_BY_SYSTEMS


def _is_image(name: str) -> bool:
    return Path(name).suffix.lower() in SUFFIXES


def _shown(path: Path) -> str:
    return printable(path)
