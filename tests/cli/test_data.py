"""bench data, and bench run over data that is here, there or nowhere: through the command line, on tiny data sets."""

from __future__ import annotations

import functools
import hashlib
import http.server
import json
import tarfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from helpers import tiny_sources
from helpers import tiny_vtab as tiny
from helpers.records import make
from helpers.waiting import LONG

from bench.cli.main import main
from bench.core import configs
from bench.core.configs import Dataset, Sizes
from bench.core.errors import UsageError
from bench.data import fewshot, ready, sources
from bench.data.download import archives, catalog
from bench.data.download.catalog import File, Plan
from bench.data.items import ImageList, Layout
from bench.data.prepare import Transform
from bench.data.progress import silent
from bench.data.readers import domainnet, elevater, torchvision_sets, vtab
from bench.data.root import default_data_root
from bench.data.sources import DatasetLocation
from bench.execution import datasets
from bench.execution.request import make_request
from bench.models import texts
from bench.report import write_all
from bench.report.aggregate import leaderboard
from bench.report.frame import frame

CLASSES = {"caltech101": 102, "dtd": 47, "kitti": 4, "svhn": 10}
SIZES = Sizes(8, 4, 102)  # of a tiny caltech101
LAYOUT = "vtab1k-folder"


@dataclass(frozen=True)
class Said:
    code: int
    out: str
    err: str

    def rows(self, name: str) -> list[str]:
        """The lines about a dataset."""
        return [line for line in self.out.splitlines() if line.startswith(name)]


Bench = Callable[..., Said]


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, _own_cache: None) -> Path:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "root"))
    return tmp_path / "root"


@pytest.fixture
def bench(capsys: pytest.CaptureFixture[str]) -> Bench:
    def run(*args: object) -> Said:
        capsys.readouterr()
        code = main([str(arg) for arg in args])
        return Said(code, *capsys.readouterr())

    return run


def community(folder: Path, *names: str) -> Path:
    """vtab-1k/<name> for each name, below `folder`."""
    for name in names or ("caltech101",):
        tiny.community(folder / "vtab-1k" / name, CLASSES[name])
    return folder


def tarred(folder: Path, archive: Path) -> Path:
    archive.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(archive, "w:gz") as file:
        for path in sorted(folder.iterdir()):
            file.add(path, path.name)
    return archive


# list, status, add


def test_the_list_names_every_dataset_of_every_suite(bench: Bench) -> None:
    said = bench("data", "list")
    assert said.code == 0
    for suite in configs.suite_names():
        for card in configs.suite(suite).datasets:
            (row,) = said.rows(f"{card.name} ")
            assert card.license in row and f"{card.sizes.train}/{card.sizes.val}/{card.sizes.test}" in row


def test_what_is_missing_stands_with_its_remedy(bench: Bench, root: Path) -> None:
    said = bench("data", "status", "vtab")
    rows = said.rows("vtab/")
    assert said.code == 1 and len(rows) == 19
    for row in rows:
        name, state, remedy = row.split(maxsplit=2)
        assert state == "missing"
        assert f"'bench data fetch {name}'" in remedy or ("by hand: " in remedy and "'bench data add vtab" in remedy)
    assert str(root) in said.out and not root.exists()
    assert bench("data", "status", "pocket").code == 0


def test_a_folder_is_recognised_and_stays_known(bench: Bench, tmp_path: Path) -> None:
    community(tmp_path / "mine")
    said = bench("data", "add", "vtab", tmp_path / "mine")
    assert said.code == 0 and "1 of 19 datasets" in said.out and len(said.rows("vtab/caltech101")) == 1
    (row,) = bench("data", "status", "vtab").rows("vtab/caltech101")
    assert row.split()[1] == "here" and str(tmp_path / "mine") in row and "compressed again" in row
    assert bench("data", "status", "vtab/caltech101").code == 0
    assert "is here" in bench("data", "fetch", "vtab/caltech101").out


def test_a_folder_named_last_is_looked_into_first(bench: Bench, tmp_path: Path) -> None:
    for name in ("old", "new"):
        bench("data", "add", "vtab", community(tmp_path / name))
    assert str(tmp_path / "new") in bench("data", "status", "vtab/caltech101").out
    bench("data", "add", "vtab", tmp_path / "old", "--sample")
    (row,) = bench("data", "status", "vtab/caltech101").rows("vtab/caltech101")
    assert row.split()[1] == "sample" and str(tmp_path / "old") in row


