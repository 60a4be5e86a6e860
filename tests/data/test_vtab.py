from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import pickle
import sys
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_vtab as tiny
from helpers.grading import graded
from PIL import Image

from bench.core.configs import Sizes
from bench.core.errors import UsageError
from bench.data.items import ImageList
from bench.data.readers import pickles, retina, tfds_order, tfrecord, vtab
from bench.data.readers.tfds_order import TASKS, cut, order
from bench.data.readers.vtab import READERS, bin_of, originals, sample
from bench.data.readers.vtab1k import community, find

FIXTURES = json.loads((Path(__file__).parent / "vtab1k_index.json").read_text())
HERE = Path(__file__).parents[2]
SHARED = Path(os.environ.get("BENCH_TEST_DATA", HERE.parent / "shared/data"))

# where the literature cuts val and test: the TFDS split, and the per cent of it that come before and after
CUTS = {
    "cifar": ("train", 90, 100, "test", 0),
    "dtd": ("validation", 0, 100, "test", 0),
    "oxford_flowers102": ("validation", 0, 100, "test", 0),
    "oxford_iiit_pet": ("train", 80, 100, "test", 0),
    "svhn": ("train", 90, 100, "test", 0),
    "sun397": ("validation", 0, 100, "test", 0),
    "patch_camelyon": ("validation", 0, 100, "test", 0),
    "eurosat": ("train", 60, 80, "train", 80),
    "resisc45": ("train", 60, 80, "train", 80),
    "diabetic_retinopathy": ("validation", 0, 100, "test", 0),
    "clevr_count": ("train", 90, 100, "validation", 0),
    "clevr_dist": ("train", 90, 100, "validation", 0),
    "dmlab": ("validation", 0, 100, "test", 0),
    "kitti": ("validation", 0, 100, "test", 0),
    "dsprites_loc": ("train", 80, 90, "train", 90),
    "dsprites_ori": ("train", 80, 90, "train", 90),
    "smallnorb_azi": ("test", 0, 50, "test", 50),
    "smallnorb_ele": ("test", 0, 50, "test", 50),
}


