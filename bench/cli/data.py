"""bench data: what there is, where it is, what is missing and how to get it. No torch."""

from __future__ import annotations

import argparse
import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.cli.console import duration, numbers, positive, print_rows
from bench.core.errors import UsageError

if TYPE_CHECKING:
    from bench.core.configs import Dataset
    from bench.data.items import Layout
    from bench.data.progress import OnProgress
    from bench.data.sources import DatasetLocation
    from bench.models.texts import Texts


def add_parser(verbs: Any) -> None:
    data = verbs.add_parser("data", help="datasets: list, status, add, fetch, verify, prepare, shots, texts, prune")
    kinds = data.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def verb(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        command: argparse.ArgumentParser = kinds.add_parser(name, help=text, description=text)
        command.set_defaults(verb=run)
        add_data_root(command)
        return command

    verb("list", list_command, "every dataset, with its size, metric and licence")
    status = verb("status", status_command, "what is here, what is missing and how to get it")
    status.add_argument("what", nargs="?", metavar="SUITE|SUITE/NAME")
    add = verb("add", add_command, "name the folder or archive that holds the data of a suite")
    add.add_argument("suite")
    add.add_argument("path", type=Path)
    add.add_argument("--sample", action="store_true", help="a part of it: results are kept apart from the suite's")
    fetch = verb("fetch", fetch_command, "download what can be downloaded, verified and resumable")
    fetch.add_argument("what", metavar="SUITE|SUITE/NAME|hub:OWNER/NAME", help="hub: a dataset of Hugging Face")
    verify = verb("verify", verify_command, "read every image; count the classes; compute the fingerprint")
    verify.add_argument("what", metavar="SUITE|SUITE/NAME")
    prepare = verb("prepare", prepare_command, "decode images once, for all runs to come")
    prepare.add_argument("what", metavar="SUITE|SUITE/NAME")
    prepare.add_argument("--size", type=positive, default=224, metavar="PIXELS", help="default: 224")
    prepare.add_argument("--resize", choices=("squash", "crop"), default="squash")
    shots = verb("shots", shots_command, "put down which images a few-shot run of each seed draws")
    shots.add_argument("what", metavar="SUITE|SUITE/NAME")
    shots.add_argument("--shots", type=positive, default=5, metavar="K", help="images a class; default: 5")
    shots.add_argument("--seeds", type=numbers, default=(0, 1, 2), metavar="0,1,2", help="default: 0,1,2")
    shots.add_argument("--out", type=Path, default=Path("shots"), metavar="DIR", help="default: shots")
    texts = verb("texts", texts_command, "make the head that starts from the texts of the class names, with a CLIP")
    texts.add_argument("--dataset", required=True, metavar="SUITE|SUITE/NAME")
    texts.add_argument("--backbone", required=True, metavar="NAME", help="whose runs it is for: TAG+projection")
    texts.add_argument(
        "--texts",
        type=Path,
        metavar="FILE.toml|FILE.py",
        help="names and templates, or prompts.py of ELEVATER's toolkit; default: that file, downloaded",
    )
    texts.add_argument("--model", required=True, metavar="NAME|FOLDER", help="a CLIP of Hugging Face transformers")
    prune = verb("prune", prune_command, "remove prepared arrays, those first that were not used for longest")
    prune.add_argument("--keep", type=_bytes, default=0, metavar="20GB", help="as much may stay; default: nothing")


def add_data_root(command: argparse.ArgumentParser) -> None:
    command.add_argument("--data-root", type=Path, metavar="DIR", help="default: BENCH_DATA, or the user's cache")


def data_root(args: argparse.Namespace) -> Path:
    """The data root that the arguments name, or the default one."""
    from bench.data.root import default_data_root

    return args.data_root or default_data_root()


def _bytes(text: str) -> int:
    units = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}
    number, unit = text.upper().removesuffix("B"), ""
    if number and number[-1] in units:
        number, unit = number[:-1], number[-1]
    try:
        size = int(float(number) * units[unit])
    except (ValueError, OverflowError):
        size = None
    if size is None or size < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a size like 20GB or 500MB")
    return size


def _cards(what: str | None) -> list[Dataset]:
    """The cards of a suite, or one of them; all of them for None."""
    from bench.core import configs

    if what is None:
        return [card for name in configs.suite_names() for card in configs.suite(name).datasets]
    return [configs.dataset(what)] if "/" in what else list(configs.suite(what).datasets)


