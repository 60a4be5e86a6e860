"""Where the bundles of a plan run: one file for each executor, named as it is, with a class `Executor`.

An executor has three verbs: `submit`, `state`, `cancel`; and it answers what a plan asks before it is made. No other
module asks which executor it is. A third one is one new file here.
"""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bench.core.errors import UsageError, unknown
from bench.execution.events import Report
from bench.execution.resources import Resources

if TYPE_CHECKING:
    from bench.execution.plan import Plan


@dataclass(frozen=True)
class Submission:
    """What `submit` has done: waited until the bundles had ended, or left them to job arrays of these ids."""

    waited: bool
    jobs: tuple[str, ...] = ()
    messages: tuple[str, ...] = ()  # of workers that died


class Executor(Protocol):
    """A kind of place for workers, with its options."""

    detached: bool  # whether `submit` returns before the runs have ended

    def device(self, asked: str) -> str:
        """What the runs compute on, "cpu" or "cuda", where "auto", "cpu" or "cuda" is asked for."""

    def threads(self, asked: int | None) -> int | None:
        """Threads of one worker; None: as many as torch chooses."""

    def workers(self, bundles: int) -> int:
        """How many workers are at that many bundles at one time."""

    def defaults(self, cuda: bool) -> Resources:
        """What a worker gets where nothing else is said."""

    def bundle_seconds(self, total: float, minutes: int) -> float:
        """How long a bundle should take, of work of `total` seconds under a time limit of `minutes`."""

    def submit(self, root: Path, plan: Plan, report: Report) -> Submission:
        """Runs, or queues, every bundle of a plan that is on disk. Raises UsageError where none of it was taken."""

    def state(self, homes: Sequence[Path]) -> Mapping[Path, Mapping[int, str]] | None:
        """Of the plans in these folders the bundles that are waiting or running, by number, with the word for it; None
        where it cannot be known: that is not the same as none."""

    def cancel(self, home: Path) -> list[str]:
        """Ends what is under way of a plan; what it has finished stays. A line for each thing that was ended."""

    def logs(self, home: Path, bundle: int) -> list[Path]:
        """Files with what the workers of a bundle have printed."""


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules(__path__))


def get(name: str, options: Mapping[str, object] | None = None) -> Executor:
    """Raises UsageError where there is none of that name, or where its options make no sense."""
    executor: Executor = _module(name).Executor.of(options or {})
    return executor


def is_detached(name: str) -> bool:
    """Whether what was submitted to it goes on without the process that did so; so does what is not known here."""
    return name not in names() or bool(_module(name).Executor.detached)


def read_options(name: str, text: str) -> dict[str, object]:
    """`key=value,...` of a command line as options of an executor."""
    from bench.execution.resources import read_options

    found: dict[str, object] = read_options(_module(name).Options, text, f"--{name}")
    return found


def states(
    plans: Mapping[Path, Plan], warn: Callable[[str], object] = lambda _: None
) -> tuple[dict[Path, Mapping[int, str]], list[str]]:
    """What every executor says of the plans, by the files of the plans, and the names of those that do not answer, or
    whose own files are damaged, which are named to `warn`."""
    found: dict[Path, Mapping[int, str]] = {}
    silent: list[str] = []
    for name in dict.fromkeys(plan.executor for plan in plans.values()):
        own = [path for path, plan in plans.items() if plan.executor == name]
        try:
            answer = get(name, plans[own[0]].options).state([path.parent for path in own])
        except UsageError as error:  # a plan of an executor that this version does not have, too
            warn(str(error))
            answer = None
        if answer is None:
            silent.append(name)
        else:
            found |= {path: answer.get(path.parent, {}) for path in own}
    return found, silent


def _module(name: str):  # type: ignore[no-untyped-def]
    if name not in names():
        raise unknown("executor", name, names())
    return importlib.import_module(f"{__name__}.{name}")