def test_what_cannot_be_used_as_a_sample_is_told(bench: Bench, tmp_path: Path, root: Path) -> None:
    tiny.BUILD["oxford_iiit_pet"](tmp_path / "mine")
    tiny.BUILD["cifar"](tmp_path / "mine")
    assert bench("data", "add", "vtab", tmp_path / "mine", "--sample").code == 0
    found = sources.find(configs.dataset("vtab/oxford_iiit_pet"), default_data_root())
    assert found is not None and found.sample and len(found.open()["test"]) > 0
    (tmp_path / "mine/cifar-100-python/test").write_bytes(b"no batch")
    said = bench("data", "add", "vtab", tmp_path / "mine", "--sample")
    assert said.code == 1 and "vtab/cifar  cannot be used: " in said.out and "1 of 19 datasets" in said.out
    for path in (tmp_path / "mine/oxford-iiit-pet/images").iterdir():
        path.unlink()
    (root / "sources.json").unlink()
    said = bench("data", "add", "vtab", tmp_path / "mine", "--sample")
    assert said.code == 2 and "None of it can be used as a sample" in said.err and not (root / "sources.json").exists()


def test_an_unrelated_folder_is_refused_in_one_line(bench: Bench, tmp_path: Path, root: Path) -> None:
    (tmp_path / "photos/2019").mkdir(parents=True)
    for path in (tmp_path / "photos", tmp_path / "nowhere"):
        said = bench("data", "add", "vtab", path)
        assert said.code == 2 and said.err.count("\n") == 1 and str(path) in said.err
    said = bench("data", "add", "pocket", tmp_path / "photos")
    assert said.code == 2 and "needs no data" in said.err
    assert not root.exists()


def test_an_archive_is_unpacked_and_added(bench: Bench, tmp_path: Path, root: Path) -> None:
    archive = tarred(community(tmp_path / "mine"), tmp_path / "vtab.tar.gz")
    assert bench("data", "add", "vtab", archive).code == 0
    found = sources.find(configs.dataset("vtab/caltech101"), default_data_root())
    assert found is not None and found.path == root / "raw/vtab-vtab" and found.layout.name == LAYOUT
    assert len(found.open()["test"]) == 102


def test_an_archive_of_something_else_leaves_nothing(bench: Bench, tmp_path: Path, root: Path) -> None:
    tiny.write(tmp_path / "mine/photos/a.txt", ["a"])
    said = bench("data", "add", "vtab", tarred(tmp_path / "mine", tmp_path / "photos.tar.gz"))
    assert said.code == 2 and said.err.count("\n") == 1 and list((root / "raw").iterdir()) == []
    (tmp_path / "notes.txt").write_text("no archive")
    said = bench("data", "add", "vtab", tmp_path / "notes.txt")
    assert said.code == 2 and said.err.count("\n") == 1 and list((root / "raw").iterdir()) == []


# run


def test_a_run_without_data_names_every_dataset_on_one_screen_and_writes_nothing(
    bench: Bench, tmp_path: Path, root: Path
) -> None:
    said = bench("run", "--method", "mimi", "--suite", "vtab", "--out", tmp_path / "out")
    assert said.code == 2 and said.out == ""
    for card in configs.suite("vtab").datasets:
        assert f"  {card.name} " in said.err
    assert "19 of 19 datasets" in said.err and "--skip-missing" not in said.err
    assert said.err.count("\n") <= 24
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_is_left_out_when_asked(bench: Bench, tmp_path: Path, root: Path) -> None:
    bench("data", "add", "vtab", community(tmp_path / "mine"), "--sample")
    asked = ("run", "--method", "mimi", "--suite", "vtab", "--seeds", "0", "--out", tmp_path / "out")
    said = bench(*asked)
    assert said.code == 2 and "18 of 19 datasets" in said.err and "--skip-missing runs what is here" in said.err
    said = bench(*asked, "--dry-run")  # a plan needs no data
    assert said.code == 0 and said.out.startswith("19 runs: 19 to do")
    assert "18 of 19 datasets are not on this machine and are planned from what their cards say: vtab/cifar" in said.err
    said = bench(*asked, "--dry-run", "--skip-missing")
    assert said.code == 0 and "1 run: 1 to do" in said.out and "vtab-sample/caltech101" in said.out
    assert "18 of 19 datasets are not on this machine and are left out: vtab/cifar, vtab/dtd" in said.err
    assert not (tmp_path / "out").exists() and not (root / "prepared").exists()


def test_datasets_of_several_suites_are_told_with_the_folders_of_each(bench: Bench, tmp_path: Path) -> None:
    said = bench("run", "--method", "mimi", "--dataset", "vtab/dtd,domainnet/real", "--out", tmp_path / "out")
    assert said.code == 2
    assert "'bench data add vtab PATH'" in said.err and "'bench data add domainnet PATH'" in said.err