def list_command(args: argparse.Namespace) -> int:
    rows = [("dataset", "classes", "train/val/test", "metric", "licence", "title")]
    for card in _cards(None):
        sizes = f"{card.sizes.train}/{card.sizes.val}/{card.sizes.test}"
        rows.append((card.name, str(card.classes), sizes, card.metric, card.license, card.title))
    print_rows(rows)
    return 0


def status_command(args: argparse.Namespace) -> int:
    from bench.data import hints, ready, sources

    root = data_root(args)
    rows = [("dataset", "state", "where or how")]
    missing = []
    for card in _cards(args.what):
        if not sources.is_local(card):
            rows.append((card.name, "generated", "needs no download"))
            continue
        found = sources.find(card, root)
        if found is None:
            missing.append(card)
            rows.append((card.name, "missing", hints.fetch_hint(card, root)))
            continue
        count = len(ready.prepared(card, root))
        note = ", images compressed again" if found.layout.reencoded else ""
        state = ("sample" if found.sample else "here") + (f", prepared x{count}" if count else "")
        rows.append((card.name, state, f"{found.path} ({found.layout.name}{note})"))
    print_rows(rows)
    free = shutil.disk_usage(_existing(root)).free
    print(f"Data root: {root} ({free / 1e9:.0f} GB free). BENCH_DATA or --data-root moves it.")
    return 1 if missing else 0


def _existing(path: Path) -> Path:
    return next(parent for parent in (path.absolute(), *path.absolute().parents) if parent.exists())


def progress_line(name: str) -> OnProgress:
    """Draws one line on a terminal's standard error: what is being done, how far, and the time left."""
    import sys
    import time

    began: dict[str, float] = {}
    drawn = [0.0]

    def draw(stage: str, done: int, total: int) -> None:
        now = time.monotonic()
        start = began.setdefault(stage, now)
        if not sys.stderr.isatty() or (now - drawn[0] < 0.5 and done < total):
            return
        drawn[0] = now
        rate = done / max(now - start, 1e-9)
        left = f", {duration((total - done) / rate)} left" if 0 < done < total and now > start else ""
        text = f"{name}: {stage} {done:,} of {total:,} images{left}"
        print(f"\r{text:<79}", end="\n" if done >= total else "", file=sys.stderr, flush=True)

    return draw


def add_command(args: argparse.Namespace) -> int:
    from bench.core import configs
    from bench.data import sources
    from bench.data.download import archives

    root = data_root(args)
    suite = configs.suite(args.suite)
    path: Path = args.path
    if not path.exists():
        raise UsageError(f"{path} does not exist. 'bench data add SUITE PATH' takes a folder or an archive.")
    if not any(map(sources.is_local, suite.datasets)):
        raise UsageError(f"The suite {args.suite!r} needs no data from outside.")
    target = root / "raw" / f"{args.suite}-{path.name.partition('.')[0]}"
    unpacked = path.is_file()
    new = unpacked and not target.exists()
    if unpacked:
        print(f"Unpacking {path} to {target} ...")
        archives.unpack(path, target)
        path = target
    kind = suite.datasets[0].source.partition(":")[0]
    here = {
        card.name: layout
        for card in suite.datasets
        for layout in reversed(sources.layouts(kind))
        if layout.find(path, card.source.partition(":")[2])
    }
    if not here:
        if new:
            shutil.rmtree(target)
        known = "; ".join(layout.title for layout in sources.layouts(kind))
        raise UsageError(f"No dataset of {args.suite!r} is recognised in {args.path}. Known layouts: {known}.")
    faults = _unusable(suite.datasets, here, path) if args.sample else {}
    if len(faults) == len(here):
        if new:
            shutil.rmtree(target)
        raise UsageError("\n".join(["None of it can be used as a sample:", *faults.values()]))
    sources.add(args.suite, path, root, sample=args.sample)
    for name, layout in here.items():
        print(f"{name}  {layout.title}" if name not in faults else f"{name}  cannot be used: {faults[name]}")
    count = f"{len(here) - len(faults)} of {len(suite.datasets)} datasets of {args.suite}"
    print(f"{count}. 'bench data verify {args.suite}' checks them.")
    return 1 if faults else 0


