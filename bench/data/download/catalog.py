"""What can be downloaded for a card: datasets/downloads.toml, fetched and unpacked below <root>/raw."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from bench.core import configs
from bench.core.configs import Dataset
from bench.core.errors import UsageError
from bench.core.schema import parse
from bench.data.download import archives, fetch
from bench.data.readers import elevater_originals

TABLES = {  # the key of a card -> its table, where they differ
    "cifar": "cifar100",
    "oxford_flowers102": "flowers102",
    "patch_camelyon": "pcam",
    "oxford_pets": "oxford_iiit_pet",
    "clevr_count": "clevr",
    "clevr_dist": "clevr",
    "dsprites_loc": "dsprites",
    "dsprites_ori": "dsprites",
    "smallnorb_azi": "smallnorb",
    "smallnorb_ele": "smallnorb",
}
COMMUNITY = "its split cannot be made from the original; get the community's folder vtab-1k/caltech101"
TOOLKIT = "the toolkit's server is gone; get its folder classification/ from somebody who has it ({})"


@dataclass(frozen=True)
class File:
    urls: tuple[str, ...]  # of the same file; () where a person has to bring it
    path: str  # below <root>/raw
    unpack: bool
    bytes: int | None = None
    sha256: str | None = None
    md5: str | None = None
    inside: tuple[str, ...] = ()  # archives within the archive


@dataclass(frozen=True)
class Plan:
    title: str
    page: str
    license: str
    files: tuple[File, ...] = ()
    manual: str | None = None  # what a person has to do, where there is no download

    @property
    def bytes(self) -> int:
        """As far as they are known."""
        return sum(file.bytes or 0 for file in self.files)

    def can_run(self, root: Path) -> bool:
        """Whether nothing is left for a person to do: what has no address has been put where it belongs."""
        there = [file for file in self.files if _unpacked(file, root) or (root / "raw" / file.path).is_file()]
        return not self.manual or (bool(there) and len(there) == len(self.files))


@cache
def plans() -> Mapping[str, Plan]:
    path = configs.folder() / "downloads.toml"
    return {name: parse(Plan, table, f"{path.name} [{name}]") for name, table in configs.read_toml(path).items()}


def plan(card: Dataset) -> Plan | None:
    """How to get the data of a card; None where nothing is known."""
    kind, _, key = card.source.partition(":")
    if (kind, key) == ("vtab", "caltech101"):
        return Plan(card.title, "", card.license, manual=COMMUNITY)
    if kind == "elevater" and key in elevater_originals.OTHERS:
        return Plan(card.title, "", card.license, manual=TOOLKIT.format(elevater_originals.OTHERS[key]))
    return plans().get(f"domainnet_{key}" if kind == "domainnet" else TABLES.get(key, key))


def prompts(root: Path, say: Callable[[str], None]) -> Path:
    """ELEVATER's class names and templates, prompts.py of its toolkit; downloaded where it is not there.

    Raises UsageError where it cannot be had, or is another version.
    """
    plan = plans()["elevater_prompts"]
    try:
        get("prompts of ELEVATER", plan, root, say)
    except UsageError as error:
        raise UsageError(f"{error} Or name a copy of {plan.page}: --texts FILE.py.") from error
    return root / "raw" / plan.files[0].path


def get(name: str, plan: Plan, root: Path, say: Callable[[str], None]) -> None:
    """Downloads and unpacks what a plan lists; what is there already is checked, not fetched again.

    Raises UsageError where no address of a file works.
    """
    for file in plan.files:
        path = root / "raw" / file.path
        if not _unpacked(file, root):
            urls = file.urls or (plan.page,)  # of a file that is there already, nothing but its checksum is asked
            got = _first(urls, lambda url, file=file, path=path, name=name: _fetch(url, file, path, name))  # type: ignore[misc]
            verified = " and ".join(got.verified) or "nothing"
            say(f"{name}  {path.name}: {got.size / 1e6:.1f} MB, verified by {verified}")
            if file.unpack:
                archives.unpack(path, path.parent)
        for inside in (path.parent / name for name in file.inside):
            if not archives.is_unpacked(inside, path.parent):
                archives.unpack(inside, path.parent)


def _unpacked(file: File, root: Path) -> bool:
    path = root / "raw" / file.path
    return file.unpack and archives.is_unpacked(path, path.parent)


def _fetch(url: str, file: File, path: Path, name: str) -> fetch.Fetched:
    return fetch.fetch(
        url,
        path,
        sha256=file.sha256,
        md5=file.md5,
        size=file.bytes,
        progress=_progress(name),
    )


def _first(urls: Sequence[str], attempt: Callable[[str], fetch.Fetched]) -> fetch.Fetched:
    """From the first address that works; the faults of all of them where none does."""
    faults = []
    for url in urls:
        try:
            return attempt(url)
        except UsageError as error:
            faults.append(str(error))
    raise UsageError("\n".join(faults))


def _progress(name: str) -> fetch.Progress:
    shown = [0.0]

    def watch(done: int, total: int | None, rate: float) -> None:
        now = time.monotonic()
        if sys.stderr.isatty() and (now - shown[0] > 0.5 or done == total):
            shown[0] = now
            whole = f"/{total / 1e6:.0f}" if total else ""
            end = "\n" if done == total else ""
            print(f"\r{name}: {done / 1e6:.0f}{whole} MB, {rate / 1e6:.1f} MB/s ", end=end, file=sys.stderr)

    return watch