# prepare, prune


def test_prepared_arrays_are_kept_and_pruned(bench: Bench, tmp_path: Path, root: Path) -> None:
    bench("data", "add", "vtab", community(tmp_path / "mine", "caltech101", "kitti"), "--sample")
    said = bench("data", "prepare", "vtab", "--size", "8")
    assert said.code == 1 and "2 prepared" in said.out and "17 missing" in said.out
    assert len(said.rows("vtab-sample/caltech101  fingerprint ")) == len(said.rows("vtab-sample/kitti  finger")) == 1
    before = {path: path.stat().st_mtime_ns for path in (root / "prepared").rglob("*.images.npy")}
    assert len(before) == 6
    assert bench("data", "prepare", "vtab/kitti", "--size", "8").code == 0
    assert bench("data", "prepare", "vtab/kitti", "--size", "8", "--resize", "crop").code == 0
    (row,) = bench("data", "status", "vtab").rows("vtab/kitti")
    assert "sample, prepared x2" in row
    assert (
        before.items() <= {path: path.stat().st_mtime_ns for path in (root / "prepared").rglob("*.images.npy")}.items()
    )
    assert "0 prepared datasets removed" in bench("data", "prune", "--keep", "1GB").out
    assert "3 prepared datasets removed" in bench("data", "prune").out
    assert list((root / "prepared").iterdir()) == []


def test_what_cannot_be_prepared_is_told(bench: Bench, tmp_path: Path, root: Path) -> None:
    said = bench("data", "prepare", "vtab/kitti")
    assert said.code == 2 and "1 of 1 datasets are not on this machine" in said.err
    assert "8 generated when needed" in bench("data", "prepare", "pocket").out
    home = community(tmp_path / "mine", "caltech101", "kitti")
    bench("data", "add", "vtab", home, "--sample")
    (home / "vtab-1k/caltech101/images/test/000003.jpg").write_bytes(b"\xff\xd8")
    said = bench("data", "prepare", "vtab", "--size", "8")  # the other one is prepared all the same
    assert said.code == 2 and "images/test/000003.jpg is not a readable image" in said.err
    assert "1 refused, 1 prepared" in said.out
    assert [path.name.split("-")[1] for path in (root / "prepared").iterdir()] == ["kitti"]


def test_one_bad_dataset_does_not_keep_the_others_away(tmp_path: Path, root: Path) -> None:
    home = community(tmp_path / "mine", "caltech101", "kitti", "dtd", "svhn")
    sources.add("vtab", home, default_data_root(), sample=True)
    (home / "vtab-1k/caltech101/images/test/000003.jpg").write_bytes(b"\xff\xd8")
    (home / "vtab-1k/kitti/images/train800/000002.jpg").unlink()
    lists = home / "vtab-1k/dtd/test.txt"
    lists.write_text(lists.read_text().replace("000003.jpg 3\n", "000003.jpg 47\n"))
    names = (*(f"vtab/{name}" for name in CLASSES), "pocket/digits")
    request = make_request(methods=("lora",), datasets=names)
    protocol, ask = replace(configs.protocol("vtab1k@v1"), image_size=8), (["pocket_vit"], default_data_root())
    found = datasets.locate(request, None, protocol, *ask, lambda _: None, lambda _: silent, prepare=True)
    good, refused = found.ready, found.refused
    assert [card.name for card, _ in good] == ["vtab-sample/svhn", "pocket/digits"]
    assert good[0][0].fingerprint and good[0][1] == sources.find(configs.dataset("vtab/svhn"), default_data_root())
    for name, words in {
        "caltech101": "000003.jpg is not a readable",
        "dtd": "000003.jpg 47",
        "kitti": "000002.jpg",
    }.items():
        (told,) = (text for text in refused if text.startswith(f"vtab/{name}: "))
        assert words in told
    assert len(refused) == 3 and len(list((root / "prepared").iterdir())) == 1


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (np.array([0, 4]), r"vtab/kitti: train: 1 labels are not in 0 to 3 \(b 4\)"),
        (np.array([-1, 0]), r"vtab/kitti: train: 1 labels are not in 0 to 3 \(a -1\)"),
        (np.zeros((2, 3), np.uint8), r"vtab/kitti: train: 3 classes are marked, the card has 4"),
    ],
)
def test_labels_of_no_class_are_refused_before_anything_is_decoded(
    labels: np.ndarray, words: str, tmp_path: Path, root: Path
) -> None:
    items = ImageList(labels, ("a", "b"), lambda i: pytest.fail("decoded"))
    layout = Layout("made", "made here", lambda *_: True, lambda *_: {"train": items})
    card = replace(configs.dataset("vtab/kitti"), sizes=Sizes(2, 0, 0))
    with pytest.raises(UsageError, match=words):
        ready.card_of(card, DatasetLocation(tmp_path, layout, "kitti"), Transform(8), default_data_root())
    assert not (root / "prepared").exists()


