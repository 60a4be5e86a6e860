"""Readers of DomainNet, of torchvision's downloads, of ELEVATER's archives and of saved Hugging Face datasets."""

from __future__ import annotations

import errno
import importlib
import json
import pickle
import re
import subprocess
import sys
import types
import zipfile
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from helpers import tiny_sources as tiny
from helpers.grading import graded
from helpers.waiting import LONG
from PIL import Image

from bench.cli.main import main
from bench.core import configs
from bench.core.configs import Dataset, Sizes
from bench.core.errors import UsageError
from bench.data import fewshot, ready, sources
from bench.data.download import catalog
from bench.data.items import ImageList, Layout
from bench.data.prepare import Transform
from bench.data.readers import domainnet, elevater, elevater_originals, folder, hub, pickles, torchvision_sets
from bench.data.readers.listing import outside
from bench.data.readers.zips import Zip
from bench.data.root import default_data_root

LISTS, ZIPPED, FOLDER = domainnet.LAYOUTS
TORCHVISION, JPEG = torchvision_sets.LAYOUTS
(TOOLKIT,) = elevater.LAYOUTS
(ORIGINALS,) = elevater_originals.LAYOUTS
(HUB,) = hub.LAYOUTS


def same(found: Mapping[str, ImageList], wanted: tiny.Splits) -> None:
    assert list(found) == list(wanted) == ["train", "test"]
    for part, examples in wanted.items():
        items = found[part]
        assert items.labels.dtype == np.int64 and items.labels.tolist() == [e.label for e in examples]
        assert len(set(items.names)) == len(items) == len(examples) > 0
        for i, example in enumerate(examples):
            image = items.read(i)
            assert image.mode == "RGB" if isinstance(image, Image.Image) else image.dtype == np.uint8
            np.testing.assert_array_equal(np.asarray(image), example.image)


def named(found: Mapping[str, ImageList], wanted: tiny.Splits) -> None:
    for part, examples in wanted.items():
        assert found[part].names == tuple(example.key for example in examples)


def change(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refuses(layout: Layout, root: Path, key: str, *messages: str) -> None:
    """All the messages in one error."""
    with pytest.raises(UsageError) as error:
        layout.open(root, key)
    for message in messages:
        assert re.search(message, str(error.value)), f"{message!r} is not in {error.value}"


def test_the_names_of_layouts_are_unique() -> None:
    layouts = (*domainnet.LAYOUTS, *torchvision_sets.LAYOUTS, *elevater.LAYOUTS, ORIGINALS, *hub.LAYOUTS)
    assert len({layout.name for layout in layouts}) == len(layouts)
    assert [layout.name for layout in layouts if layout.reencoded] == ["image-folder"]


@pytest.mark.parametrize("layout", [LISTS, ZIPPED, FOLDER, TORCHVISION, JPEG, TOOLKIT, ORIGINALS])
def test_an_empty_folder_has_nothing_and_says_what_it_lacks(layout: Layout, tmp_path: Path) -> None:
    key = "clipart" if "domainnet" in layout.name else "cifar10"
    assert not layout.find(tmp_path, key) and not layout.find(tmp_path / "nowhere", key)
    assert not layout.find(tmp_path, "no_such_key")
    refuses(layout, tmp_path, key, r"lacks|is missing")
    refuses(layout, tmp_path, "no_such_key", "No .* is called 'no_such_key'")


# DomainNet


@pytest.mark.parametrize("domain", domainnet.DOMAINS)
def test_domainnet_is_read_from_files_and_from_the_zip(domain: str, tmp_path: Path) -> None:
    wanted = tiny.domainnet(tmp_path / "files", domain, zipped=False)
    assert LISTS.find(tmp_path / "files", domain) and not ZIPPED.find(tmp_path / "files", domain)
    files = LISTS.open(tmp_path / "files", domain)
    same(files, wanted)
    named(files, wanted)
    graded(f"domainnet/{domain}", files)
    tiny.domainnet(tmp_path / "zip", domain, zipped=True)
    assert ZIPPED.find(tmp_path / "zip", domain) and not LISTS.find(tmp_path / "zip", domain)
    packed = ZIPPED.open(tmp_path / "zip", domain)
    same(packed, wanted)
    assert [packed[part].digest() for part in packed] == [files[part].digest() for part in files]
    assert sorted(path.name for path in (tmp_path / "zip").iterdir()) == [
        f"{domain}.zip", f"{domain}_test.txt", f"{domain}_train.txt"
    ]  # fmt: skip


def test_domainnet_may_lie_deeper(tmp_path: Path) -> None:
    wanted = tiny.domainnet(tmp_path / "DomainNet", "real", zipped=True)
    for part in ("train", "test"):
        path = tmp_path / f"DomainNet/real_{part}.txt"
        path.parent.joinpath("splits").mkdir(exist_ok=True)
        path.rename(path.parent / "splits" / path.name)
    assert ZIPPED.find(tmp_path, "real")
    same(ZIPPED.open(tmp_path, "real"), wanted)


FORK = """
import os, sys
from pathlib import Path
from bench.data.readers.zips import Zip

archive, names = Zip(Path(sys.argv[1])), sys.argv[2:]

def pixels():
    return [archive.image(name).tobytes() for name in names for _ in range(20)]

before, parent = pixels(), archive._archive()
child = os.fork()  # here and not in the test: a fork of a process with threads may hang
same = pixels() == before and (archive._archive() is parent) == (child != 0)
if child == 0:
    os._exit(0 if same else 1)
assert same and os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
print("the same")
"""


def test_a_zip_is_read_by_threads_and_across_a_fork(tmp_path: Path) -> None:
    wanted = tiny.domainnet(tmp_path, "clipart", zipped=True)["train"]
    items = ZIPPED.open(tmp_path, "clipart")["train"]

    def right(i: int) -> bool:
        return bool(np.array_equal(np.asarray(items.read(i)), wanted[i].image))

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(right, list(range(len(items))) * 10))
    command = [sys.executable, "-c", FORK, str(tmp_path / "clipart.zip"), *items.names]
    said = subprocess.run(command, capture_output=True, text=True, timeout=LONG)
    assert (said.returncode, said.stdout) == (0, "the same\n"), said.stderr


