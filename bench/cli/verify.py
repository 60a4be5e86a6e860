"""bench verify: which rows of a results folder agree with their own predictions, and with the models they name."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from bench.cli import arguments, console
from bench.core.text import counted, printable

if TYPE_CHECKING:
    from bench.tools.verify import Verification

SHOWN = 20  # mismatches printed; --json has them all


def add_parser(verb: Callable[[str, Callable[[argparse.Namespace], int], str], argparse.ArgumentParser]) -> None:
    verify = verb(
        "verify",
        verify_command,
        "compute scores again from the predictions beside the records, and counts from the models they name",
    )
    verify.add_argument("dir", nargs="?", type=Path, default=Path("results"), metavar="DIR", help="default: results")
    verify.add_argument("--json", action="store_true", help="print one JSON object with every record's findings")
    arguments.add_plugin(verify)


def verify_command(args: argparse.Namespace) -> int:
    """Exit code 1 where a record disagrees with what was computed again."""
    from bench.tools.verify import verify

    found = verify(args.dir, tuple(args.plugin))
    if args.json:
        print(json.dumps(_as_data(found), indent=1))
    else:
        _print(found)
    return 1 if found.count("mismatch") else 0


def _as_data(found: Verification) -> dict[str, object]:
    records = [
        {
            "record": finding.record,
            "verdict": finding.verdict,
            "mismatches": finding.mismatches,
            "checked": finding.checked,
            "unchecked": finding.unchecked,
        }
        for finding in found.findings
    ]
    return {name: found.count(name) for name in ("vouched", "mismatch", "cannot")} | {"records": records}


def _print(found: Verification) -> None:
    rows: list[tuple[str, ...]] = [("method", "variant", "backbone", "suite", "verdict")]
    rows += [(*map(printable, row), verdict) for row, verdict in sorted(found.rows().items())]
    console.print_rows(rows)
    faults = [f"{printable(f.record)}: {printable(fault)}" for f in found.findings for fault in f.mismatches]
    reasons = dict.fromkeys(printable(reason) for f in found.findings for reason in f.unchecked)
    for title, lines in (("Mismatches", faults), ("Not checked", list(reasons))):
        if lines:
            print(f"\n{title}:")
            print("\n".join(f"  {line}" for line in lines[:SHOWN]))
            if len(lines) > SHOWN:
                print(f"  and {len(lines) - SHOWN} more: --json has them all")
    print(
        f"\n{counted(len(found.findings), 'record')}: {found.count('vouched')} vouched for, "
        f"{found.count('mismatch')} with a mismatch, {found.count('cannot')} that cannot be checked."
    )