@pytest.mark.parametrize(
    ("command", "option", "value"),
    [
        ("prepare", "--size", "0"),
        ("prepare", "--size", "big"),
        ("prune", "--keep", "inf"),
        ("prune", "--keep", "few"),
        ("prune", "--keep", "-1"),
    ],
)
def test_a_number_that_is_none_is_refused(
    command: str, option: str, value: str, capsys: pytest.CaptureFixture[str]
) -> None:
    what = ["vtab"] if command == "prepare" else []
    with pytest.raises(SystemExit, match="2"):
        main(["data", command, *what, option, value])
    assert f"{value!r} is not" in capsys.readouterr().err


def test_other_sizes_than_the_cards_are_refused_before_anything_is_decoded(
    bench: Bench, tmp_path: Path, root: Path
) -> None:
    home = community(tmp_path / "mine")
    bench("data", "add", "vtab", home)
    for path in home.rglob("*.jpg"):
        path.write_bytes(b"not decoded")
    said = bench("data", "prepare", "vtab/caltech101")
    assert said.code == 2 and "8 train images were found, the card says 800" in said.err and "--sample" in said.err
    assert not (root / "prepared").exists()


# shots


def test_what_a_few_shot_run_draws_is_put_down(bench: Bench, tmp_path: Path) -> None:
    tiny_sources.elevater(tmp_path / "mine", "dtd")
    sources.add("elevater", tmp_path / "mine", default_data_root(), sample=True)
    asked = ("data", "shots", "elevater", "--shots", "1", "--seeds", "0,1", "--out", tmp_path / "shots")
    said = bench(*asked)
    files = [tmp_path / f"shots/elevater-sample-dtd-1shot-seed{seed}.json" for seed in (0, 1)]
    told = [line.split()[0] for line in said.out.splitlines() if "  missing: " not in line]
    assert told == list(map(str, files))
    missing = {card.name for card in configs.suite("elevater").datasets} - {"elevater/dtd"}
    assert said.code == 1 and {line.split()[0] for line in said.out.splitlines() if "  missing: " in line} == missing
    card = configs.dataset("elevater/dtd")
    found = sources.find(card, default_data_root())
    assert found is not None
    train = found.open()["train"]
    for seed, path in enumerate(files):
        drawn, data = fewshot.load(path), json.loads(path.read_text())
        run = fewshot.sample(train.labels, 1, seed)  # what the run of this seed takes
        assert sorted((*drawn.train, *drawn.val)) == sorted(run)
        assert data["images_sha256"] == fewshot.digest(run) and fewshot.digest(run)[:16] in said.out
        assert data["names"]["val"] == [train.names[i] for i in drawn.val]
    first = [path.read_bytes() for path in files]
    assert bench("data", "shots", "elevater/dtd", *asked[3:]).code == 0
    assert [path.read_bytes() for path in files] == first != first[::-1]
    for what, told in (("vtab/dtd", "1 of 1 datasets are not on this machine"), ("pocket", "no images on disk")):
        said = bench("data", "shots", what)
        assert said.code == 2 and told in said.err


# Versions of the data


def prepared(folder: Path, card: Dataset) -> Dataset:
    (layout,) = (layout for layout in sources.layouts("vtab") if layout.name == LAYOUT)
    return ready.card_of(card, DatasetLocation(folder, layout, "caltech101"), Transform(8), default_data_root())


def test_two_versions_of_the_images_never_share_a_column(tmp_path: Path) -> None:
    card = replace(configs.dataset("vtab/caltech101"), sizes=SIZES)
    first, second, same = (community(tmp_path / name) for name in ("first", "second", "same"))
    tiny.paint(second / "vtab-1k/caltech101/images/test/000007.jpg", 99)  # same lists, another picture
    found = [prepared(folder, card).fingerprint for folder in (first, second, same)]
    assert found[0] == found[2] != found[1]

    def records(*fingerprints: str) -> list[Any]:
        return [
            make("lora", "caltech101", seed, 0.5, suite="vtab", fingerprint=fingerprint)
            for seed, fingerprint in enumerate(fingerprints)
        ]

    groups = {"natural": ("caltech101",)}
    assert len(leaderboard(frame(records(found[0], found[2])), groups, "mean_datasets")) == 1
    with pytest.raises(UsageError, match="vtab/caltech101 has 2 fingerprints among the records"):
        leaderboard(frame(records(*found[:2])), groups, "mean_datasets")
    warnings: list[str] = []
    assert write_all(tmp_path / "out", records(*found[:2]), warnings.append) == []
    assert len(warnings) == 1 and "these are different data" in warnings[0]