@pytest.fixture
def _any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny files are not the published ones; torchvision would refuse them."""
    for name in ("cifar", "svhn"):
        monkeypatch.setattr(f"torchvision.datasets.{name}.check_integrity", lambda path, md5=None: Path(path).is_file())


def ordered(split: str, examples: Sequence[tiny.Example]) -> list[tiny.Example]:
    return sorted(examples, key=lambda e: int(hashlib.md5(f"{split}{e.key}".encode()).hexdigest(), 16))


def expected(task: str, splits: tiny.Splits, counts: tuple[int, int]) -> dict[str, list[tiny.Example]]:
    val, before, after, test, start = CUTS[task]
    stored = {split: ordered(split, examples) for split, examples in splits.items()}
    n, m = len(stored[val]), len(stored[test])
    return {
        "train": stored["train"][: counts[0]],
        "val": stored[val][round(n * before / 100) : round(n * after / 100)][: counts[1]],
        "test": stored[test][round(m * start / 100) :],
    }


def same(found: dict[str, ImageList], wanted: dict[str, list[tiny.Example]]) -> None:
    assert list(found) == ["train", "val", "test"]
    for part, examples in wanted.items():
        items = found[part]
        assert items.labels.dtype == np.int64 and items.labels.tolist() == [e.label for e in examples]
        assert len(set(items.names)) == len(items) == len(examples) > 0
        for i, example in enumerate(examples):
            image = items.read(i)
            assert image.mode == "RGB" if isinstance(image, Image.Image) else image.dtype == np.uint8
            np.testing.assert_array_equal(np.asarray(image), example.image)


@pytest.mark.usefixtures("_any_checksum")
@pytest.mark.parametrize("task", tiny.BUILD)
def test_the_original_files_give_the_split_of_the_literature(task: str, tmp_path: Path) -> None:
    splits = tiny.BUILD[task](tmp_path)
    found = originals(tmp_path, task, counts=(4, 2))
    same(found, expected(task, splits, (4, 2)))
    graded(f"vtab/{task}", found)
    assert not set(found["train"].names) & set(found["test"].names)
    assert originals(tmp_path, task, counts=(4, 2))["test"].digest() == found["test"].digest()


def sampled(task: str, splits: tiny.Splits) -> dict[str, list[tiny.Example]]:
    """As `expected`, with all there is; no image of val is trained on."""
    found, (val, before, *_) = expected(task, splits, (800, 200)), CUTS[task]
    if val == "train":
        found["train"] = found["train"][: round(len(splits["train"]) * before / 100)]
    return found


@pytest.mark.parametrize("task", tiny.BUILD)
def test_a_sample_is_what_is_there_in_the_same_order(task: str, tmp_path: Path) -> None:
    """Checksums are not asked for: torchvision would refuse every tiny file of CIFAR and SVHN."""
    splits = tiny.BUILD[task](tmp_path)
    same(sample(tmp_path, task), sampled(task, splits))


@pytest.mark.parametrize(
    "task", ["dtd", "oxford_flowers102", "oxford_iiit_pet", "sun397", "diabetic_retinopathy", "kitti"]
)
def test_a_sample_leaves_out_what_its_lists_name_and_is_not_there(task: str, tmp_path: Path) -> None:
    splits = tiny.BUILD[task](tmp_path)
    whole = sample(tmp_path, task)["train"].names
    home = vtab._home(tmp_path, task)
    (home / whole[0]).unlink()
    key = {example.key for example in splits["train"] if whole[0].endswith(str(example.key).strip("/"))}
    left = {split: [e for e in found if split != "train" or e.key not in key] for split, found in splits.items()}
    assert len(key) == 1 or task == "diabetic_retinopathy"
    found = sample(tmp_path, task)["train"].names
    assert whole[0] not in found and len(found) >= len(whole) - 1
    if task in ("dtd", "oxford_iiit_pet", "oxford_flowers102"):
        same(sample(tmp_path, task), sampled(task, left))
    for path in home.rglob("*.jp*g"):
        path.unlink()
    if task != "kitti":
        with pytest.raises(UsageError, match="there is no image to train on and to validate on and to test on"):
            sample(tmp_path, task)


class Malicious:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, ("/tmp/petbench-was-here",)


def test_a_sample_of_pickles_runs_nothing(tmp_path: Path) -> None:
    tiny.BUILD["cifar"](tmp_path)
    path = tmp_path / "cifar-100-python/train"
    for protocol in (2, 4, 5):
        path.write_bytes(pickle.dumps({"data": np.zeros((3, 3072), np.uint8), "fine_labels": [1, 2, 3]}, protocol))
        assert pickles.images([path])[1] == [1, 2, 3]
    bad = [
        {"data": Malicious()},
        {"data": np.array([Malicious()], dtype=object), "labels": [0]},
        {"data": np.zeros((1, 3))},
        3,
    ]
    for value in bad:
        path.write_bytes(pickle.dumps(value))
        with pytest.raises(UsageError, match="train is not a batch of CIFAR"):
            sample(tmp_path, "cifar")
    assert not Path("/tmp/petbench-was-here").exists()


def test_camelyon_is_read_from_h5(tmp_path: Path) -> None:
    h5py = pytest.importorskip("h5py", reason="h5py is not installed: pip install h5py")
    splits = tiny.patch_camelyon(tmp_path, h5py)
    same(originals(tmp_path, "patch_camelyon", counts=(4, 2)), expected("patch_camelyon", splits, (4, 2)))


class Stored(dict[str, np.ndarray]):
    """As much of h5py.File as is used: a file of named arrays."""

    def __init__(self, path: Path, mode: str) -> None:
        self.path, self.mode = path, mode
        super().__init__(np.load(path) if mode == "r" else {})

    def __enter__(self) -> Stored:
        return self

    def __exit__(self, *_: object) -> None:
        if self.mode == "w":
            with self.path.open("wb") as file:
                np.savez(file, **self)


class StandIn:
    File = Stored


def test_camelyon_follows_its_keys_without_h5py(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    splits = tiny.patch_camelyon(tmp_path, StandIn)
    monkeypatch.setitem(sys.modules, "h5py", StandIn)
    found = originals(tmp_path, "patch_camelyon", counts=(4, 2))
    same(found, expected("patch_camelyon", splits, (4, 2)))
    graded("vtab/patch_camelyon", found)
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(UsageError, match="pip install h5py"):
        originals(tmp_path, "patch_camelyon", counts=(4, 2))


def test_caltech_points_at_the_folder_of_the_community(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be rebuilt.*vtab-1k/caltech101"):
        originals(tmp_path, "caltech101")


# The order of TFDS


def euro() -> Iterator[str]:
    return (f"{name}_{name}_{i}.jpg" for name, count in tiny.EUROSAT.items() for i in range(1, count + 1))


def resisc() -> Iterator[str]:
    names = """airplane airport baseball_diamond basketball_court beach bridge chaparral church circular_farmland cloud
        commercial_area dense_residential desert forest freeway golf_course ground_track_field harbor industrial_area
        intersection island lake meadow medium_residential mobile_home_park mountain overpass palace parking_lot railway
        railway_station rectangular_farmland river roundabout runway sea_ice ship snowberg sparse_residential stadium
        storage_tank tennis_court terrace thermal_power_station wetland"""
    return (f"{name}_{name}_{i:03d}.jpg" for name in names.split() for i in range(1, 701))


Keys = dict[str, Sequence[str] | Sequence[int]]
KEYS: dict[str, tuple[str, Callable[[], Keys]]] = {  # fixture -> task, its keys by split
    "cifar100": ("cifar", lambda: {"train": range(50000), "test": range(10)}),
    "svhn_cropped": ("svhn", lambda: {"train": range(73257), "test": range(10)}),
    "smallnorb": ("smallnorb_azi", lambda: {"train": range(24300), "test": range(24300)}),
    "patch_camelyon": (
        "patch_camelyon",
        lambda: {
            "train": [f"train_{i}" for i in range(262144)],
            "validation": [f"valid_{i}" for i in range(32768)],
            "test": [],
        },
    ),
    "clevr": ("clevr_count", lambda: {"train": [f"CLEVR_train_{i:06d}.png" for i in range(70000)], "validation": []}),
    "eurosat_rgb": ("eurosat", lambda: {"train": list(euro())}),
    "resisc45": ("resisc45", lambda: {"train": list(resisc())}),
}


def check(fixture: dict[str, object], part: str, keys: Sequence[object]) -> None:
    """Against the first few, the number and the sha256 of the keys, joined by commas."""
    name = {"train": "train800", "val": "val200", "test": "test"}[part]
    few = fixture[f"{name}_first{5 if part == 'test' else 10}"]
    assert list(keys[: 5 if part == "test" else 10]) == few
    assert len(keys) == fixture["test_n" if part == "test" else f"n_{part}"]
    assert hashlib.sha256(",".join(map(str, keys)).encode()).hexdigest() == fixture[f"{name}_sha256"]


@pytest.mark.parametrize("name", KEYS)
def test_the_published_split_is_found_again(name: str) -> None:
    task, make = KEYS[name]
    keys, plan, fixture = make(), TASKS[task], FIXTURES[name]
    index = cut(plan, keys)
    for part in ("train", "val", "test"):
        chosen = [keys[getattr(plan, part).split][i] for i in index[part]]
        if part != "test" or "test_n" in fixture:
            check(fixture, part, chosen)
        if part == "train" and "hist_train800" in fixture:
            found = [str(key).split("_")[0] for key in chosen]
            assert {label: found.count(label) for label in set(found)} == fixture["hist_train800"]


def test_dsprites_at_full_size_gives_the_published_split_and_labels(tmp_path: Path) -> None:
    name, fixture = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", FIXTURES["dsprites"]
    np.savez(
        tmp_path / name, imgs=np.zeros((737280, 1, 1), dtype=np.uint8), latents_classes=tiny.latents().astype(np.int8)
    )
    found = originals(tmp_path, "dsprites_loc")
    rows = {part: [int(item.partition("[")[2][:-1]) for item in items.names] for part, items in found.items()}
    for part, chosen in rows.items():
        check(fixture, part, chosen)
    location = found["train"].labels
    orientation = READERS["dsprites_ori"](tmp_path)["train"].items.labels[rows["train"]]
    assert np.bincount(location, minlength=16).tolist() == fixture["loc16_hist_train800"]
    assert np.bincount(orientation, minlength=16).tolist() == fixture["ori16_hist_train800"]
    assert np.stack([location, orientation], axis=1)[:5].tolist() == fixture["first5_labels_loc_ori"]


def test_the_order_is_that_of_the_numbers_and_ties_nothing_to_python() -> None:
    keys = [f"{i}.jpg" for i in range(500)]
    numbers = [int(hashlib.md5(f"validation{key}".encode()).hexdigest(), 16) for key in keys]
    assert order("validation", keys) == sorted(range(500), key=numbers.__getitem__)
    assert order("train", range(20)) == order("train", [str(i) for i in range(20)]) != order("test", range(20))


def test_the_table_has_19_tasks_with_the_sizes_of_the_literature() -> None:
    tested = dict(
        cifar=10000, caltech101=6084, dtd=1880, oxford_flowers102=6149, oxford_iiit_pet=3669, svhn=26032, sun397=21750,
        patch_camelyon=32768, eurosat=5400, resisc45=6300, diabetic_retinopathy=42670, clevr_count=15000, clevr_dist=15000,
        dmlab=22735, kitti=711, dsprites_loc=73728, dsprites_ori=73728, smallnorb_azi=12150, smallnorb_ele=12150,
    )  # fmt: skip
    assert list(TASKS) == list(tested) and set(READERS) == set(tested) and set(CUTS) == set(tested) - {"caltech101"}
    for task, plan in TASKS.items():
        first, last = (round(plan.totals[plan.test.split] * at / 100) for at in (plan.test.start, plan.test.stop))
        assert last - first == tested[task], task
        assert tfds_order.COUNTS == (800, 200)
    assert sum(plan.classes for plan in TASKS.values()) == 940


# Labels and pixels that are derived


@pytest.mark.parametrize(
    ("value", "label"), [(0.0, -1), (1e-9, 0), (8.0, 0), (8.1, 1), (10.0, 4), (100.0, 5), (100.1, 6)]
)
def test_a_threshold_belongs_to_the_bin_below(value: float, label: int) -> None:
    assert bin_of(value, (0.0, 8.0, 8.5, 9.0, 9.5, 10.0, 100.0)) == label


def test_the_retina_is_scaled_levelled_and_cut_to_a_disc() -> None:
    rng = np.random.default_rng(0)
    y, x = np.mgrid[:41, :52]
    photo = rng.integers(40, 256, (41, 52, 3), dtype=np.uint8) * ((y - 20) ** 2 + (x - 26) ** 2 < 17**2)[..., None]
    photo = photo.astype(np.uint8)
    assert retina.radius_of(photo) == 16.5
    radius, factor = 30, 30 / 16.5
    height, width = round(41 * factor), round(52 * factor)
    scaled = np.empty((height, width, 3))
    for i in range(height):
        for j in range(width):
            v, u = ((at + 0.5) / factor - 0.5 for at in (i, j))
            v, u = min(max(v, 0), 40), min(max(u, 0), 51)
            a, b = int(v), int(u)
            c, d = min(a + 1, 40), min(b + 1, 51)
            above = photo[a, b] * (1 - u + b) + photo[a, d] * (u - b)
            below = photo[c, b] * (1 - u + b) + photo[c, d] * (u - b)
            scaled[i, j] = above * (1 - v + a) + below * (v - a)
    found = retina.scale(photo, factor)
    assert np.abs(found - scaled).max() <= 0.5 + 1e-3
    kernel = np.exp(-(np.arange(-3, 4) ** 2) / 2)  # sigma is a thirtieth of the radius
    kernel /= kernel.sum()
    grain = rng.integers(80, 150, found.shape, dtype=np.uint8)  # up to the border, unlike the photograph
    padded = np.pad(grain.astype(float), ((3, 3), (3, 3), (0, 0)), mode="reflect")
    rows = sum(k * padded[i : i + height] for i, k in enumerate(kernel))
    blurred = np.rint(sum(k * rows[:, i : i + width] for i, k in enumerate(kernel)))
    levelled = np.clip(4 * (grain - blurred) + 128, 0, 255)
    assert (retina.level(grain, radius) != levelled).mean() < 1e-3  # a tie of rounding, now and then
    prepared = retina.prepare(photo, radius)
    assert prepared.shape == (54, 54, 3) and prepared.dtype == np.uint8
    assert (prepared[0, 0] == 128).all() and prepared[27, 27].tolist() == retina.level(found, radius)[37, 47].tolist()
    assert retina.radius_of(np.zeros((10, 20, 3), dtype=np.uint8)) == 5


def test_an_example_as_tensorflow_writes_it_is_understood() -> None:
    message = (
        b"\nR\n\x11\n\x08feature0\x12\x05\x1a\x03\n\x01\x00\n\x11\n\x08feature1\x12\x05\x1a\x03\n\x01\x04"
        b"\n\x14\n\x08feature2\x12\x08\n\x06\n\x04goat\n\x14\n\x08feature3\x12\x08\x12\x06\n\x04[\xd3|?"
    )
    assert tfrecord.parse(message) == {"feature0": [0], "feature1": [4], "feature2": [b"goat"]}
    unpacked = b"\n\x12\n\x10\n\x05label\x12\x07\x1a\x05\x08\x07\x08\xac\x02"  # 7 and 300, one by one
    assert tfrecord.parse(unpacked) == {"label": [7, 300]}
    assert tfrecord.parse(tiny.example({"label": -1, "big": 1 << 40})) == {"label": [-1], "big": [1 << 40]}
    assert tfrecord.crc32c(b"123456789") == 0xE3069283


# Faults of original files


@pytest.mark.parametrize("task", [task for task in READERS if task != "caltech101"])
def test_an_empty_folder_is_told_with_the_layout_and_the_way_out(task: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=rf"{task}: .* lacks .*docs/data.md.*vtab-1k/{task}"):
        originals(tmp_path, task)


def test_a_task_that_is_not_there_is_told(tmp_path: Path) -> None:
    for read in (originals, community):
        with pytest.raises(UsageError, match="No VTAB task is called 'dsprite_loc'. Did you mean 'dsprites_loc'?"):
            read(tmp_path, "dsprite_loc")


def test_an_incomplete_original_is_refused_before_it_shifts_the_split(tmp_path: Path) -> None:
    tiny.eurosat(tmp_path)
    with pytest.raises(UsageError, match="eurosat: .* 'train' has 120 images, the published one has 27000"):
        originals(tmp_path, "eurosat")
    with pytest.raises(UsageError, match="val needs 30 images, its share of the split 'train' holds 24"):
        originals(tmp_path, "eurosat", counts=(4, 30))


def test_files_that_are_not_the_published_ones_fail_their_checksum(tmp_path: Path) -> None:
    tiny.cifar(tmp_path)
    tiny.svhn(tmp_path)
    for task in ("cifar", "svhn"):
        with pytest.raises(UsageError, match="do not have the published checksums"):
            originals(tmp_path, task)


STEM = "smallnorb/smallnorb-5x46789x9x18x6x2x96x96-training"
RAND = "Kitti/raw/mapping/train_rand.txt"


@pytest.mark.parametrize(
    ("task", "file", "content", "message"),
    [
        ("dmlab", "dmlab/dmlab-test.tfrecord-00001-of-00002", lambda old: old[:-3], "not a whole TFRecord file .byte"),
        ("dmlab", "dmlab/dmlab-test.tfrecord-00001-of-00002", lambda old: b"\x1f\x8b" + old, "not a whole TFRecord file .byte 0"),
        ("dmlab", "dmlab/dmlab-test.tfrecord-00001-of-00002", lambda old: tiny.record(b"\x0a\xff"), "no tf.train.Example at byte 12"),
        ("dmlab", "dmlab/dmlab-test.tfrecord-00001-of-00002", lambda old: tiny.record(tiny.example({"label": 1})), "KeyError: 'filename'"),
        ("smallnorb_azi", f"{STEM}-info.mat", lambda old: b"\x1f\x8b\x08\x08" + old, "gunzip"),
        ("smallnorb_azi", f"{STEM}-dat.mat", lambda old: old[:-5], "training-dat.mat is not as published"),
        ("clevr_dist", "clevr/CLEVR_v1.0/scenes/CLEVR_val_scenes.json", lambda old: old[:-5], "CLEVR_val_scenes.json is not as published"),
        ("kitti", RAND, lambda old: b"1,2,x", "train_rand.txt is not as published .ValueError"),
        ("kitti", RAND, lambda old: b"1,2,9999", "train_rand.txt is not as published .IndexError"),
        ("kitti", "Kitti/raw/training/label_2/000000.txt", lambda old: b"Car 0 0", "label_2/000000.txt is not as published"),
        ("oxford_iiit_pet", "oxford-iiit-pet/annotations/test.txt", lambda old: b"Abyssinian_1", "annotations/test.txt is not as"),
        ("oxford_iiit_pet", "oxford-iiit-pet/annotations/test.txt", lambda old: b"Abyssinian_1 38 1 1", "has label 37, there are 37"),
        ("oxford_flowers102", "flowers-102/setid.mat", lambda old: b"no", "setid.mat is not as published"),
        ("dsprites_loc", "dsprites/dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz", lambda old: old[:99], "npz is not as published"),
    ],
)  # fmt: skip
def test_a_file_that_is_not_as_published_is_named(
    task: str, file: str, content: Callable[[bytes], bytes], message: str, tmp_path: Path
) -> None:
    tiny.BUILD[task](tmp_path)
    path = tmp_path / file
    path.write_bytes(content(path.read_bytes()))
    with pytest.raises(UsageError, match=message):
        originals(tmp_path, task, counts=(4, 2))


def test_a_table_of_grades_without_its_columns_is_named(tmp_path: Path) -> None:
    home = tmp_path / "diabetic-retinopathy-detection"
    for name in ("train/x", "test/x", "retinopathy_solution.csv", "trainLabels.csv"):
        tiny.write(home / name, ["name,grade", "1_left,0"])
    with pytest.raises(UsageError, match="trainLabels.csv is not as published .KeyError: 'image'"):
        originals(tmp_path, "diabetic_retinopathy", counts=(4, 2))


def test_a_broken_image_is_named_when_it_is_read(tmp_path: Path) -> None:
    tiny.dtd(tmp_path)
    items = originals(tmp_path, "dtd", counts=(4, 2))["test"]
    (tmp_path / "dtd/dtd" / items.names[0]).write_bytes(b"\xff\xd8\xff")
    (tmp_path / "dtd/dtd" / items.names[1]).unlink()
    with pytest.raises(UsageError, match=f"{items.names[0]} is not a readable image"):
        items.read(0)
    with pytest.raises(UsageError, match=f"{items.names[1]} is missing"):
        items.read(1)
    home = tmp_path / "dmlab"
    tiny.dmlab(tmp_path)
    for split in ("train", "validation", "test"):
        broken = [
            tiny.record(tiny.example({"image": b"\xff\xd8", "filename": b"%d.jpg" % i, "label": 0})) for i in range(9)
        ]
        (home / f"dmlab-{split}.tfrecord-00000-of-00002").write_bytes(b"".join(broken))
        (home / f"dmlab-{split}.tfrecord-00001-of-00002").unlink()
    with pytest.raises(UsageError, match=r"image \d.jpg: not a readable image"):
        originals(tmp_path, "dmlab", counts=(4, 2))["train"].read(0)


# The folder of the community


def mend(path: Path, change: Callable[[list[str]], list[str]]) -> None:
    tiny.write(path, change(path.read_text().splitlines()))


@pytest.mark.parametrize(
    ("task", "folder"),
    [
        ("cifar", "cifar"), ("cifar", "cifar100"), ("cifar", "cifar_100"), ("cifar", "cifar(num_classes=100)"),
        ("oxford_flowers102", "flowers102"), ("oxford_iiit_pet", "oxford_pet"), ("oxford_iiit_pet", "pets"),
        ("clevr_count", "clevr_count"), ("clevr_count", 'clevr(task="count_all")'), ("clevr_count", "vtab-clevr(count_all)"),
        ("clevr_dist", 'vtab-clevr(task="closest_object_distance")'), ("kitti", 'kitti(task="closest_vehicle_distance")'),
        ("dsprites_loc", 'dsprites(predicted_attribute="label_x_position",num_classes=16)'),
        ("dsprites_ori", "dsprites(label_orientation;16)"), ("smallnorb_azi", "smallnorb(label_azimuth)"),
        ("smallnorb_ele", 'smallnorb(predicted_attribute="label_elevation")'), ("sun397", "sun397(tfds)"),
        ("diabetic_retinopathy", 'diabetic_retinopathy(config="btgraham-300")'), ("eurosat", "eurosat(rgb)"),
    ],
)  # fmt: skip
def test_a_folder_is_found_under_the_names_in_use(task: str, folder: str, tmp_path: Path) -> None:
    home = tmp_path / "with spaces/vtab-1k" / folder
    tiny.write(home / "test.txt", [])
    assert (
        find(tmp_path / "with spaces", task) == find(tmp_path / "with spaces/vtab-1k", task) == find(home, task) == home
    )


def test_two_folders_of_one_task_are_told_apart_by_its_own_name(tmp_path: Path) -> None:
    for name in ("cifar_100", "cifar100"):
        tiny.write(tmp_path / f"vtab-1k/{name}/test.txt", [])
    with pytest.raises(UsageError, match=r"cifar: both .*cifar100 and .*cifar_100 fit"):
        find(tmp_path, "cifar")
    tiny.write(tmp_path / "vtab-1k/cifar/test.txt", [])
    assert find(tmp_path, "cifar") == tmp_path / "vtab-1k/cifar"
    with pytest.raises(UsageError, match=r"pets: there is no|oxford_iiit_pet: there is no .*oxford_pet.*docs/data.md"):
        find(tmp_path, "oxford_iiit_pet")


def test_the_folder_of_the_community_is_read(tmp_path: Path) -> None:
    home = tmp_path / "my data/vtab-1k/kitti"
    lists = tiny.community(home, classes=4)
    tiny.paint(home / "images/test/a name  with spaces.jpg", 99)
    mend(home / "test.txt", lambda lines: [*lines, "images/test/a name  with spaces.jpg\t 2 ", ""])
    lists["test"].append(("images/test/a name  with spaces.jpg", 2))
    splits = community(tmp_path / "my data", "kitti", Sizes(8, 4, 5))
    for part, name in (("train", "train800"), ("val", "val200"), ("test", "test")):
        items = splits[part]
        assert list(zip(items.names, items.labels.tolist(), strict=True)) == lists[name]
        for i, path in enumerate(items.names):
            image = items.read(i)
            assert isinstance(image, Image.Image)
            np.testing.assert_array_equal(np.asarray(image), np.asarray(Image.open(home / path)))
    assert community(home, "kitti")["test"].digest() == splits["test"].digest()
    (home / "train800val200.txt").unlink()  # nobody needs it
    assert len(community(home, "kitti")["train"]) == 8


@pytest.mark.parametrize("task", TASKS)
def test_every_task_is_read_from_the_folder_of_the_community(task: str, tmp_path: Path) -> None:
    lists = tiny.community(tmp_path / "vtab-1k" / task, TASKS[task].classes)
    found = community(tmp_path, task)
    for part, name in (("train", "train800"), ("val", "val200"), ("test", "test")):
        assert list(zip(found[part].names, found[part].labels.tolist(), strict=True)) == lists[name]
    graded(f"vtab/{task}", found)


FAULTS: list[tuple[str, Callable[[list[str]], list[str]], str]] = [
    ("test.txt", lambda lines: [*lines, "images/test/9.jpg 1", "images/7.jpg 0"], "test.txt: 2 images are not there .images/test/9.jpg, images/7.jpg.. Unpack"),
    ("test.txt", lambda lines: [*lines, f"{lines[0][:-2]} 3"], "test.txt: 1 images are listed more than once .images/test/000000.jpg"),
    ("test.txt", lambda lines: [lines[0], lines[0][:-1] + "4", *lines[1:]], "test.txt: 1 labels are not in 0 to 3 .images/test/000000.jpg 4"),
    ("val200.txt", lambda lines: [line[:-1] + "-1" for line in lines], "val200.txt: 4 labels are not in 0 to 3 .*, ....*start at 1"),
    ("test.txt", lambda lines: lines[:2], r"test.txt: 2 classes have no image .2, 3.. Is it another task's"),
    ("val200.txt", lambda lines: [*lines[:2], "images/val200/000003.jpg"], "val200.txt: 1 lines are not a path, a space and a label .line 3"),
    ("train800.txt", lambda lines: [*lines, "/etc/passwd 1", "../x.jpg 1"], "train800.txt: 2 paths lead out of the folder"),
    ("val200.txt", lambda lines: [*lines, "images/train800/000000.jpg 0"], "val200.txt: 1 images are also in train800.txt .images/train800/000000.jpg"),
    ("test.txt", lambda lines: [*lines, "images/val200/000000.jpg 0"], "test.txt: 1 images are also in train800.txt and val200.txt"),
    ("train800.txt", lambda lines: lines[:-2], "train800.txt: 6 images, the dataset's card says 8. Get the full list"),
    ("train800val200.txt", lambda lines: lines[:-2], r"train800val200.txt: 2 classes have another number of images .* .2, 3.. Remove"),
    ("train800.txt", lambda lines: [], "train800.txt lists no image"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "change", "message"), FAULTS)
def test_a_fault_of_a_list_is_told_with_its_remedy(
    name: str, change: Callable[[list[str]], list[str]], message: str, tmp_path: Path
) -> None:
    home = tmp_path / "vtab-1k/kitti"
    tiny.community(home, classes=4)
    mend(home / name, change)
    with pytest.raises(UsageError, match=message):
        community(tmp_path, "kitti", Sizes(8, 4, 4))


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    home = tmp_path / "vtab-1k/kitti"
    tiny.community(home, classes=4)
    (home / "val200.txt").unlink()
    (home / "images/train800/000005.jpg").unlink()
    mend(home / "train800.txt", lambda lines: [*lines[:-1], lines[-1] + "9", "nonsense"])
    mend(home / "test.txt", lambda lines: lines[1:] * 2)
    with pytest.raises(UsageError) as told:
        community(tmp_path, "kitti", Sizes(8, 4, 4))
    first, *rest = str(told.value).splitlines()
    assert first == f"{home} cannot be used as kitti:"
    assert [line.strip().split(" (")[0] for line in rest] == [
        "train800.txt: 1 lines are not a path, a space and a label",
        "train800.txt: 1 images are not there",
        "train800.txt: 1 labels are not in 0 to 3",
        "val200.txt is missing. Unpack the dataset again.",
        "test.txt: 3 images are listed more than once",
        "test.txt: 6 images, the dataset's card says 4. Get the full list, or use a card with sizes of its own.",
        "test.txt: 1 classes have no image",
    ]


def test_any_number_of_images_is_taken_where_the_card_names_none(tmp_path: Path) -> None:
    home = tmp_path / "vtab-1k/kitti"
    tiny.community(home, classes=4, train=5, val=3, test=6)
    assert [len(items) for items in community(tmp_path, "kitti").values()] == [5, 3, 6]
    with pytest.raises(UsageError) as told:
        community(tmp_path, "kitti", Sizes(800, 200, 711))
    assert len(str(told.value).splitlines()) == 4


@pytest.mark.data
def test_a_real_folder_of_the_community_is_read(tmp_path: Path) -> None:
    archive = SHARED / "vtab-1k-caltech101.tar"
    if not archive.is_file():
        pytest.skip(f"{archive} is not there; BENCH_TEST_DATA names the folder that holds it")
    with tarfile.open(archive) as file:
        file.extractall(tmp_path, filter="data")
    splits = community(tmp_path, "caltech101", Sizes(800, 200, 1020))
    assert [len(items) for items in splits.values()] == [800, 200, 1020]
    for items in splits.values():
        image = items.read(len(items) - 1)
        assert isinstance(image, Image.Image) and image.mode == "RGB" and min(image.size) <= 224
    with pytest.raises(UsageError, match="test.txt: 1020 images, the dataset's card says 6084"):
        community(tmp_path, "caltech101", Sizes(800, 200, 6084))


def test_torchvision_is_imported_by_those_who_need_it_only() -> None:
    assert importlib.util.find_spec("torchvision")
    readers = [f"readers/{name}" for name in ("vtab", "vtab1k", "tfds_order", "tfrecord", "matrices", "retina")]
    for name in (*readers, "items"):
        source = (HERE / f"bench/data/{name}.py").read_text()
        assert "import torch" not in source and "import scipy" not in source and "import h5py" not in source
