"""What the commands share: reading numbers from the command line, printing rows, warning."""

from __future__ import annotations

import argparse
import contextlib
import io
import shlex
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.core.text import columns, counted, duration, printable, printable_lines, table, terminal_width

__all__ = ["counted", "duration", "printable", "printable_lines"]


def positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 1")
    return int(text)


def natural(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least 0")
    return int(text)


def numbers(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.isdecimal() for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of whole numbers like 0,1,2")
    return tuple(dict.fromkeys(int(part) for part in parts))


def print_rows(rows: Sequence[Sequence[str]]) -> None:
    """In columns as wide as their widest cell."""
    print("\n".join(columns(rows, width=terminal_width())))


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """The first column to the left, the others to the right."""
    print("\n".join(table(rows, width=terminal_width())))


def warn(text: str) -> None:
    """One message on standard error. Only the first of its lines begins with `bench:`, whatever it quotes."""
    print("bench: " + printable_lines(text).replace("\n", "\n  "), file=sys.stderr)


class Warnings:
    """Prints messages, and counts them: what was left out is told by the exit code too."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, text: str) -> None:
        self.count += 1
        warn(text)


def silent(*_: object, **__: object) -> None:
    """Prints nothing, where print would."""


def use_utf8() -> None:
    """Output in UTF-8 whatever the locale says, so that a name in any script can be printed."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")


def hint(command: str, out: Path) -> str:
    """A command as it has to be typed for this results folder."""
    return f"bench {command}" + ("" if out == Path("results") else f" --out {shlex.quote(str(out))}")


@contextlib.contextmanager
def one_object(json: bool) -> Iterator[None]:
    """With --json, what plugins and libraries print goes to standard error: standard output holds one object alone."""
    if not json:
        yield
        return
    with contextlib.redirect_stdout(sys.stderr):
        yield


def say_loading(quiet: bool) -> None:
    """torch takes seconds; the line that follows is longer, and covers this one."""
    if not quiet and sys.stderr.isatty():
        print("Loading torch ...", end="\r", file=sys.stderr, flush=True)