def test_domainnet_folders_number_classes_over_both_splits(tmp_path: Path) -> None:
    wanted = tiny.domainnet_folder(tmp_path / "domainnet", "painting", {"train": (7,), "val": (0, 100)})
    assert FOLDER.find(tmp_path, "painting") and not FOLDER.find(tmp_path, "real")
    found = FOLDER.open(tmp_path, "painting")
    same(found, wanted)
    named(found, wanted)


def test_domainnet_folders_ask_other_domains_for_a_class_that_both_splits_lack(tmp_path: Path) -> None:
    lacking = {"train": (7,), "val": (7,)}
    wanted = tiny.domainnet_folder(tmp_path, "painting", lacking)
    refuses(FOLDER, tmp_path, "painting", "folders of 344 classes")
    tiny.domainnet_folder(tmp_path, "sketch", {"train": range(345)})
    (tmp_path / "painting/train/notes").mkdir()  # empty: not a class
    found = FOLDER.open(tmp_path, "painting")
    named(found, wanted)
    for part, examples in wanted.items():
        assert found[part].labels.tolist() == [example.label for example in examples]
    (tmp_path / "painting/train/notes/1.png").write_bytes(tiny.encoded(0)[0])
    refuses(FOLDER, tmp_path, "painting", "folders of 346 classes")


def test_domainnet_knows_the_class_train_from_the_split_train(tmp_path: Path) -> None:
    tiny.domainnet(tmp_path, "clipart", zipped=False)
    assert (tmp_path / "clipart/train").is_dir()
    assert LISTS.find(tmp_path, "clipart") and not FOLDER.find(tmp_path, "clipart")
    for part in ("train", "val"):
        (tmp_path / "mimi/clipart" / part).mkdir(parents=True)
    (tmp_path / "clipart_train.txt").rename(tmp_path / "mimi/clipart_train.txt")
    (tmp_path / "clipart_test.txt").rename(tmp_path / "mimi/clipart_test.txt")
    assert FOLDER.find(tmp_path / "mimi", "clipart") and not LISTS.find(tmp_path / "mimi", "clipart")


def test_an_empty_split_of_a_domainnet_folder_is_refused(tmp_path: Path) -> None:
    tiny.domainnet_folder(tmp_path, "real", {"val": range(345)})
    (tmp_path / "real/val").mkdir()
    refuses(FOLDER, tmp_path, "real", "val/ has no image")


@pytest.mark.parametrize("zipped", [False, True])
def test_every_fault_of_domainnet_lists_is_told(zipped: bool, tmp_path: Path) -> None:
    tiny.domainnet(tmp_path, "clipart", zipped)
    train, test = tmp_path / "clipart_train.txt", tmp_path / "clipart_test.txt"
    layout, first = (ZIPPED if zipped else LISTS), test.read_text().splitlines()[0]
    with train.open("a") as file:
        file.write(f"clipart/zigzag/nowhere.jpg 344\n../outside.jpg 344\n/tmp/x.jpg 344\n{first}\nno label here\n")
    change(test, "zigzag/clipart_test_003_000000.jpg 344", "zigzag/clipart_test_003_000000.jpg 345")
    change(train, "t-shirt/clipart_train_001_000000.jpg 300", "t-shirt/clipart_train_001_000000.jpg -1")
    refuses(
        layout, tmp_path, "clipart",
        r"clipart cannot be used|cannot be used as clipart",
        r"clipart_train.txt: \d images are not (there|in clipart.zip) \(.*nowhere.jpg",
        r"images are not in clipart.zip \(.*\.\./outside.jpg" if zipped else r"2 paths lead out of the folder",
        r"clipart_train.txt: 1 labels are not in 0 to 344 \(.*-1\)",
        r"clipart_test.txt: 1 labels are not in 0 to 344 \(.*345\)",
        r"clipart_train.txt: 1 lines are not a path, a space and a label \(no label here\)",
        r"1 images are listed more than once",
        r"2 class folders have several labels \(clipart/t-shirt, clipart/zigzag\)",
        r"labels stand for several class folders \(344\)",
    )  # fmt: skip
    test.write_text("\n")
    refuses(layout, tmp_path, "clipart", "clipart_test.txt is empty")
    test.write_bytes(b"\xff\xfe")
    refuses(layout, tmp_path, "clipart", "clipart_test.txt cannot be read")


def test_names_inside_a_zip_may_not_lead_out_of_it(tmp_path: Path) -> None:
    assert outside(["a/b", "a..b/c", "../a", "a/../../b", "/a", "\\a", "a\\..\\b", "C:/a"]) == [
        "../a", "/a", "C:/a", "\\a", "a/../../b", "a\\..\\b"
    ]  # fmt: skip
    tiny.domainnet(tmp_path, "clipart", zipped=True)
    tiny.pack(tmp_path / "clipart.zip", {"../evil.jpg": b""})
    refuses(ZIPPED, tmp_path, "clipart", r"1 names lead out of the archive \(../evil.jpg\)")


def test_a_broken_zip_and_a_broken_image_are_named(tmp_path: Path) -> None:
    tiny.domainnet(tmp_path, "clipart", zipped=True)
    tiny.pack(tmp_path / "clipart.zip", {"clipart/zigzag/bad.jpg": b"not an image"})
    with (tmp_path / "clipart_train.txt").open("a") as file:
        file.write("clipart/zigzag/bad.jpg 344\n")
    items = ZIPPED.open(tmp_path, "clipart")["train"]
    with pytest.raises(UsageError, match=r"clipart.zip, clipart/zigzag/bad.jpg: not a readable image"):
        items.read(len(items) - 1)
    content = bytearray((tmp_path / "clipart.zip").read_bytes())
    content[60:70] = b"\0" * 10  # inside the first image: its checksum is wrong now
    (tmp_path / "clipart.zip").write_bytes(content)
    with pytest.raises(UsageError, match="not a readable image"):
        ZIPPED.open(tmp_path, "clipart")["train"].read(0)
    (tmp_path / "clipart.zip").write_bytes(b"PK")
    refuses(ZIPPED, tmp_path, "clipart", "clipart.zip is not a readable zip")
    with pytest.raises(UsageError, match="clipart.zip is missing"):
        Zip(tmp_path / "nowhere/clipart.zip").names()


