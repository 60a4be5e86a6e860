"""DomainNet: six domains, 345 classes. Three layouts, below the folder or its domainnet/:

    clipart_{train,test}.txt, clipart/<class>/*.jpg     the official lists and the unpacked archive
    clipart_{train,test}.txt, clipart.zip               the same, the archive read in place
    clipart/{train,val}/<class>/*.jpg                   MiMi's image folders; val holds the official test list

The lists may also lie in splits/. There is no validation split: whoever needs one carves it from train.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from bench.core.errors import UsageError, unknown
from bench.data.items import ImageList, Layout
from bench.data.readers import listing
from bench.data.readers.image_tree import classes_of, list_images
from bench.data.readers.listing import format_fault
from bench.data.readers.zips import Zip

DOMAINS = ("clipart", "infograph", "painting", "quickdraw", "real", "sketch")
CLASSES = 345
BASES = (".", "domainnet", "DomainNet")
FOLDERS = {"train": "train", "test": "val"}  # MiMi calls the test list val


# The official lists


def unpacked(root: Path, domain: str) -> Mapping[str, ImageList]:
    """The lists, and the images as files."""
    base, names, labels, faults = _read_lists(root, domain)
    for part, found in names.items():
        listing.check_files(base, f"{domain}_{part}.txt", found, faults)
    listing.raise_if_any(base, domain, faults)
    return {part: listing.files(base, names[part], labels[part]) for part in names}


def zipped(root: Path, domain: str) -> Mapping[str, ImageList]:
    """The lists, and the images inside <domain>.zip."""
    base, names, labels, faults = _read_lists(root, domain)
    archive = Zip(base / f"{domain}.zip")
    try:
        inside = archive.names()
    except UsageError as error:
        faults.append(str(error))
    else:
        for part, found in names.items():
            missing = [name for name in found if name not in inside]
            if missing:
                what = f"images are not in {domain}.zip"
                faults.append(format_fault(f"{domain}_{part}.txt", what, missing, "Get archive and list again."))
    listing.raise_if_any(base, domain, faults)

    def items(part: str) -> ImageList:
        found = names[part]
        return ImageList(labels[part], tuple(found), lambda i: archive.image(found[i]))

    return {part: items(part) for part in names}


def _read_lists(root: Path, domain: str) -> tuple[Path, dict[str, list[str]], dict[str, np.ndarray], list[str]]:
    """The folder of the images, the names and labels of both lists, and what is wrong with them."""
    if domain not in DOMAINS:
        raise unknown("domain of DomainNet", domain, DOMAINS)
    base, folder = _lists(root, domain) or (root, root)
    names: dict[str, list[str]] = {}
    labels: dict[str, np.ndarray] = {}
    faults: list[str] = []
    for part in ("train", "test"):
        name = f"{domain}_{part}.txt"
        lines = listing.lines(folder / name, faults)
        parsed = [re.fullmatch(r"(.*\S)\s+(-?\d+)", line) for line in lines]
        odd = [line for line, match in zip(lines, parsed, strict=True) if not match]
        if odd:
            faults.append(format_fault(name, "lines are not a path, a space and a label", odd, "Mend or remove them."))
        good = [match for match in parsed if match]
        names[part], labels[part] = [match[1] for match in good], np.array([int(match[2]) for match in good], np.int64)
        listing.out_of_range(name, names[part], labels[part], CLASSES, faults)
    _compare(domain, names, labels, faults)
    return base, names, labels, faults


def _compare(domain: str, names: Mapping[str, list[str]], labels: Mapping[str, np.ndarray], faults: list[str]) -> None:
    """An image is in one list, once; a class folder has one label in both, and a label one class folder."""
    lists = f"{domain}_train.txt and {domain}_test.txt"
    twice = [name for name, count in Counter(names["train"] + names["test"]).items() if count > 1]
    if twice:
        faults.append(format_fault(lists, "images are listed more than once", twice, "Keep each in one list, once."))
    pairs = {
        (name.rpartition("/")[0], int(label))
        for part in names
        for name, label in zip(names[part], labels[part], strict=True)
    }
    for side, what in ((0, "class folders have several labels"), (1, "labels stand for several class folders")):
        several = sorted(str(one) for one, count in Counter(pair[side] for pair in pairs).items() if count > 1)
        if several:
            faults.append(format_fault(lists, what, several, "Take both lists from the same place."))


def _lists(root: Path, domain: str) -> tuple[Path, Path] | None:
    """The base folder, and the folder of the two lists: the same, or its splits/."""
    for base in BASES:
        for folder in (root / base, root / base / "splits"):
            if listing.has(folder, (f"{domain}_train.txt", f"{domain}_test.txt")):
                return root / base, folder
    return None


# MiMi's image folders


def image_folder(root: Path, domain: str) -> Mapping[str, ImageList]:
    """<domain>/{train,val}/<class>/*. One list of classes for both splits: a class without images in one of them has
    no folder there, and numbering each split by its own folders would shift all the labels that follow. The domains
    beside it are asked too, for a class that both splits lack."""
    if domain not in DOMAINS:
        raise unknown("domain of DomainNet", domain, DOMAINS)
    base = _image_folders(root, domain)
    if base is None:
        raise UsageError(f"{domain}: {root / domain} lacks train/ or val/. docs/data.md has the layout.")
    classes = _classes(base)
    faults = []
    if len(classes) != CLASSES:
        faults.append(
            f"train/ and val/, with those of the domains beside it, have folders of {len(classes)} classes; DomainNet "
            f"has {CLASSES}, and with another number they cannot be numbered. Put the other domains there too, remove "
            "what is no class, or use the official lists."
        )
    splits = {}
    for part, folder in FOLDERS.items():
        found = list_images(base / domain / folder, classes)
        names = [path.relative_to(base).as_posix() for path, _ in found]
        if not found:
            faults.append(f"{folder}/ has no image. Unpack the dataset again.")
        splits[part] = listing.files(base, names, [label for _, label in found])
    listing.raise_if_any(base / domain, domain, faults)
    return splits


def _classes(base: Path) -> tuple[str, ...]:
    """The names of all folders with images, of both splits and all domains. An empty folder is no class: it could
    stand in for one that is missing, without a trace."""
    folders = [base / domain / folder for domain in DOMAINS for folder in FOLDERS.values()]
    found = [(folder, name) for folder in folders if folder.is_dir() for name in classes_of(folder)]
    return tuple(sorted({name for folder, name in found if any((folder / name).iterdir())}))


def _image_folders(root: Path, domain: str) -> Path | None:
    """The base folder. val/ tells it from an unpacked archive: "train" is also a class, a vehicle."""
    bases = (root / base for base in BASES)
    return next((base for base in bases if all((base / domain / name).is_dir() for name in ("train", "val"))), None)


def _find(beside: Callable[[Path, str], bool]) -> Callable[[Path, str], bool]:
    """Whether the lists of a domain are there, and `beside` them its images."""

    def find(root: Path, domain: str) -> bool:
        lists = _lists(root, domain) if domain in DOMAINS else None
        return lists is not None and beside(lists[0], domain)

    return find


LAYOUTS = (
    Layout(
        "domainnet-lists",
        "official lists <domain>_{train,test}.txt beside the unpacked <domain>/<class>/*.jpg",
        _find(lambda base, domain: (base / domain).is_dir() and not (base / domain / "val").is_dir()),
        unpacked,
    ),
    Layout(
        "domainnet-zip",
        "official lists <domain>_{train,test}.txt beside <domain>.zip, which is not extracted",
        _find(lambda base, domain: (base / f"{domain}.zip").is_file()),
        zipped,
    ),
    Layout(
        "domainnet-folder",
        "image folders <domain>/{train,val}/<class>/*.jpg, where val holds the official test list",
        lambda root, domain: domain in DOMAINS and _image_folders(root, domain) is not None,
        image_folder,
    ),
)