def _unusable(cards: Sequence[Dataset], here: Mapping[str, Layout], path: Path) -> dict[str, str]:
    """Why datasets of which a part was recognised cannot be used so, by name."""
    from bench.data.sources import DatasetLocation

    faults = {}
    for card in cards:
        if card.name in here:
            try:
                DatasetLocation(path, here[card.name], card.source.partition(":")[2], sample=True).open()
            except UsageError as error:
                faults[card.name] = str(error)
    return faults


def fetch_command(args: argparse.Namespace) -> int:
    from bench.data import hints, sources
    from bench.data.download import catalog
    from bench.data.readers import hub

    root = data_root(args)
    if args.what.startswith(hub.PREFIX):
        folder = hub.fetch(args.what.removeprefix(hub.PREFIX), root / "raw" / "hub")
        print(f"{args.what}  {folder}\n'bench run --data {folder} --method ...' uses it.")
        return 0
    faults = []
    for card in _cards(args.what):
        if not sources.is_local(card) or sources.find(card, root) is not None:
            print(f"{card.name}  is here")
            continue
        plan = catalog.plan(card)
        if plan is None or not plan.can_run(root):
            faults.append(f"{card.name}: {hints.fetch_hint(card, root)}")
            continue
        try:  # a server that is down must not keep the others' datasets away
            catalog.get(card.name, plan, root, print)
            print(f"{card.name}  {_arrived(card, root)}")
        except UsageError as error:
            faults.append(f"{card.name}: {error}")
    if faults:
        raise UsageError("\n".join(["Not everything could be downloaded:", *faults] if faults[1:] else faults))
    return 0


def _arrived(card: Dataset, root: Path) -> str:
    """Where a dataset lies that was just unpacked. Raises UsageError with what it lacks."""
    from bench.data import sources

    found = sources.find(card, root)
    if found is None:
        kind, _, key = card.source.partition(":")
        raw = sources.search_paths(card.name.partition("/")[0], root)[-1].path
        sources.layouts(kind)[0].open(raw, key)  # tells what is not there
        raise UsageError(f"what was downloaded is not recognised below {raw}. Remove its files there; fetch again.")
    return f"{found.path} ({found.layout.name})"


def verify_command(args: argparse.Namespace) -> int:
    from bench.data import hints, sources, verify

    root = data_root(args)
    faults = missing = 0
    for card in _cards(args.what):
        if not sources.is_local(card):
            print(f"{card.name}  generated; its fingerprint is checked whenever it is")
            continue
        found = sources.find(card, root)
        if found is None:
            print(hints.missing_line(card, root))
            missing += 1
            continue
        report = verify.verify(card, found, root, progress_line(card.name))
        faults += len(report.faults)
        fingerprint = f"fingerprint {report.fingerprint[:16]}" if report.fingerprint else "no fingerprint"
        print(f"{card.name}  {report.images} images, {fingerprint}, {found.layout.name}")
        for fault in report.faults:
            print(f"  FAULT {fault}")
    return 1 if faults or missing else 0


def prepare_command(args: argparse.Namespace) -> int:
    from bench.data import hints, ready, sources
    from bench.data.prepare import Transform

    root = data_root(args)
    states: Counter[str] = Counter()
    faults, cards = [], _cards(args.what)
    places = {card.name: sources.find(card, root) for card in cards}
    missing = [card for card in cards if sources.is_local(card) and places[card.name] is None]
    if len(missing) == len(cards):
        raise sources.Missing(hints.missing_screen(missing, len(cards), root))
    for card in cards:
        found = places[card.name]
        if found is None:
            states["missing" if sources.is_local(card) else "generated when needed"] += 1
            continue
        try:  # one bad image must not keep the other datasets waiting
            done = ready.card_of(card, found, Transform(args.size, args.resize), root, progress_line(card.name))
        except UsageError as error:
            faults.append(hints.with_name(card, error))
            states["refused"] += 1
            continue
        states["prepared"] += 1
        print(f"{done.name}  fingerprint {done.fingerprint[:16]}")
    print(", ".join(f"{number} {state}" for state, number in states.items()))
    if faults:
        raise UsageError("\n".join(faults))
    return 1 if missing else 0


