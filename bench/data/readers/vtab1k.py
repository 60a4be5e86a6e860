"""The folder in which the community passes VTAB-1k around: images already cut out, and a list for each split.

    vtab-1k/<dataset>/{train800,val200,test}.txt     lines of "images/test/000000.jpg 12"
    vtab-1k/<dataset>/images/...

Its images are those of TFDS, saved once more as JPEG: lossy, and not the same data as bench.data.readers.vtab reads.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from bench.core.configs import Sizes
from bench.core.errors import UsageError, unknown
from bench.data.items import ImageList, Layout
from bench.data.readers import listing
from bench.data.readers.listing import format_fault
from bench.data.readers.tfds_order import TASKS

LISTS = {"train": "train800.txt", "val": "val200.txt", "test": "test.txt"}
BOTH = "train800val200.txt"  # the same images as the first two, again; not needed

ALIASES: Mapping[str, tuple[str, ...]] = {  # spelled as _plain gives them
    "cifar": ("cifar100", "cifar_100"),
    "caltech101": ("caltech_101", "caltech"),
    "dtd": (),
    "oxford_flowers102": ("flowers102", "flowers_102", "flowers", "oxford_flowers", "oxford_flowers_102"),
    "oxford_iiit_pet": ("oxford_pet", "oxford_pets", "pet", "pets"),
    "svhn": ("svhn_cropped",),
    "sun397": ("sun_397", "sun397_tfds", "sun"),
    "patch_camelyon": ("camelyon", "pcam"),
    "eurosat": ("eurosat_rgb",),
    "resisc45": ("resisc",),
    "diabetic_retinopathy": ("retinopathy", "diabetic_retinopathy_btgraham_300", "diabetic_retinopathy_detection"),
    "clevr_count": ("clevr_count_all",),
    "clevr_dist": ("clevr_distance", "clevr_closest_object_distance"),
    "dmlab": (),
    "kitti": ("kitti_dist", "kitti_distance", "kitti_closest_vehicle_distance"),
    "dsprites_loc": ("dsprites_location", "dsprites_label_x_position_16", "dsprites_label_x_position"),
    "dsprites_ori": ("dsprites_orientation", "dsprites_label_orientation_16", "dsprites_label_orientation"),
    "smallnorb_azi": ("smallnorb_azimuth", "smallnorb_label_azimuth"),
    "smallnorb_ele": ("smallnorb_elevation", "smallnorb_label_elevation"),
}


def community(root: Path, task: str, expected: Sizes | None = None) -> dict[str, ImageList]:
    """The splits "train", "val" and "test" of a task; `root` holds vtab-1k/<dataset>, or <dataset>, or is <dataset>.

    `expected` are the sizes that the card asks for; None takes any. Every fault of the lists is told in one UsageError.
    """
    if task not in TASKS:
        raise unknown("VTAB task", task, TASKS)
    home = find(root, task)
    faults: list[str] = []
    splits = {
        part: _read(home, name, TASKS[task].classes, getattr(expected, part, None), faults)
        for part, name in LISTS.items()
    }
    tested, labels = splits["test"].names, splits["test"].labels
    missing = sorted(set(range(TASKS[task].classes)) - set(labels.tolist()))
    if missing and tested:  # train may lack a class of many: which images it holds was drawn, not balanced
        faults.append(
            format_fault(LISTS["test"], "classes have no image", missing, "Is it another task's, or cut short?")
        )
    for part, others in (("val", ("train",)), ("test", ("train", "val"))):
        known = {name for other in others for name in splits[other].names}
        shared = [name for name in splits[part].names if name in known]
        if shared:
            lists = " and ".join(LISTS[other] for other in others)
            faults.append(
                format_fault(LISTS[part], f"images are also in {lists}", shared, "Keep each in one list only.")
            )
    if not faults:  # or the comparison would only repeat them
        faults = _compare(home, splits)
    listing.raise_if_any(home, task, faults)
    return splits


def find(root: Path, task: str) -> Path:
    """The folder of a task under any of the names it is known by. Raises UsageError where there is none, or two."""
    names = {task, *ALIASES[task]}
    for base in (root / "vtab-1k", root):
        found = [folder for folder in _folders(base) if _plain(folder.name) in names and _is_listed(folder)]
        if len(found) > 1 and base / task not in found:
            both = " and ".join(str(folder) for folder in found)
            raise UsageError(f"{task}: both {both} fit. Remove one, or name one of them {task}.")
        if found:
            return base / task if base / task in found else found[0]
    if _is_listed(root):
        return root
    raise UsageError(
        f"{task}: there is no {root / 'vtab-1k' / task} with {', '.join(LISTS.values())} (nor under the names "
        f"{', '.join(ALIASES[task]) or 'that others use'}). Unpack the dataset there; docs/data.md has the layout."
    )


def _folders(base: Path) -> list[Path]:
    return sorted(folder for folder in base.iterdir() if folder.is_dir()) if base.is_dir() else []


def _is_listed(folder: Path) -> bool:
    return any((folder / name).is_file() for name in LISTS.values())


def _plain(name: str) -> str:
    """vtab-dsprites(predicted_attribute="label_x_position",num_classes=16) -> dsprites_label_x_position_16"""
    bare = re.sub(r"^vtab[-_]|\b(task|predicted_attribute|num_classes|config)=", "", name.lower())
    return re.sub(r"[^a-z0-9]+", "_", bare).strip("_")


def _read(home: Path, name: str, classes: int, expected: int | None, faults: list[str]) -> ImageList:
    """The images of one list; what is wrong with it is added to `faults`."""
    names, labels = _parse(home / name, faults)
    wrong_place = set(listing.outside(names))
    if wrong_place:
        faults.append(
            format_fault(name, "paths lead out of the folder", sorted(wrong_place), f"Paths start at {home}.")
        )
    absent = listing.absent(home, [path for path in names if path not in wrong_place])
    if absent:
        faults.append(format_fault(name, "images are not there", absent, "Unpack them again, or remove their lines."))
    twice = [path for path, count in Counter(names).items() if count > 1]
    if twice:
        faults.append(format_fault(name, "images are listed more than once", twice, "Keep one line for each."))
    wrong = [f"{path} {label}" for path, label in zip(names, labels, strict=True) if not 0 <= label < classes]
    if wrong:
        what = f"labels are not in 0 to {classes - 1}"
        faults.append(format_fault(name, what, wrong, "Is it another task's, or do its labels start at 1?"))
    if names and expected is not None and len(names) != expected:
        faults.append(
            f"{name}: {len(names)} images, the dataset's card says {expected}. Get the full list, or use a card with "
            "sizes of its own."
        )
    return listing.files(home, names, labels)


def _parse(path: Path, faults: list[str]) -> tuple[list[str], list[int]]:
    """The paths and labels of a list. A path may have spaces."""
    try:
        lines = [(number, line.strip()) for number, line in enumerate(path.read_text().splitlines(), 1) if line.strip()]
    except (OSError, UnicodeDecodeError) as error:
        what = "is missing" if isinstance(error, FileNotFoundError) else f"cannot be read ({error})"
        faults.append(f"{path.name} {what}. Unpack the dataset again.")
        return [], []
    if not lines:
        faults.append(f"{path.name} lists no image. Unpack the dataset again.")
    parsed = [(number, re.fullmatch(r"(.*\S)\s+(-?\d+)", line)) for number, line in lines]
    odd = [f"line {number}" for number, match in parsed if not match]
    if odd:
        faults.append(format_fault(path.name, "lines are not a path, a space and a label", odd, "Mend or remove them."))
    good = [match for _, match in parsed if match]
    return [match[1] for match in good], [int(match[2]) for match in good]


def _compare(home: Path, splits: Mapping[str, ImageList]) -> list[str]:
    """train800val200.txt, where there is one, must be train and val together, by number of images in each class."""
    if not (home / BOTH).is_file():
        return []
    faults: list[str] = []
    _, labels = _parse(home / BOTH, faults)
    apart = Counter(splits["train"].labels.tolist()) + Counter(splits["val"].labels.tolist())
    together = Counter(labels)
    classes = sorted(label for label in apart | together if apart[label] != together[label])
    if classes and labels:
        what = f"classes have another number of images than in {LISTS['train']} and {LISTS['val']} together"
        faults.append(
            format_fault(BOTH, what, classes, f"Remove {BOTH}, which is not needed, if the other two are right.")
        )
    return faults


def _here(root: Path, task: str) -> bool:
    """Whether the folder of a task is below `root`, or is `root` under one of the task's names."""
    try:
        home = find(root, task)
    except UsageError:
        return False
    return home != root or _plain(root.resolve().name) in {task, *ALIASES[task]}


LAYOUTS = (
    Layout(
        "vtab1k-folder",
        "the community's vtab-1k/<dataset>/{images,train800.txt,val200.txt,test.txt}, compressed again as JPEG",
        _here,
        community,
        reencoded=True,
    ),
)