def test_another_version_in_the_same_place_is_seen(bench: Bench, tmp_path: Path) -> None:
    card = replace(configs.dataset("vtab/caltech101"), sizes=SIZES)
    home = community(tmp_path / "mine")
    old = prepared(home, card)
    for seed, path in enumerate(sorted(home.rglob("*.jpg"))):
        tiny.paint(path, 500 + seed)
    new = prepared(home, card)
    assert new.fingerprint != old.fingerprint
    with pytest.raises(UsageError, match=f"the fingerprint {new.fingerprint[:16]}, not {old.fingerprint[:16]}"):
        prepared(home, old)


def test_a_picture_that_was_replaced_is_seen_by_verify(bench: Bench, tmp_path: Path) -> None:
    home = community(tmp_path / "mine")
    bench("data", "add", "vtab", home, "--sample")
    bench("data", "prepare", "vtab/caltech101", "--size", "8")
    assert bench("data", "verify", "vtab/caltech101").code == 0
    tiny.paint(home / "vtab-1k/caltech101/images/test/000007.jpg", 99)
    said = bench("data", "verify", "vtab/caltech101")
    assert said.code == 1 and "FAULT" in said.out and "prepared from other images than are here now" in said.out


def test_arrays_that_are_ready_are_read_without_listing_the_images_again(tmp_path: Path) -> None:
    home = community(tmp_path / "mine")
    card = prepared(home, replace(configs.dataset("vtab/caltech101"), sizes=SIZES))
    for path in home.rglob("*.txt"):
        path.unlink()
    splits = ready.load(card, Transform(8), default_data_root())
    assert splits.fingerprint == card.fingerprint and splits.train.images.shape == (8, 8, 8, 3)
    with pytest.raises(sources.Missing):
        ready.load(card, Transform(16), default_data_root())


def test_load_refuses_images_of_another_fingerprint_than_the_card_has(tmp_path: Path) -> None:
    card = replace(configs.dataset("vtab/caltech101"), sizes=SIZES, fingerprint="0" * 64)
    sources.add("vtab", community(tmp_path / "mine"), default_data_root())
    with pytest.raises(UsageError, match="another version of the data"):
        ready.load(card, Transform(8), default_data_root())


# verify


def test_verify_names_every_fault_and_goes_on(bench: Bench, tmp_path: Path) -> None:
    home = community(tmp_path / "mine", *CLASSES)
    cut, gone = home / "vtab-1k/caltech101/images/test/000005.jpg", home / "vtab-1k/kitti/images/train800/000002.jpg"
    cut.write_bytes(cut.read_bytes()[:-200])
    (cut.parent / "000007.jpg").write_bytes(b"")
    gone.unlink()
    lists = home / "vtab-1k/dtd/test.txt"
    lists.write_text(lists.read_text().replace("000003.jpg 3\n", "000003.jpg 47\n"))
    bench("data", "add", "vtab", home, "--sample")
    said = bench("data", "verify", "vtab")
    assert said.code == 1
    faults = [line for line in said.out.splitlines() if line.startswith("  FAULT")]
    told = [
        (f"{cut} is not a readable", f"{cut.parent}/000007.jpg is not"),
        ("images/train800/000002.jpg",),
        ("000003.jpg 47",),
    ]
    for parts in told:
        for part in parts:
            assert sum(part in fault for fault in faults) == 1, part
    assert "114 images, no fingerprint" in said.rows("vtab/caltech101")[0]
    (row,) = said.rows("vtab/svhn")
    assert "22 images, fingerprint " in row and len(said.rows("vtab/")) == 19
    fingerprint = row.split("fingerprint ")[1].split(",")[0]
    assert fingerprint in bench("data", "prepare", "vtab/svhn", "--size", "8").out


def test_verify_holds_the_whole_against_its_card(bench: Bench, tmp_path: Path) -> None:
    bench("data", "add", "vtab", community(tmp_path / "mine"))
    said = bench("data", "verify", "vtab/caltech101")
    assert said.code == 1 and "FAULT train: 8 images, the card says 800" in said.out
    assert bench("data", "verify", "vtab/dtd").code == 1  # nothing was verified
    assert bench("data", "verify", "pocket").code == 0


# fetch


