"""What a person reads when something is wrong.

BenchError                 every exception raised on purpose
|- UsageError              the question is wrong: an unknown name, a bad value, a missing file      (exit code 2)
|- Incompatible            a method cannot be attached to this backbone                            (a skipped record)
|- UnsupportedBackbone     a backbone whose blocks are not understood
|- NotMergeable            a method cannot be merged into its backbone, exactly
|- SideChannelError        a forward pass wants a tensor that no earlier part of it has sent        (a failed record)
|- BadData                 a dataset is not what its card says, or cannot be read                   (a failed record)
|- SealedTest              the test split was asked for before training had ended
|- Conflict                a finished record would be overwritten
|- UnreadableFile          something that is no plain file of a bearable size, where one should be
|- CorruptRecord           a file that should be a record is not one
`- ForeignRecord           a record that another version of bench wrote
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class BenchError(Exception):
    """An error whose message is one sentence for a person: what was given, where, and what would be right."""


class UsageError(BenchError):
    pass


class Incompatible(BenchError):
    pass


class UnsupportedBackbone(BenchError):
    pass


class NotMergeable(BenchError):
    pass


class SideChannelError(BenchError):
    pass


class BadData(BenchError):
    pass


class SealedTest(BenchError):
    pass


class Conflict(BenchError):
    pass


class UnreadableFile(BenchError):
    pass


class CorruptRecord(BenchError):
    pass


class ForeignRecord(BenchError):
    pass


def unknown(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """`No method is called 'lroa'. Did you mean 'lora'?`"""
    names = sorted(known)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    few = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
    hint = f"Did you mean {close[0]!r}?" if close else f"Known: {few or 'none'}."
    return UsageError(f"No {kind} is called {name!r}. {hint}")
