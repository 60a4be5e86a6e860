"""Class names and templates from prompts.py of the ELEVATER toolkit (Li et al., NeurIPS 2022), read where it lies.

It is Python: lists of texts, each assigned to a name, and two tables, `class_map` and `template_map`, that say which
lists are a set's. It is parsed and never executed; nothing of it is kept here.

The toolkit numbers the classes of a set in the order of its list. Files of a set's authors may number them otherwise:
CIFAR-100 and FER2013 do, and of SUN397 two scenes are in turn. So names are put in the order of the labels by name.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from bench.core.errors import UnreadableFile, UsageError
from bench.core.files import read_bytes
from bench.models.texts import Texts

LARGEST = 1024 * 1024  # bytes; the published one has 88 thousand

SETS: Mapping[str, str] = {  # the key of a card -> what the toolkit calls the set
    "caltech101": "caltech-101",
    "cifar10": "cifar-10",
    "cifar100": "cifar-100",
    "country211": "country211",
    "dtd": "dtd",
    "eurosat": "eurosat_clip",
    "fer2013": "fer-2013",
    "fgvc_aircraft": "fgvc-aircraft-2013b-variants102",
    "flowers102": "oxford-flower-102",
    "food101": "food-101",
    "gtsrb": "gtsrb",
    "hateful_memes": "hateful-memes",
    "kitti_distance": "kitti-distance",
    "mnist": "mnist",
    "oxford_pets": "oxford-iiit-pets",
    "patch_camelyon": "patch-camelyon",
    "rendered_sst2": "rendered-sst2",
    "resisc45": "resisc45_clip",
    "stanford_cars": "stanford-cars",
    "stl10": "stl10",
    "sun397": "sun397",
    "voc2007": "voc-2007-classification",
}
OWN_FILE = "Write its names, in the order of the labels, and templates to a file: --texts FILE.toml."
NUMBERED = ("country211", "flowers102", "gtsrb", "patch_camelyon")
"""Sets whose authors number the classes, or give codes, without naming them; the list is in that very order."""


def read(path: Path, key: str) -> Texts:
    """What the file says of the set that a card calls `key`; where a class has several names, the first, as the toolkit
    takes it. Raises UsageError where the file is none, or does not say it."""
    name, assigned = toolkit_name(key), _assignments(path)
    try:
        return Texts(_listed(path, assigned, "class_map", name), _listed(path, assigned, "template_map", name))
    except ValueError as error:
        raise UsageError(f"{path}, {name}: {error}.") from error


def toolkit_name(key: str) -> str:
    """What the toolkit calls a set. Raises UsageError where it has none for this key of a card."""
    if key not in SETS:
        raise UsageError(f"ELEVATER's prompts.py has no set for {key!r}. {OWN_FILE}")
    return SETS[key]


def in_label_order(texts: Texts, label_names: Sequence[str], *, alike: bool) -> Texts:
    """The texts with their names in the order of the labels, whose classes the data call `label_names`; names are
    compared without case, spaces and marks. `alike` says that the data are known to number classes in the order of the
    file: then what cannot be told by name stays where it is.

    Raises UsageError where the order cannot be told, or where names contradict that the two are numbered alike.
    """
    names = texts.names
    position = {_plain(name): label for label, name in enumerate(label_names)}
    places = [position.get(_plain(name)) for name in names]
    if len(position) == len(label_names) == len(names) and {*places} == {*range(len(names))}:
        return replace(texts, names=tuple(names[places.index(label)] for label in range(len(names))))
    moved = [
        f"{name!r} is class {own} there and {label} of the data"
        for own, (name, label) in enumerate(zip(names, places, strict=True))
        if label not in (None, own)
    ]
    if alike and not moved:
        return texts
    strange = [repr(name) for name, label in zip(names, places, strict=True) if label is None]
    if strange and not alike:
        told = f"the data have no {' and no '.join(strange[:3])} ({len(strange)} of {len(names)} names)"
    else:
        told = moved[0] if moved else f"the data name {len(position)} classes, not {len(names)}"
    raise UsageError(f"Its classes cannot be put in the order of the labels: {told}. {OWN_FILE}")


def _plain(name: str) -> str:
    return re.sub(r"[\W_]", "", name.lower())


def _assignments(path: Path) -> dict[str, ast.expr]:
    """What the file assigns to each name, unevaluated."""
    try:
        tree = ast.parse(read_bytes(path, LARGEST))
    except FileNotFoundError:
        raise UsageError(f"{path} is not there.") from None
    except (OSError, UnreadableFile, SyntaxError, ValueError, RecursionError, MemoryError) as error:
        told = str(error).partition("\n")[0] or type(error).__name__
        raise UsageError(f"{path} is no file of Python ({told}).") from error
    return {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def _listed(path: Path, assigned: Mapping[str, ast.expr], table: str, name: str) -> tuple[str, ...]:
    """The list of texts that a table of the file has for a set, itself or by the name it was assigned to."""
    entries = assigned.get(table)
    if not isinstance(entries, ast.Dict):
        raise UsageError(f"{path} is not prompts.py of ELEVATER's toolkit: it has no table {table}.")
    pairs = zip(entries.keys, entries.values, strict=True)
    found = [value for key, value in pairs if isinstance(key, ast.Constant) and key.value == name]
    if not found:
        raise UsageError(f"{path}: {table} has no {name!r}.")
    value: ast.expr | None = found[-1]
    if isinstance(value, ast.Name):
        value = assigned.get(value.id)
    wrong = UsageError(f"{path}: what {table} has for {name!r} is no list of texts.")
    try:
        items = ast.literal_eval(value) if value is not None else None
    except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError) as error:
        raise wrong from error
    if not isinstance(items, list):
        raise wrong
    texts = [item[0] if isinstance(item, list) and item else item for item in items]
    if not all(isinstance(text, str) for text in texts):
        raise wrong
    return tuple(texts)
