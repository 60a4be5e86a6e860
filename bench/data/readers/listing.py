"""What the readers of listed images share. They look at a whole list first, then tell every fault of it at once."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from bench.core.errors import UsageError
from bench.data.items import ImageList, open_image


def format_fault(name: str, what: str, examples: Sequence[object], remedy: str) -> str:
    """`test.txt: 12 images are not there (a.jpg, b.jpg, c.jpg, ...). Unpack them again.`"""
    few = ", ".join(map(str, examples[:3])) + (", ..." if len(examples) > 3 else "")
    return f"{name}: {len(examples)} {what} ({few}). {remedy}"


def raise_if_any(where: Path, key: str, faults: Sequence[str]) -> None:
    """Raises UsageError with all faults, if there are any."""
    if faults:
        raise UsageError(f"{where} cannot be used as {key}:\n" + "\n".join(f"  {fault}" for fault in faults))


def has(home: Path, needed: Sequence[str]) -> bool:
    """Whether all of `needed` is in a folder. "a.csv|b.csv" asks for one of the two."""
    return all(any((home / name).exists() for name in need.split("|")) for need in needed)


def home(root: Path, key: str, folders: Sequence[str], needed: Sequence[str]) -> Path:
    """The first of `folders` that has all of `needed`; the UsageError says what the one nearest to it lacks."""
    lacking = {root / folder: [need for need in needed if not has(root / folder, (need,))] for folder in folders}
    nearest = min(lacking, key=lambda folder: len(lacking[folder]))
    if lacking[nearest]:
        absent = ", ".join(need.replace("|", " or ") for need in lacking[nearest])
        raise UsageError(f"{key}: {nearest} lacks {absent}. Unpack the original there; docs/data.md has the layout.")
    return nearest


def lines(path: Path, faults: list[str]) -> list[str]:
    """The lines of a text file that are not blank; a file that has none, or cannot be read, is a fault."""
    try:
        found = [line.strip() for line in path.read_text(encoding="utf-8").split("\n") if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        faults.append(f"{path.name} {what}. Get it again.")
        return []
    if not found:
        faults.append(f"{path.name} is empty. Get it again.")
    return found


def outside(names: Collection[str]) -> list[str]:
    """Those of `names` that are absolute, or lead upwards."""
    return sorted(
        name
        for name in names
        if name.startswith(("/", "\\")) or name[1:2] == ":" or ".." in name.replace("\\", "/").split("/")
    )


def absent(folder: Path, names: Sequence[str]) -> list[str]:
    """Those of `names` that are not below a folder. It lists each directory once, faster than to ask for every file."""
    there: dict[str, set[str]] = {}
    missing = []
    for name in names:
        parent, _, last = name.rpartition("/")
        if parent not in there:
            directory = folder / parent
            there[parent] = {entry.name for entry in directory.iterdir()} if directory.is_dir() else set()
        if last not in there[parent]:
            missing.append(name)
    return missing


def check_files(folder: Path, name: str, names: Sequence[str], faults: list[str]) -> None:
    """Adds a fault where a list names files that lie out of the folder, or are not there."""
    wrong = outside(names)
    if wrong:
        faults.append(format_fault(name, "paths lead out of the folder", wrong, f"Paths start at {folder}."))
    unsafe = set(wrong)
    missing = absent(folder, [name for name in names if name not in unsafe])
    if missing:
        faults.append(
            format_fault(name, "images are not there", missing, "Unpack them again, or get the published list.")
        )


def out_of_range(name: str, names: Sequence[str], labels: np.ndarray, classes: int, faults: list[str]) -> None:
    """Adds a fault where a label is not a class."""
    wrong = [f"{names[i]} {labels[i]}" for i in np.flatnonzero((labels < 0) | (labels >= classes)).tolist()]
    if wrong:
        remedy = "Is it another dataset's, or do its labels start at 1?"
        faults.append(format_fault(name, f"labels are not in 0 to {classes - 1}", wrong, remedy))


def files(folder: Path, names: Sequence[str], labels: Sequence[int] | np.ndarray) -> ImageList:
    """Image files below a folder."""
    return ImageList(np.asarray(labels, dtype=np.int64), tuple(names), lambda i: open_image(folder / names[i]))
