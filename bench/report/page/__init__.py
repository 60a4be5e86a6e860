"""The leaderboards as one HTML file to explore: it opens from disk, offline, and asks nothing of any other address.

    page.html   the skeleton            style.css   how it looks, on a screen, a phone and paper
    stats.js    the statistics of bench.report.statistics again, for datasets may be ticked off
    *.js        one file a view; they share the object `bench`, and nothing else

Everything in it is put in when it is made: the styles, the scripts, and the data as JSON. Texts of records are data:
the scripts write them with textContent and never as HTML, and the policy of the page lets it load nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from bench.core.record import Record
from bench.core.store import write_atomically
from bench.report import Report
from bench.report.page.data import collect

FOLDER = Path(__file__).parent
SCRIPTS = (
    "stats",
    "dom",
    "model",
    "state",
    "table",
    "run",
    "scatter",
    "compare",
    "reported",
    "about",
    "exports",
    "main",
)


def write(
    path: Path,
    report: Report,
    records: Iterable[Record],
    counts: Sequence[Mapping[str, str]] = (),
) -> Path:
    """Writes the page of a report. `records` are those behind it, read once more for curves and settings.

    `counts` are the rows of results/published/counts.csv, of which those whose
    method is on a board are shown.
    """
    text = html(collect(report, records, counts))
    write_atomically(path, lambda file: file.write_text(text, encoding="utf-8"))
    return path


def html(data: object) -> str:
    """The page around its data."""
    parts = {
        "style": (FOLDER / "style.css").read_text(encoding="utf-8"),
        "data": safe_json(data),
        "script": "\n".join((FOLDER / f"{name}.js").read_text(encoding="utf-8") for name in SCRIPTS),
    }
    skeleton = (FOLDER / "page.html").read_text(encoding="utf-8")
    pieces = re.split(r"/\*(\w+)\*/", skeleton)  # split before anything is put in: data may hold such marks as text
    return "".join(parts[piece] if place % 2 else piece for place, piece in enumerate(pieces))


def safe_json(data: object) -> str:
    """JSON that ends no script element: what could begin a tag or a comment is written as an escape."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")