def shots_command(args: argparse.Namespace) -> int:
    from bench.data import fewshot, hints, sources

    root = data_root(args)
    places = [(card, sources.find(card, root)) for card in _cards(args.what) if sources.is_local(card)]
    if not places:
        raise UsageError(f"{args.what} has no images on disk to draw from.")
    missing = [card for card, found in places if found is None]
    if len(missing) == len(places):
        raise sources.Missing(hints.missing_screen(missing, len(places), root))
    args.out.mkdir(parents=True, exist_ok=True)
    for card, found in places:
        if found is None:
            print(hints.missing_line(card, root))
            continue
        train = found.open()["train"]
        for seed in args.seeds:
            drawn = fewshot.draw(train.labels, args.shots, seed, train.digest())
            path = args.out / f"{sources.name_of(card, found).replace('/', '-')}-{args.shots}shot-seed{seed}.json"
            drawn.save(path, train.names)
            count = f"{len(drawn.train)} train, {len(drawn.val)} validate"
            print(f"{path}  {count}, images {drawn.images_sha256[:16]}")
    return 1 if missing else 0


def texts_command(args: argparse.Namespace) -> int:
    from bench.data import hints, sources
    from bench.data.download import catalog
    from bench.models import texts

    root, cards = data_root(args), _cards(args.dataset)
    own = args.texts is not None and args.texts.suffix == ".toml"
    if own and len(cards) > 1:
        raise UsageError(f"{args.texts} names the classes of one dataset; {args.dataset} has {len(cards)}.")
    asked, ready, faults = [], [], []
    for card in cards:
        found = sources.find(card, root)
        try:
            asked.append((card, found.layout.name if found else "", None if own else _label_names(card, found)))
        except UsageError as error:
            faults.append(hints.with_name(card, error))
    if asked:
        file = args.texts or catalog.prompts(root, print)
    for card, layout, label_names in asked:  # all are read before a text tower is loaded
        try:
            ready.append((card, layout, _texts_of(card, layout, label_names, file)))
        except UsageError as error:
            faults.append(hints.with_name(card, error))
    if ready:
        encode = texts.transformers_encoder(args.model)
    for card, layout, said in ready:
        try:
            weight = texts.classifier(encode, said)
        except UsageError as error:
            faults.append(hints.with_name(card, error))
            continue
        path = texts.place(root, card.name, args.backbone)
        texts.write(path, weight, said, args.model, layout)
        numbered = f", numbered as in the layout {layout}" if layout else ""
        print(f"{path}: {len(weight)} classes of {weight.shape[1]} features, {texts.digest(weight)}{numbered}")
    if faults:
        raise UsageError("\n".join(faults))
    return 0


def _texts_of(card: Dataset, layout: str, label_names: tuple[str, ...] | None, file: Path) -> Texts:
    """What a file says of the classes, in the order of the labels. Without `label_names` it is a person's own file, who
    answers for the order; otherwise prompts.py of ELEVATER's toolkit."""
    from bench.data.readers import elevater
    from bench.models import prompt_file, texts

    said = texts.read_texts(file) if label_names is None else prompt_file.read(file, card.key)
    if len(said.names) != card.classes:
        raise UsageError(f"{file} names {len(said.names)} classes, {card.name} has {card.classes}.")
    if label_names is None:
        return said
    alike = layout == elevater.TOOLKIT or card.key in prompt_file.NUMBERED
    return prompt_file.in_label_order(said, label_names, alike=alike)


def _label_names(card: Dataset, found: DatasetLocation | None) -> tuple[str, ...]:
    """What the data call the classes, in the order of the labels. Raises UsageError where ELEVATER's prompts.py cannot
    be put in that order: it has no such set, or the data are not here or do not tell."""
    from bench.models import prompt_file

    prompt_file.toolkit_name(card.key)
    if found is None:
        raise UsageError("Its data are not here, which tell how its classes are numbered.")
    names = found.class_names()
    if names is None:
        raise UsageError(f"The layout {found.layout.name} does not tell the names of classes. {prompt_file.OWN_FILE}")
    return names


def prune_command(args: argparse.Namespace) -> int:
    from bench.data import prepare

    removed = prepare.prune(data_root(args), args.keep)
    for path, size in removed:
        print(f"removed {path.name}  {size / 1e9:.2f} GB")
    print(f"{len(removed)} prepared datasets removed, {sum(size for _, size in removed) / 1e9:.2f} GB.")
    return 0