# torchvision


@pytest.fixture
def _any_checksum(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tiny files are not the published ones; torchvision would refuse them."""
    for name in ("cifar", "svhn"):
        monkeypatch.setattr(f"torchvision.datasets.{name}.check_integrity", lambda path, md5=None: Path(path).is_file())


@pytest.mark.usefixtures("_any_checksum")
@pytest.mark.parametrize("key", torchvision_sets.SETS)
def test_the_files_of_torchvision_give_the_official_splits(key: str, tmp_path: Path) -> None:
    assert key in tiny.MULTITASK + tiny.PEVIT7
    wanted = tiny.TORCHVISION[key](tmp_path)
    assert TORCHVISION.find(tmp_path, key)
    assert [other for other in torchvision_sets.SETS if TORCHVISION.find(tmp_path, other)] == [key]
    found = TORCHVISION.open(tmp_path, key)
    same(found, {part: wanted[part] for part in ("train", "test")})
    for suite, keys in (("multitask", tiny.MULTITASK), ("pevit7", tiny.PEVIT7)):
        if key in keys:
            graded(f"{suite}/{key}", found)


FER2013 = "0=Angry, 1=Disgust, 2=Fear, 3=Happy, 4=Sad, 5=Surprise, 6=Neutral"  # the contest's page


def test_classes_of_torchvisions_files_are_named_in_the_order_of_the_labels(tmp_path: Path) -> None:
    """Without the published checksums: a part of the files has the same names."""
    assert TORCHVISION.class_names and JPEG.class_names
    for key, wanted in {
        "cifar10": torchvision_sets.CIFAR10,
        "cifar100": tuple(f"class{i}" for i in range(100)),
        "flowers102": (),
        "svhn": (),
        "sun397": ("abbey", "apartment_building/outdoor", "zoo"),
        "dtd": ("banded", "cracked", "woven"),
        "stl10": ("airplane", "bird", "car", "cat", "deer", "dog", "horse", "monkey", "ship", "truck"),
        "fgvc_aircraft": ("707-320", "ATR-72", "Cessna Citation", "F/A-18"),
    }.items():
        tiny.TORCHVISION[key](tmp_path / key)
        assert TORCHVISION.class_names(tmp_path / key, key) == wanted, key
    tiny.fer2013(tmp_path)
    adjectives = TORCHVISION.class_names(tmp_path, "fer2013")
    for number, (noun, adjective) in enumerate(zip(FER2013.split(", "), adjectives, strict=True)):
        assert noun.startswith(f"{number}=") and adjective[:4] == noun.partition("=")[2].lower()[:4]
    tiny.cifar10_folder(tmp_path / "jpeg")
    assert JPEG.class_names(tmp_path / "jpeg", "cifar10") == torchvision_sets.CIFAR10


def test_a_label_with_two_names_and_a_meta_file_without_names_are_refused(tmp_path: Path) -> None:
    items = ImageList(np.array([0, 1, 1]), ("a/1.jpg", "b/2.jpg", "c/3.jpg"), lambda i: np.zeros((1, 1)))
    with pytest.raises(UsageError, match="Images of label 1 are called b and c"):
        torchvision_sets.names_in_paths({"train": items}, torchvision_sets.folder_of)
    for content, told in ((b"no pickle", "Unpickling"), (pickle.dumps({"fine_label_names": [1]}), "no list of texts")):
        (tmp_path / "meta").write_bytes(content)
        with pytest.raises(UsageError, match=f"does not name CIFAR-100's classes .*{told}"):
            pickles.class_names(tmp_path / "meta")


def test_pickles_with_another_checksum_are_not_opened(tmp_path: Path) -> None:
    tiny.cifar10(tmp_path)
    refuses(TORCHVISION, tmp_path, "cifar10", "does not have the published checksums")


@pytest.mark.parametrize("lists", ["Partitions", "..", "../Partitions"])
def test_sun397_lists_may_lie_where_people_unpack_them(lists: str, tmp_path: Path) -> None:
    wanted = tiny.sun397(tmp_path, lists)
    same(TORCHVISION.open(tmp_path, "sun397"), wanted)


def test_dtd_may_lie_one_folder_higher(tmp_path: Path) -> None:
    wanted = tiny.TORCHVISION["dtd"](tmp_path)
    (tmp_path / "dtd/dtd").rename(tmp_path / "moved")
    (tmp_path / "dtd").rmdir()
    (tmp_path / "moved").rename(tmp_path / "dtd")
    assert TORCHVISION.find(tmp_path, "dtd")
    same(TORCHVISION.open(tmp_path, "dtd"), wanted)


def test_both_tables_of_fer2013_give_the_same(tmp_path: Path) -> None:
    wanted = tiny.fer2013(tmp_path, spaced=True)
    assert TORCHVISION.find(tmp_path, "fer2013")
    same(TORCHVISION.open(tmp_path, "fer2013"), wanted)


def test_cifar10_as_an_image_folder(tmp_path: Path) -> None:
    wanted = tiny.cifar10_folder(tmp_path / "cifar10-jpeg")
    assert JPEG.find(tmp_path, "cifar10") and not JPEG.find(tmp_path, "cifar100")
    assert not TORCHVISION.find(tmp_path, "cifar10")
    found = JPEG.open(tmp_path, "cifar10")
    same(found, wanted)
    named(found, wanted)
    for path in (tmp_path / "cifar10-jpeg/test").rglob("*.jpg"):
        path.unlink()
    refuses(JPEG, tmp_path, "cifar10", "test has no image")


def _no_file(root: Path) -> None:
    (root / "SUN397/z/zoo/sun_Testing2.jpg").unlink()
    with (root / "SUN397/Training_01.txt").open("a") as file:
        file.write("/a/../../abbey/sun_x.jpg\n")


def _strange_variant(root: Path) -> None:
    home = root / "fgvc-aircraft-2013b/data"
    change(home / "images_variant_test.txt", "707-320", "Concorde")
    (home / "images/5000000.jpg").unlink()


def _cut(name: str) -> Callable[[Path], None]:
    return lambda root: (root / name).write_bytes((root / name).read_bytes()[:-1]) and None


def _many_aircraft(root: Path) -> None:
    home = root / "fgvc-aircraft-2013b/data"
    (home / "variants.txt").write_text("".join(f"other {i}\n" for i in range(99)) + (home / "variants.txt").read_text())


@pytest.mark.parametrize(
    ("key", "harm", "messages"),
    [
        ("sun397", _no_file, ("Testing_01.txt: 1 images are not there", "Training_01.txt: 1 paths lead out")),
        ("fgvc_aircraft", _strange_variant, ("1 variants are not in variants.txt", "train.txt: 1 images are not there")),
        ("fgvc_aircraft", _many_aircraft, ("train: . labels are not in 0 to 99", "test: . labels are not in 0 to 99")),
        ("stl10", _cut("stl10_binary/train_X.bin"), ("does not hold whole images",)),
        ("stl10", _cut("stl10_binary/test_y.bin"), ("5 images, but 4 labels belong to it",)),
        ("fer2013", lambda r: change(r / "fer2013/fer2013.csv", "emotion", "mood"), ("KeyError: 'emotion'",)),
        ("fer2013", lambda r: change(r / "fer2013/fer2013.csv", "0,", "0,7 "), ("2305 pixels, not 2304",)),
        ("fer2013", lambda r: change(r / "fer2013/fer2013.csv", "0,", "0,256 "), ("range",)),
        ("fer2013", lambda r: change(r / "fer2013/fer2013.csv", "\n0,", "\n9,"), ("1 labels are not in 0 to 6",)),
        ("fer2013", lambda r: (r / "fer2013/fer2013.csv").write_text("emotion,pixels,Usage\n"), ("train has no image",)),
    ],
)  # fmt: skip
def test_every_fault_of_torchvision_files_is_told(
    key: str, harm: Callable[[Path], object], messages: tuple[str, ...], tmp_path: Path
) -> None:
    tiny.TORCHVISION[key](tmp_path)
    harm(tmp_path)
    refuses(TORCHVISION, tmp_path, key, *messages)


def test_an_image_that_the_list_names_but_is_gone_is_named_when_read(tmp_path: Path) -> None:
    tiny.flowers102(tmp_path)
    (tmp_path / "flowers-102/jpg/image_00003.jpg").unlink()
    with pytest.raises(UsageError, match="image_00003.jpg is missing"):
        TORCHVISION.open(tmp_path, "flowers102")["train"].read(0)


# ELEVATER


@pytest.mark.parametrize("key", elevater.SETS)
def test_a_set_of_the_toolkit_is_read_from_its_zips(key: str, tmp_path: Path) -> None:
    wanted = tiny.elevater(tmp_path, key)
    assert TOOLKIT.find(tmp_path, key) and elevater.SETS[key].classes == tiny.ELEVATER[key].classes
    found = TOOLKIT.open(tmp_path, key)
    named(found, wanted)
    graded(f"elevater/{key}", found)
    kind = "class" if elevater.SETS[key].train[0].endswith(".json") else "name of class"
    assert TOOLKIT.class_names
    assert TOOLKIT.class_names(tmp_path, key) == tuple(f"{kind} {i}" for i in range(elevater.SETS[key].classes))
    if key == "voc2007":
        for part, examples in wanted.items():
            assert found[part].labels.dtype == np.uint8 and found[part].labels.shape == (21, 20)
            for row, example in zip(found[part].labels, examples, strict=True):
                assert set(np.flatnonzero(row)) == {example.label, example.label * 3 % 20} and row.max() == 1
            np.testing.assert_array_equal(np.asarray(found[part].read(4)), examples[4].image)
    else:
        same(found, wanted)


def test_all_twenty_sets_are_there() -> None:
    assert set(elevater.SETS) == set(tiny.ELEVATER) and len(elevater.SETS) == 20
    assert sum(plan.classes for plan in elevater.SETS.values()) == 1151


@pytest.mark.usefixtures("_any_checksum")
@pytest.mark.parametrize("key", elevater_originals.SETS)
def test_sets_of_elevater_are_read_from_their_authors_files(key: str, tmp_path: Path) -> None:
    if key == "patch_camelyon":
        pytest.importorskip("h5py")
    wanted = tiny.elevater_original(tmp_path, key)
    assert [other for other in elevater_originals.SETS if ORIGINALS.find(tmp_path, other)] == [key]
    found = ORIGINALS.open(tmp_path, key)
    same(found, wanted)
    assert elevater_originals.SETS[key].classes == elevater.SETS[key].classes
    names: dict[str, tuple[str, ...]] = {
        "oxford_pets": ("Abyssinian", "great_pyrenees"),
        "mnist": tuple("0123456789"),
        "food101": tuple(f"c{i:03d}" for i in range(101)),
        "rendered_sst2": ("c000", "c001"),
    }
    if key not in torchvision_sets.SETS or key == "flowers102":
        assert ORIGINALS.class_names and ORIGINALS.class_names(tmp_path, key) == names.get(key, ())


def test_every_set_of_elevater_is_read_from_its_authors_files_or_says_why_not() -> None:
    assert {*elevater_originals.SETS} | {*elevater_originals.OTHERS} == {*elevater.SETS}
    assert not {*elevater_originals.SETS} & {*elevater_originals.OTHERS}
    for card in configs.suite("elevater").datasets:
        key, plan = card.source.partition(":")[2], catalog.plan(card)
        assert plan is not None
        assert bool(plan.files) == (key in elevater_originals.SETS and key != "fer2013"), key
        assert elevater_originals.OTHERS.get(key, "") in (plan.manual or "")


def test_damaged_files_of_the_authors_are_told(tmp_path: Path) -> None:
    for key, name, told in (
        ("mnist", "MNIST/raw/t10k-labels-idx1-ubyte", "its header and its 9 bytes differ"),
        ("food101", "food-101/meta/test.json", "test.json is not as published"),
        ("gtsrb", "gtsrb/GT-final_test.csv", "KeyError: 'Filename'"),
    ):
        tiny.elevater_original(tmp_path, key)
        (tmp_path / name).write_bytes(b"[a ruin]\n1\n" if key == "gtsrb" else b"[a ruin]\n")
        refuses(ORIGINALS, tmp_path, key, told)


@pytest.mark.parametrize("base", ["", "classification", "elevater", "elevater/classification"])
def test_the_folder_of_the_toolkit_may_lie_deeper(base: str, tmp_path: Path) -> None:
    wanted = tiny.elevater(tmp_path / "built", "patch_camelyon")
    (tmp_path / "root" / base).mkdir(parents=True)
    tiny.ELEVATER["patch_camelyon"].home(tmp_path / "built").rename(
        tmp_path / "root" / base / "patch_camelyon_20211007"
    )
    assert TOOLKIT.find(tmp_path / "root", "patch_camelyon")
    same(TOOLKIT.open(tmp_path / "root", "patch_camelyon"), wanted)


def test_photographs_are_turned_upright(tmp_path: Path) -> None:
    tiny.elevater(tmp_path, "rendered_sst2")
    home = tiny.ELEVATER["rendered_sst2"].home(tmp_path)
    content, upright = tiny.turned()
    tiny.pack(home / "train.zip", {"on its side.png": content})
    with (home / "train.txt").open("a") as file:
        file.write("train.zip@on its side.png 1\n")
    items = TOOLKIT.open(tmp_path, "rendered_sst2")["train"]
    np.testing.assert_array_equal(np.asarray(items.read(len(items) - 1)), upright)


def test_an_image_of_voc_may_show_nothing(tmp_path: Path) -> None:
    tiny.elevater(tmp_path, "voc2007")
    home = tiny.ELEVATER["voc2007"].home(tmp_path)
    tiny.pack(home / "train.zip", {"empty.png": tiny.encoded(0)[0]})
    with (home / "train_ic.txt").open("a") as file:
        file.write("train.zip@empty.png\n")
    assert TOOLKIT.open(tmp_path, "voc2007")["train"].labels[-1].sum() == 0


def test_every_fault_of_an_index_is_told(tmp_path: Path) -> None:
    tiny.elevater(tmp_path, "mnist")
    home = tiny.ELEVATER["mnist"].home(tmp_path)
    with (home / "train.txt").open("a") as file:
        file.write(
            "train.zip@nowhere.png 0\nlost.zip@a.png 1\n../up.zip@a.png 1\ntrain.zip@class 0/two.png 1,2\n"
            "train.zip@no label.png\ntrain.zip@one label too many.png 1 2,x\ntrain.zip@big.png 10\n"
        )
    change(home / "test.txt", " 9\n", " 8\n")
    change(home / "test.txt", " 9\n", " 8\n")
    change(home / "labels.txt", "name of class 3\n", "\n")
    (home / "val.zip").write_bytes(b"PK")
    refuses(
        TOOLKIT, tmp_path, "mnist",
        r"train.txt: 2 lines are not a path, a space and labels \(train.zip@no label.png, .* 2,x\)",
        r"train.txt: 1 images have no label, or several \(train.zip@class 0/two.png\)",
        r"train.txt: 1 labels are not in 0 to 9 \(train.zip@big.png 10\)",
        r"test.txt: 1 classes have no image \(9\)",
        r"labels.txt names 9 classes, mnist has 10",
        r"1 archives lie out of the folder \(../up.zip\)",
        r"lost.zip is missing",
        r"val.zip is not a readable zip",
        r"train.zip: 3 images are not in it \(nowhere.png, class 0/two.png, big.png\)",
    )  # fmt: skip
    (home / "labels.txt").unlink()
    (home / "test.txt").write_text("")
    refuses(TOOLKIT, tmp_path, "mnist", "labels.txt is missing", "test.txt is empty")


def test_every_fault_of_a_coco_index_is_told(tmp_path: Path) -> None:
    tiny.elevater(tmp_path, "kitti_distance")
    home = tiny.ELEVATER["kitti_distance"].home(tmp_path)
    train, test = (json.loads((home / f"{part}_meta.json").read_text()) for part in ("train", "test"))
    train["annotations"] += [{"image_id": 99, "category_id": 1}, {"image_id": 1, "category_id": 99}]
    train["annotations"] += [{"image_id": 2, "category_id": 1}]
    train["images"][0]["file_name"] = "train_images.zip@nowhere.png"
    train["categories"].append({"id": 100, "name": "one more"})
    test["annotations"] = [note for note in test["annotations"] if note["category_id"] != 3]
    (home / "train_meta.json").write_text(json.dumps(train))
    (home / "test_meta.json").write_text(json.dumps(test))
    refuses(
        TOOLKIT, tmp_path, "kitti_distance",
        r"train_meta.json: 2 annotations are of an image or a category that is not there \(image 99, category 1, image 1,",
        r"train_meta.json: 1 images have no label, or several",
        r"train_meta.json has 5 categories, kitti_distance has 4",
        r"test_meta.json: 1 images have no label, or several",
        r"test_meta.json: 1 classes have no image \(1\)",
        r"name different classes",
        r"train_images.zip: 1 images are not in it \(nowhere.png\)",
    )  # fmt: skip
    for content, message in (
        ("[]", "not a COCO index"),
        ("{", "not a COCO index"),
        ('{"images": [], "annotations": [], "categories": []}', "lists no image"),
    ):
        (home / "test_meta.json").write_text(content)
        refuses(TOOLKIT, tmp_path, "kitti_distance", f"test_meta.json .*{message}|test_meta.json {message}")


@pytest.mark.parametrize("key", ["hateful_memes", "kitti_distance"])
def test_a_coco_index_may_name_another_archive(key: str, tmp_path: Path) -> None:
    wanted = tiny.elevater(tmp_path, key)
    home = tiny.ELEVATER[key].home(tmp_path)
    archive = tiny.ELEVATER[key].test_zip
    (home / archive).rename(home / "other.zip")
    change(home / "test_meta.json", archive, "other.zip")
    refuses(TOOLKIT, tmp_path, key, f"{archive} is missing")
    (home / "test_meta.json").write_text((home / "test_meta.json").read_text().replace(archive, "other.zip"))
    (home / "train_meta.json").write_text((home / "train_meta.json").read_text().replace(archive, "other.zip"))
    found = TOOLKIT.open(tmp_path, key)
    same(found, wanted)
    assert {name.partition("@")[0] for name in found["test"].names} == {"other.zip"}


def test_an_encrypted_image_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.elevater(tmp_path, "mnist")
    items = TOOLKIT.open(tmp_path, "mnist")["train"]

    def locked(*_: object) -> bytes:
        raise RuntimeError("File is encrypted, password required for extraction")

    monkeypatch.setattr(zipfile.ZipFile, "read", locked)
    with pytest.raises(UsageError, match=r"train.zip, train/class 0/0.png: not a readable image \(File is encrypted"):
        items.read(0)


# Few-shot samples. random.Random(0) shuffles ten positions to 7 8 1 5 3 4 2 0 9 6.


def several(*rows: str, classes: int = 3) -> np.ndarray:
    """several("01", "", ...): the classes of each image."""
    return np.array([[str(c) in row for c in range(classes)] for row in rows], dtype=np.uint8)


def test_a_sample_takes_k_of_each_class_in_shuffled_order() -> None:
    assert fewshot.sample(np.arange(10) % 2, 2, 0) == [7, 8, 1, 4]
    assert fewshot.sample(np.array([0] * 9 + [1]), 3, 0) == [7, 8, 1, 9]  # a class with fewer gives all
    assert fewshot.sample(np.arange(10) % 2, 9, 0) == [7, 8, 1, 5, 3, 4, 2, 0, 9, 6]
    assert fewshot.sample(np.arange(10) % 2, 2, 1) == [6, 8, 9, 7]  # the shuffle of seed 1 is 6 8 9 7 5 3 0 4 1 2
    assert fewshot.sample(np.zeros(0, np.int64), 5, 0) == []
    with pytest.raises(UsageError, match="0 images of each class"):
        fewshot.sample(np.arange(10) % 2, 0, 0)


def test_a_sample_of_images_with_several_classes() -> None:
    # 7, 8: 0 and 1 have two; 1 is passed over; 5: 2 has one; 3 shows nothing; 4: 2 has two, and all is done
    labels = several("", "01", "", "", "02", "02", "0", "01", "01", "2")
    assert fewshot.sample(labels, 2, 0) == [7, 8, 5, 3, 4]
    # 4 is refused: its rarest class has 2 > k / 2, its most frequent 5 > 1.5 k; 2 is taken: its only class has 2
    labels = several("2", "02", "1", "02", "01", "02", "2", "01", "01", "2")
    assert fewshot.sample(labels, 3, 0) == [7, 8, 1, 5, 3, 2]
    # at the bounds: 2 is taken, its rarest class has 3 < k, its most frequent 6 = 1.5 k; 0 is refused, that has 7 now
    labels = several("02", "01", "01", "02", "02", "02", "0", "01", "01", "2")
    assert fewshot.sample(labels, 4, 0) == [7, 8, 1, 5, 3, 4, 2, 9]
    # 3 and 2 are taken, their rarest class has 1 = k / 2, though the most frequent has 4 and 5 > 1.5 k
    labels = several("0", "03", "02", "01", "0", "04", "0", "01", "02", "0", classes=5)
    assert fewshot.sample(labels, 2, 0) == [7, 8, 1, 5, 3, 2]
    # never more than k that show nothing
    assert fewshot.sample(several(*[""] * 9, "0"), 2, 0) == [7, 8, 9]


def test_carving_takes_the_first_fifth_of_each_class() -> None:
    assert fewshot.holdout_split(np.array([0, 0, 1, 0, 0, 0, 0, 1])) == ([3, 4, 5, 6, 7], [0, 1, 2])
    assert fewshot.holdout_split(np.array([2, 2]), 0.5) == ([1], [0])
    # class 0 takes 0 and 1, which also shows 1: class 1 needs no other; class 2 takes its only one
    assert fewshot.holdout_split(several("0", "01", "1", "0", "01", "01", "02")) == ([2, 3, 4, 5], [0, 1, 6])
    assert fewshot.holdout_split(several("01", "1", "1", "1", "1", "1")) == (
        [2, 3, 4, 5],
        [0, 1],
    )  # 0 counts once for 1
    assert fewshot.holdout_split(several("", "", "0")) == ([0, 1], [2])
    with pytest.raises(UsageError, match="lies between 0 and 1"):
        fewshot.holdout_split(np.zeros(3, np.int64), 1.0)


def test_carving_twenty_and_fifty_shots() -> None:
    for k, held in ((5, 1), (20, 4), (50, 10)):
        train, val = fewshot.holdout_split(np.repeat(np.arange(7), k))
        assert len(train) == 7 * (k - held) and len(val) == 7 * held


def test_five_shots_are_four_and_one_and_are_put_down(tmp_path: Path) -> None:
    labels = np.arange(60) % 3
    shots = fewshot.draw(labels, 5, 0, "digest of the list")
    order = fewshot.sample(labels, 5, 0)
    assert sorted(shots.train + shots.val) == sorted(order)
    for label in range(3):
        of_class = [i for i in order if labels[i] == label]
        assert [i for i in shots.val if labels[i] == label] == of_class[:1]
        assert [i for i in shots.train if labels[i] == label] == of_class[1:]
    shots.save(tmp_path / "shots/seed0.json")
    assert fewshot.load(tmp_path / "shots/seed0.json") == shots
    stored = json.loads((tmp_path / "shots/seed0.json").read_text())
    assert stored["sha256"] == shots.sha256 and stored["train"] == list(shots.train)
    others = [fewshot.draw(labels, 5, 1, "digest of the list"), fewshot.draw(labels, 5, 0, "another list")]
    assert len({shots.sha256, *(other.sha256 for other in others)}) == 3
    change(tmp_path / "shots/seed0.json", f'"train": [{shots.train[0]}', '"train": [59')
    with pytest.raises(UsageError, match="It was changed"):
        fewshot.load(tmp_path / "shots/seed0.json")
    (tmp_path / "shots/seed0.json").write_text("{}")
    with pytest.raises(UsageError, match="not a list of few-shot images"):
        fewshot.load(tmp_path / "shots/seed0.json")


def test_what_is_drawn_never_changes() -> None:
    """From the labels of DTD: 47 classes of 40 images, in the order of its list."""
    digests = [fewshot.draw(np.repeat(np.arange(47), 40), 5, seed, "").sha256[:16] for seed in (0, 1, 2)]
    assert digests == GOLDEN


GOLDEN = ["471f0a3d7bf096ae", "e3d577541678916e", "39277ba0bc782695"]


# Hugging Face


class ClassLabel:
    def __init__(self, num_classes: int) -> None:
        self.num_classes, self.names = num_classes, [f"c{label}" for label in range(num_classes)]


class List:
    def __init__(self, feature: object) -> None:
        self.feature = feature


HubImage = type("Image", (), {})
Value = type("Value", (), {})


class Stored:
    """As much of a dataset of Hugging Face as is used."""

    def __init__(self, features: Mapping[str, object], columns: Mapping[str, list[object]]) -> None:
        self.features, self.columns = features, columns

    def __getitem__(self, which: int | str) -> object:
        if isinstance(which, str):
            return self.columns[which]
        return {name: column[which] for name, column in self.columns.items()}


def stored(labels: list[object], feature: object = None, column: str = "fine") -> Stored:
    images: list[object] = [Image.fromarray(tiny.noise(i, 5, 4, 3)) for i in range(len(labels))]
    kinds = {"img": HubImage(), column: feature or ClassLabel(3), "id": Value()}
    return Stored(kinds, {"img": images, column: labels, "id": list(range(len(labels)))})


@pytest.fixture
def hugging(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[object], Path]:
    """Makes datasets.load_from_disk give something."""

    def put(splits: object) -> Path:
        module = types.ModuleType("datasets")
        module.load_from_disk = lambda _: splits  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "datasets", module)
        (tmp_path / "pets").mkdir(exist_ok=True)
        (tmp_path / "pets/dataset_dict.json").write_text("{}")
        return tmp_path

    return put


def test_a_saved_dataset_gives_its_splits(hugging: Callable[[object], Path]) -> None:
    root = hugging({"train": stored([0, 2, 1]), "validation": stored([2]), "test": stored([1, 1]), "extra": None})
    assert HUB.find(root, "pets") and HUB.find(root / "pets", "") and not HUB.find(root, "cars")
    found = HUB.open(root, "pets")
    assert {part: items.labels.tolist() for part, items in found.items()} == {
        "train": [0, 2, 1], "val": [2], "test": [1, 1]
    }  # fmt: skip
    assert found["val"].names == ("validation[0]",) and found["train"].labels.dtype == np.int64
    np.testing.assert_array_equal(np.asarray(found["train"].read(2)), tiny.noise(2, 5, 4, 3))


def test_a_saved_dataset_may_have_several_labels_or_plain_ones(hugging: Callable[[object], Path]) -> None:
    rows: list[object] = [[0, 2], [], [1]]
    found = HUB.open(hugging({part: stored(rows, List(ClassLabel(4))) for part in ("train", "test")}), "pets")
    assert found["train"].labels.tolist() == [[1, 0, 1, 0], [0, 0, 0, 0], [0, 1, 0, 0]]
    plain = {part: stored([1, 0], Value(), "label") for part in ("train", "test")}
    assert HUB.open(hugging(plain), "pets")["test"].labels.tolist() == [1, 0]


def test_every_fault_of_a_saved_dataset_is_told(hugging: Callable[[object], Path]) -> None:
    refuses(HUB, hugging({}), "cars", "cars has no dataset_dict.json")
    refuses(HUB, hugging({"train": stored([0])}), "pets", "there is no split 'test', only train")
    secret = hugging({"train": stored([0], Value()), "test": stored([-1])})
    refuses(
        HUB, secret, "pets", r"train needs one column .* has img \(Image\), fine \(Value\)", "test has labels below 0"
    )
    hidden = {part: stored([[-9]], List(ClassLabel(3))) for part in ("train", "test")}
    refuses(HUB, hugging(hidden), "pets", "train has labels below 0", "test has labels below 0")
    broken = stored([0])
    broken.columns["img"][0] = None
    root = hugging({"train": broken, "test": stored([0])})
    with pytest.raises(UsageError, match=r"train\[0\] is not a readable image"):
        HUB.open(root, "pets")["train"].read(0)


@pytest.mark.parametrize("module", [None, types.ModuleType("datasets")], ids=["absent", "a folder of that name"])
def test_without_the_package_it_says_what_to_install(
    module: object, hugging: Callable[[object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = hugging({})
    monkeypatch.setitem(sys.modules, "datasets", module)
    refuses(HUB, root, "pets", "pip install datasets")


def test_a_dataset_that_cannot_be_loaded_is_named(
    hugging: Callable[[object], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    root = hugging({})

    def fail(_: object) -> None:
        raise ValueError("no schema")

    monkeypatch.setattr(sys.modules["datasets"], "load_from_disk", fail)
    refuses(HUB, root, "pets", r"pets cannot be loaded \(ValueError: no schema\)")


def pets(**labels: list[object]) -> dict[str, Stored]:
    return {name: stored(values) for name, values in labels.items()}


def test_a_saved_dataset_is_a_folder_of_images_that_is_divided_where_it_is_not(
    hugging: Callable[[object], Path],
) -> None:
    whole = hugging(pets(train=[0, 1, 2] * 4, validation=[0, 1, 2], test=[2, 1, 0])) / "pets"
    source = folder.divide(whole)
    assert source.classes == ("c0", "c1", "c2") and source.saved
    assert source.parts["val"] == (("validation[0]", 0), ("validation[1]", 1), ("validation[2]", 2))
    assert {part: len(items) for part, items in source.parts.items()} == {"train": 12, "val": 3, "test": 3}
    splits = ready.load(folder.card(source), Transform(4), default_data_root(), source)
    for i, (name, label) in enumerate(source.parts["train"]):
        row = int(name.removeprefix("train[").removesuffix("]"))
        assert (label, splits.train.labels[i]) == (row % 3, row % 3)
        picture = Image.fromarray(tiny.noise(row, 5, 4, 3)).resize((4, 4), Image.Resampling.BICUBIC)
        np.testing.assert_array_equal(splits.train.images[i : i + 1][0], np.asarray(picture))
    (whole / "data.arrow").write_bytes(b"other rows")
    assert folder.divide(whole).fingerprint != source.fingerprint


def test_a_saved_dataset_without_a_test_split_is_cut_by_class(hugging: Callable[[object], Path]) -> None:
    source = folder.divide(hugging(pets(train=[0, 1, 2] * 25)) / "pets")
    counts = {part: [sum(y == c for _, y in items) for c in (0, 1, 2)] for part, items in source.parts.items()}
    assert counts == {"train": [16] * 3, "val": [4] * 3, "test": [5] * 3}


def test_a_saved_dataset_that_is_no_folder_of_images_is_refused(hugging: Callable[[object], Path]) -> None:
    several = {name: stored([[0, 2]], List(ClassLabel(3))) for name in ("train", "test")}
    with pytest.raises(UsageError, match=r"train has several labels an image(?s:.)*test has several labels"):
        folder.divide(hugging(several) / "pets")
    with pytest.raises(UsageError, match="there is no split 'train', only test"):
        folder.divide(hugging(pets(test=[0])) / "pets")


def test_a_card_may_name_a_saved_dataset(hugging: Callable[[object], Path]) -> None:
    root = hugging(pets(train=[0, 1, 2], test=[2, 1]))
    card = Dataset("Pets", 3, "top1", "hub:pets", Sizes(3, 0, 2), "", "", "", name="mine/pets")
    assert sources.is_local(card) and sources.find(card, default_data_root()) is None
    sources.add("mine", root, default_data_root())
    found = sources.find(card, default_data_root())
    assert found is not None and found.layout is HUB
    full = ready.card_of(card, found, Transform(4), default_data_root())
    assert len(full.fingerprint) == 64 and len(ready.load(full, Transform(4), default_data_root(), found).train) == 3


class Hub(types.ModuleType):
    """As much of the package as `fetch` uses; what is asked for is on the Hub, unless it is called "gone"."""

    def __init__(self) -> None:
        super().__init__("datasets")
        self.asked: list[tuple[str, str | None]] = []

    def load_from_disk(self, _: str) -> object:
        return pets(train=[0, 1, 2] * 5)

    def load_dataset(self, name: str, config: str | None) -> Hub:
        self.asked.append((name, config))
        if name == "gone":
            raise ConnectionError("no such\n  dataset")
        return self

    def save_to_disk(self, place: str) -> None:
        Path(place).mkdir()
        (Path(place) / "part").write_text("rows")
        if self.asked[-1][0] == "large":
            raise OSError(errno.ENOSPC, "No space left on device")
        (Path(place) / "dataset_dict.json").write_text("{}")


def test_a_dataset_is_fetched_from_the_hub_once_and_used_as_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    module = Hub()
    monkeypatch.setitem(sys.modules, "datasets", module)
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    for _ in range(2):
        assert main(["data", "fetch", "hub:me/pets:small"]) == 0
    home = tmp_path / "raw/hub/me--pets--small"
    assert module.asked == [("me/pets", "small")] and f"bench run --data {home}" in capsys.readouterr().out
    assert sorted(path.name for path in home.parent.iterdir()) == [home.name]
    assert folder.divide(home).classes == ("c0", "c1", "c2")


@pytest.mark.parametrize(("name", "told"), [("gone", "no such dataset"), ("large", "No space left on device")])
def test_what_the_hub_does_not_give_is_one_line_and_leaves_nothing(
    name: str, told: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", Hub())
    monkeypatch.setenv("BENCH_DATA", str(tmp_path))
    assert main(["data", "fetch", f"hub:{name}"]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1 and f"hub:{name} cannot be fetched" in said and told in said
    assert list((tmp_path / "raw/hub").iterdir()) == []


@pytest.mark.filterwarnings("ignore")  # the package's own are not ours to mend
def test_the_package_itself_reads_what_it_saved(tmp_path: Path) -> None:
    pytest.importorskip("datasets.load", reason="datasets is not installed: pip install datasets")
    datasets = importlib.import_module("datasets")
    features = datasets.Features(image=datasets.Image(), label=datasets.ClassLabel(names=["a", "b"]))
    images = [Image.fromarray(tiny.noise(i, 5, 4, 3)) for i in range(6)]
    part = datasets.Dataset.from_dict({"image": images, "label": [0, 1, 1, 0, 0, 1]}, features=features)
    datasets.DatasetDict({"train": part, "test": part}).save_to_disk(str(tmp_path / "tiny"))
    found = HUB.open(tmp_path, "tiny")
    assert found["train"].labels.tolist() == [0, 1, 1, 0, 0, 1]
    np.testing.assert_array_equal(np.asarray(found["test"].read(2)), tiny.noise(2, 5, 4, 3))
    source = folder.divide(tmp_path / "tiny")
    assert source.classes == ("a", "b") and source.parts["test"][:3] == (("test[0]", 0), ("test[1]", 1), ("test[2]", 1))
    np.testing.assert_array_equal(np.asarray(source.open("test[1]")), tiny.noise(1, 5, 4, 3))
    for i in range(6):
        (tmp_path / "pictures" / "ab"[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(tiny.noise(i, 5, 4, 3)).save(tmp_path / "pictures" / "ab"[i % 2] / f"{i}.png")
    fetched = folder.divide(hub.fetch(str(tmp_path / "pictures"), tmp_path / "home"))
    assert fetched.classes == ("a", "b") and sum(map(len, fetched.parts.values())) == 6
