"""Text for people: names and messages made safe for where they are written, tables for the terminal, amounts in words.

Whatever comes from outside (a name of a file, class, method or dataset, a reason in a record) is text that a format may
take for markup. Each format has one function here; what it returns is one line and shows every character that has no
glyph of its own as an escape, so that nothing can begin a new line, colour a terminal or turn the order of letters:

    printable   terminals, logs, plots        csv_cell    spreadsheets         latex, markdown, html
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import unicodedata
from collections.abc import Sequence

# one line, and the formats ------------------------------------------------------------------------------------------


def printable(text: object) -> str:
    r"""One line without control characters: a newline is `\n`, an escape `\x1b`, half a surrogate pair `\udcff`."""
    shown = str(text)
    return shown if shown.isprintable() else "".join(map(_glyph, shown))


def printable_lines(text: object) -> str:
    """As `printable`, but line breaks stay and tabs are spaces: of a message of several lines, of a traceback."""
    return "\n".join(printable(line.expandtabs(4)) for line in str(text).splitlines())


def csv_cell(text: object) -> str:
    """A cell that no spreadsheet takes for a formula: one that begins like a formula gets an apostrophe before it."""
    shown = printable(text)
    return f"'{shown}" if str(text).lstrip()[:1] in _FORMULA or str(text)[:1] in ("\t", "\r", "\n") else shown


def markdown(text: object) -> str:
    """Text of a paragraph or a table cell of GitHub's Markdown, HTML and links included; `linear_probe` stays so."""
    return _MARKUP.sub(lambda found: _MARKDOWN.get(found[0], "\\" + found[0]), printable(text))


def latex(text: object) -> str:
    return "".join(_LATEX.get(char, char) for char in printable(text))


def html(text: object) -> str:
    """Text between tags, or in an attribute between quotes."""
    return "".join(_HTML.get(char, char) for char in printable(text))


def file_name(*parts: str) -> str:
    """A name for a file about something named by `parts`, of letters, digits and `._-`, the parts joined by `@`.

    Two things never share a file, not even where letters of two cases are one: unless its parts are plain names in
    lower case, the name ends in a digest of them.
    """
    if parts and all(re.fullmatch(r"[a-z0-9][a-z0-9._-]*", part) for part in parts) and sum(map(len, parts)) <= 100:
        return "@".join(parts)
    slug = "@".join(re.sub(r"[^A-Za-z0-9._-]+", "-", part).strip("-.") for part in parts)
    digest = hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:8]
    return f"{slug[:80].strip('-.@')}-{digest}".lstrip("-")


def _glyph(char: str) -> str:
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    return char.encode("unicode_escape").decode("ascii")


_FORMULA = tuple("=+-@＝＋－＠")
_MARKUP = re.compile(r"[\\`*<>&|~$\[\]]|(?<![^\W_])_|_(?![^\W_])|:(?=//)|(?<=\bwww)\.", re.IGNORECASE)
_MARKDOWN = {"<": "&lt;", ">": "&gt;", "&": "&amp;"}
_HTML = {"<": "&lt;", ">": "&gt;", "&": "&amp;", '"': "&quot;", "'": "&#x27;"}
_LATEX = {
    **{char: "\\" + char for char in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}", '"': r"\textquotedbl{}"},
}


# tables for the terminal --------------------------------------------------------------------------------------------


def table(rows: Sequence[Sequence[str]], left: int = 1, width: int | None = None, rule: bool = False) -> list[str]:
    """Rows, the first of them headings, as lines: the first `left` columns to the left, the others to the right.

    Where they do not fit in `width` (None: any width), columns that are left over follow below, beside the same left
    columns. `rule` underlines the headings.
    """
    cells = [[printable(cell) for cell in row] for row in rows]
    if not cells:
        return []
    widths = [max(display_width(row[column]) for row in cells) for column in range(len(cells[0]))]
    if rule:
        cells.insert(1, ["-" * size for size in widths])
    blocks = [[_line(row, widths, left, chosen) for row in cells] for chosen in _blocks(widths, left, width)]
    return [line for number, block in enumerate(blocks) for line in (["", *block] if number else block)]


def columns(rows: Sequence[Sequence[str]], width: int | None = None) -> list[str]:
    """Rows as lines whose cells stand below each other, all to the left; lines end with `…` at `width`."""
    lines = table(rows, left=len(rows[0]) if rows else 0)
    return lines if width is None else [shorten(line, width) for line in lines]


def terminal_width() -> int | None:
    """Columns of the terminal that standard output is; None where it is a file or a pipe, which take any width."""
    try:
        return os.get_terminal_size(sys.stdout.fileno()).columns or None
    except (OSError, ValueError, AttributeError):  # no terminal; closed; replaced by something that is no file
        return None


def display_width(text: str) -> int:
    """Columns of a terminal: Chinese, Japanese and Korean characters take two, combining accents none."""
    if text.isascii():
        return len(text)
    return sum(_columns_of(char) for char in text)


def shorten(text: str, width: int) -> str:
    """At most `width` columns of a terminal, the last of them `…` where something is left out."""
    if display_width(text) <= width:
        return text
    kept = ""
    for char in text:
        if display_width(kept + char) > width - 1:
            break
        kept += char
    return kept + "…"


def _columns_of(char: str) -> int:
    if unicodedata.category(char) in ("Mn", "Me"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def _blocks(widths: Sequence[int], left: int, width: int | None) -> list[list[int]]:
    """Which columns stand beside each other: the left ones in every block, of the others as many as fit."""
    start, others = list(range(min(left, len(widths)))), range(left, len(widths))
    blocks: list[list[int]] = [list(start)]
    for column in others:
        taken = sum(widths[other] + 2 for other in blocks[-1])
        if width is not None and len(blocks[-1]) > len(start) and taken + widths[column] > width:
            blocks.append(list(start))
        blocks[-1].append(column)
    return blocks


def _line(row: Sequence[str], widths: Sequence[int], left: int, chosen: Sequence[int]) -> str:
    padded = []
    for column in chosen:
        gap = " " * (widths[column] - display_width(row[column]))
        padded.append(row[column] + gap if column < left else gap + row[column])
    return "  ".join(padded).rstrip()


# amounts ------------------------------------------------------------------------------------------------------------


def counted(number: int, what: str) -> str:
    """`1 run`, `5 runs`"""
    return f"{number} {what}" + ("" if number == 1 else "s")


def duration(seconds: float) -> str:
    """`45 s`, `12 min`, `3.5 h`, `5.7 days`"""
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