@dataclass
class Site:
    """A server of a folder on this machine."""

    url: str
    folder: Path
    asked: list[str] = field(default_factory=list)

    def file(
        self, name: str, path: str, *, unpack: bool, sha256: str | None = None, inside: tuple[str, ...] = ()
    ) -> File:
        content = (self.folder / name).read_bytes()
        sha256 = sha256 or hashlib.sha256(content).hexdigest()
        return File((f"{self.url}/{name}",), path, unpack, len(content), sha256, inside=inside)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "www"
    folder.mkdir()
    asked: list[str] = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *args: object) -> None:
            asked.append(self.path)

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    yield Site(f"http://127.0.0.1:{server.server_address[1]}", folder, asked)
    server.shutdown()
    server.server_close()
    thread.join(LONG)


DTD = "dtd/dtd-r1.0.1.tar.gz"


@pytest.fixture
def textures(site: Site, tmp_path: Path) -> Path:
    """The archive of a tiny DTD, on the server."""
    tiny.dtd(tmp_path / "original")
    return tarred(tmp_path / "original/dtd", site.folder / "dtd.tar.gz")


def offer(monkeypatch: pytest.MonkeyPatch, **plans: Plan) -> None:
    monkeypatch.setattr(catalog, "plans", lambda: plans)


@pytest.mark.usefixtures("textures")
def test_what_is_fetched_is_verified_unpacked_and_found(
    bench: Bench, site: Site, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    offer(monkeypatch, dtd=Plan("DTD", "http://x", "", (site.file("dtd.tar.gz", DTD, unpack=True),)))
    (row,) = bench("data", "status", "vtab/dtd").rows("vtab/dtd")
    assert "'bench data fetch vtab/dtd'" in row
    said = bench("data", "fetch", "vtab/dtd")
    assert said.code == 0 and "verified by sha256" in said.out and "vtab-originals" in said.out
    found = sources.find(configs.dataset("vtab/dtd"), default_data_root())
    assert found is not None and found.path == root / "raw" and found.layout.name == "vtab-originals"
    assert (
        sources.find(configs.dataset("pevit7/dtd"), default_data_root()) is not None
    )  # what one suite has fetched serves the other
    assert "is here" in bench("data", "fetch", "vtab/dtd").out and site.asked == ["/dtd.tar.gz"]


@pytest.mark.usefixtures("textures")
def test_a_wrong_checksum_is_one_line_and_keeps_no_other_dataset_away(
    bench: Bench, site: Site, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = Plan("DTD", "", "", (site.file("dtd.tar.gz", DTD, unpack=True, sha256="0" * 64),))
    (site.folder / "sprites.npz").write_bytes(b"sprites")
    name = "dsprites_ndarray_co1sh3sc6or40x32y32_64x64.npz"
    good = Plan("dSprites", "", "", (site.file("sprites.npz", f"dsprites/{name}", unpack=False),))
    offer(monkeypatch, dtd=bad, dsprites=good)
    said = bench("data", "fetch", "vtab/dtd")
    assert said.code == 2 and said.err.count("\n") == 1
    seen = hashlib.sha256((site.folder / "dtd.tar.gz").read_bytes()).hexdigest()
    assert "vtab/dtd" in said.err and f"its sha256 is {seen}, not {'0' * 64}" in said.err
    assert not [path for path in (root / "raw/dtd").iterdir() if path.suffix in (".gz", ".part")]
    said = bench("data", "fetch", "vtab")
    assert said.code == 2 and "vtab/dsprites_loc  " in said.out and "vtab/dsprites_ori  is here" in said.out
    assert [line.strip().split(":")[0] for line in said.err.splitlines()[1:]] == [
        card.name for card in configs.suite("vtab").datasets if "dsprites" not in card.name
    ]


def test_archives_within_an_archive_are_unpacked_even_after_a_crash(
    bench: Bench, site: Site, tmp_path: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.dtd(tmp_path / "original")
    tarred(tmp_path / "original/dtd", tmp_path / "outer/parts/inner.tar.gz")
    tarred(tmp_path / "outer", site.folder / "outer.tar.gz")
    file = site.file("outer.tar.gz", "dtd/outer.tar.gz", unpack=True, inside=("parts/inner.tar.gz",))
    offer(monkeypatch, dtd=Plan("DTD", "", "", (file,)))
    unpack = archives.unpack
    with monkeypatch.context() as crash:
        crash.setattr(archives, "unpack", lambda a, b: 1 / 0 if a.name == "inner.tar.gz" else unpack(a, b))
        with pytest.raises(ZeroDivisionError):
            bench("data", "fetch", "vtab/dtd")
    assert bench("data", "fetch", "vtab/dtd").code == 0
    assert (root / "raw/dtd/dtd/labels").is_dir() and site.asked == ["/outer.tar.gz"]


def test_a_file_that_a_person_has_brought_is_checked_and_unpacked(
    bench: Bench, textures: Path, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def plan(sha256: str) -> Plan:
        return Plan("DTD", "http://127.0.0.1:9", "", (File((), DTD, True, sha256=sha256),), "Ask for a copy.")

    digest = hashlib.sha256(textures.read_bytes()).hexdigest()
    offer(monkeypatch, dtd=plan(digest))
    said = bench("data", "fetch", "vtab/dtd")
    assert said.code == 2 and f"Ask for a copy; in the data root these are raw/{DTD}" in said.err
    (root / "raw/dtd").mkdir(parents=True)
    textures.rename(root / "raw" / DTD)
    offer(monkeypatch, dtd=plan("0" * 64))
    said = bench("data", "fetch", "vtab/dtd")
    assert said.code == 2 and "is there already, but its sha256 is" in said.err
    offer(monkeypatch, dtd=plan(digest))
    assert bench("data", "fetch", "vtab/dtd").code == 0
    assert sources.find(configs.dataset("vtab/dtd"), default_data_root()) is not None


@pytest.mark.usefixtures("textures")
def test_a_download_that_lacks_something_says_what(
    bench: Bench, site: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "original/dtd/dtd/labels/val1.txt").unlink()
    tarred(tmp_path / "original/dtd", site.folder / "dtd.tar.gz")
    offer(monkeypatch, dtd=Plan("DTD", "", "", (site.file("dtd.tar.gz", DTD, unpack=True),)))
    said = bench("data", "fetch", "vtab/dtd")
    assert said.code == 2 and "lacks labels/val1.txt" in said.err


# texts


def spoken(name: str) -> Callable[[Sequence[str]], torch.Tensor]:
    """A text tower: numbers that depend on every letter, the same for the same text."""
    assert name == "a-clip"
    return lambda said: torch.stack([torch.randn(8, generator=torch.Generator().manual_seed(_seed(t))) for t in said])


def _seed(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:6], "big")


def directions(names: Sequence[str]) -> torch.Tensor:
    return torch.nn.functional.normalize(spoken("a-clip")([f"a {name}." for name in names]), dim=1)


TEXTS = ("data", "texts", "--backbone", "x+projection", "--model", "a-clip", "--dataset")
MOODS = ("angry", "disgusted", "fearful", "happy", "neutral", "sad", "surprised")  # as the toolkit numbers them


@pytest.fixture
def offered(site: Site, monkeypatch: pytest.MonkeyPatch) -> File:
    """prompts.py on a server, of a few sets; and a text tower."""
    names: dict[str, Sequence[str | list[str]]] = {
        "fer-2013": [*MOODS[:3], ["happy", "smiling"], *MOODS[4:]],
        "patch-camelyon": ["healthy", "ill"],
        "eurosat_clip": [f"land {i}" for i in range(10)],
        "dtd": [f"pattern {i}" for i in range(47)],
        "gtsrb": [f"sign {i}" for i in range(43)],
    }
    tiny_sources.prompts(site.folder / "prompts.py", names)
    file = site.file("prompts.py", "toolkit/prompts.py", unpack=False)
    offer(monkeypatch, elevater_prompts=Plan("", "http://page", "", (file,)))
    monkeypatch.setattr(texts, "transformers_encoder", spoken)
    return file


def made(root: Path, dataset: str, classes: int, layout: str = "") -> torch.Tensor:
    return texts.read(root, dataset, "x+projection", classes, layout=layout).weight


@pytest.mark.usefixtures("offered")
def test_texts_of_the_toolkit_follow_the_labels_of_the_data_that_are_here(
    bench: Bench, root: Path, site: Site, tmp_path: Path
) -> None:
    """FER2013's contest numbers its seven classes otherwise than the toolkit."""
    tiny_sources.fer2013(root / "raw")
    said = bench(*TEXTS, "pevit7/fer2013")
    assert said.code == 0 and "verified by sha256" in said.out and "numbered as in the layout torchvision" in said.out
    contest = ("angry", "disgusted", "fearful", "happy", "sad", "surprised", "neutral")
    torch.testing.assert_close(made(root, "pevit7/fer2013", 7, "torchvision"), directions(contest))

    tiny_sources.elevater_original(root / "raw", "gtsrb")  # its authors number signs without naming them
    assert bench(*TEXTS, "elevater/gtsrb").code == 0
    torch.testing.assert_close(made(root, "elevater/gtsrb", 43), directions([f"sign {i}" for i in range(43)]))

    tiny_sources.elevater(tmp_path / "theirs", "fer2013")
    assert bench("data", "add", "elevater", tmp_path / "theirs").code == 0
    said = bench(*TEXTS, "elevater/fer2013")
    assert said.code == 0 and site.asked == ["/prompts.py"]  # once
    torch.testing.assert_close(made(root, "elevater/fer2013", 7, "elevater"), directions(MOODS))
    with pytest.raises(UsageError, match="made for data in the layout elevater, not elevater-originals"):
        made(root, "elevater/fer2013", 7, "elevater-originals")


@pytest.mark.usefixtures("offered")
def test_texts_of_a_suite_are_made_of_what_can_be_and_the_rest_is_told(
    bench: Bench, root: Path, tmp_path: Path
) -> None:
    tiny_sources.elevater(tmp_path / "theirs", "eurosat")
    tiny_sources.elevater(tmp_path / "theirs", "mnist")
    bench("data", "add", "elevater", tmp_path / "theirs")
    said = bench(*TEXTS, "elevater")
    assert said.code == 2 and said.out.count("numbered as") == 1
    torch.testing.assert_close(made(root, "elevater/eurosat", 10), directions([f"land {i}" for i in range(10)]))
    assert "class_map has no 'mnist'" in said.err and said.err.count("Its data are not here") == 18
    assert len(said.err.splitlines()) == 19


def test_texts_that_cannot_be_had_are_one_line(
    bench: Bench, root: Path, tmp_path: Path, offered: File, monkeypatch: pytest.MonkeyPatch, site: Site
) -> None:
    for dataset, told in (
        ("vtab/svhn", "no set for 'svhn'"),
        ("elevater/mnist", "Its data are not here"),
    ):
        said = bench(*TEXTS, dataset)
        assert said.code == 2 and told in said.err and said.err.count("\n") == 1
    tiny.dtd(root / "raw")
    assert "The layout vtab-originals does not tell the names of classes" in bench(*TEXTS, "vtab/dtd").err
    assert site.asked == []  # nothing was downloaded for these
    assert "the data have no 'pattern 0' and no 'pattern 1'" in bench(*TEXTS, "pevit7/dtd").err

    tiny_sources.fer2013(root / "raw")
    offer(monkeypatch, elevater_prompts=Plan("", "http://page", "", (replace(offered, sha256="0" * 64),)))
    said = bench(*TEXTS, "elevater/fer2013")
    assert said.code == 2 and f"not {'0' * 64}" in said.err and "Or name a copy of http://page" in said.err
    assert bench(*TEXTS, "elevater/fer2013", "--texts", site.folder / "prompts.py").code == 0
    few = tiny_sources.prompts(tmp_path / "few.py", {"fer-2013": MOODS[:6]})
    said = bench(*TEXTS, "elevater/fer2013", "--texts", few)
    assert said.code == 2 and "few.py names 6 classes, elevater/fer2013 has 7" in said.err
    tiny_sources.elevater_original(root / "raw", "gtsrb")
    (site.folder / "prompts.py").unlink()
    (root / "raw/toolkit/prompts.py").unlink(missing_ok=True)
    asked = []
    for what in ("elevater/gtsrb", "elevater"):  # asked for once, not for every dataset
        before = len(site.asked)
        said = bench(*TEXTS, what)
        assert said.code == 2 and said.err.count("\n") == 1
        asked.append(len(site.asked) - before)
    assert asked[0] == asked[1]
    said = bench(*TEXTS, "elevater", "--texts", "own.toml")
    assert said.code == 2 and "own.toml names the classes of one dataset; elevater has 20" in said.err


def test_every_card_has_a_way_to_its_data() -> None:
    for suite in configs.suite_names():
        for card in filter(sources.is_local, configs.suite(suite).datasets):
            plan = catalog.plan(card)
            assert plan is not None and (plan.manual or plan.files), card.name


def test_the_page_names_every_folder_that_is_looked_into() -> None:
    page = (Path(__file__).parents[2] / "docs/data.md").read_text()
    folders = {name for homes, _ in vtab.HOMES.values() for name in homes}
    folders |= {
        name
        for sets in (torchvision_sets.SETS, torchvision_sets.FOLDERS)
        for one in sets.values()
        for name in one.folders
    }
    folders |= {plan.folder for plan in elevater.SETS.values()} | {*elevater.BASES, *domainnet.BASES}
    assert [name for name in sorted(folders - {"."}) if name not in page] == []
    assert [name for name in configs.suite_names() if f"`{name}`" not in page] == []
