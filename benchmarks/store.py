"""How long many records take to list and load as one DataFrame, from an index and without one.

    python benchmarks/store.py [--sizes 10000,30000,100000] [--rounds 3]

Records are made in a temporary folder by giving more seeds to those of results/pocket-v1/runs, milestones and all; none
is computed. A folder is loaded

    cold      without an index: every file is read, and the index written
    warm      with an index, nothing changed: the files are listed, the index is read
    changed   after 1 % of the files have been written anew: these are read, and the index written

and `plain` is what a program does without an index, `frame(Store(...).records())`. Seconds are of the wall clock, the
median of the rounds, and in brackets of the processor, which a busy machine does not stretch. Files are in the page
cache. Loading pandas is not counted.
"""

from __future__ import annotations

import argparse
import dataclasses
import itertools
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path

from bench.core.record import Record
from bench.core.store import Store
from bench.report import index
from bench.report.frame import frame

REAL = Path(__file__).parents[1] / "results" / "pocket-v1"


def more(records: list[Record]) -> Iterator[Record]:
    """Those that are done again and again, with seeds and scores of their own."""
    records = [record for record in records if record.status == "done"]
    apart = 1 + max(record.spec.seed for record in records)
    for number in itertools.count():
        for record in records:
            assert record.scores is not None
            spec = dataclasses.replace(record.spec, seed=apart * number + record.spec.seed)
            scores = dataclasses.replace(record.scores, test=record.scores.test * (1 - 1e-4 * (number % 1000)))
            yield dataclasses.replace(record, spec=spec, scores=scores)


def put(store: Store, record: Record) -> Path:
    """Not Store.write, which makes sure of the disk at every record."""
    path = store.path(record.spec)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record.to_json())
    return path


def touch_up(paths: Sequence[Path]) -> None:
    """One file in a hundred gets another score, and a time of change that no clock's grain hides."""
    for path in paths[::100]:
        text = path.read_text()
        path.write_text(text.replace('"test": 0.', '"test": 0.0', 1))
        stat = path.stat()
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))


def seconds(rounds: int, work: Callable[[], object], before: Callable[[], object] = lambda: None) -> str:
    walls, processors = [], []
    for _ in range(rounds):
        before()
        wall, processor = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        processors.append(time.process_time() - processor)
    return f"{statistics.median(walls):7.2f} ({statistics.median(processors):5.2f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", default="10000,30000,100000", metavar="N[,N...]")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--plain", action="store_true", help="also load without an index, once")
    args = parser.parse_args()
    source = more(list(Store(REAL).records()))
    with tempfile.TemporaryDirectory() as folder:
        root, paths = Path(folder), list[Path]()
        file = index.place(root)
        if file is None:
            parser.error("you have no cache folder, and so no index")
        print(f"{'records':>8}  {'cold':>15}  {'warm':>15}  {'changed':>15}  {'index':>8}")
        for size in map(int, args.sizes.split(",")):
            paths.extend([put(Store(root), record) for record in itertools.islice(source, size - len(paths))])
            index.load(root)  # so that the files are in the page cache, however they came there
            cold = seconds(1, lambda: index.load(root), file.unlink)
            warm = seconds(args.rounds, lambda: index.load(root))
            changed = seconds(args.rounds, lambda: index.load(root), partial(touch_up, paths))
            megabytes = file.stat().st_size / 1e6
            print(f"{size:8}  {cold:>15}  {warm:>15}  {changed:>15}  {megabytes:5.1f} MB", flush=True)
            assert len(index.load(root)) == size
            if args.plain:
                print(f"{'':8}  plain {seconds(1, lambda: frame(Store(root).records()))}", flush=True)
        file.unlink()


if __name__ == "__main__":
    main()
