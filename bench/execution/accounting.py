"""Every run that was asked for is accounted for: it has a record, is held or queued elsewhere, or is missing."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from bench.core.record import Record
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.execution.attempt import holder_of
from bench.execution.events import RunEvent

ORDER = ("done", "failed", "skipped", "held", "queued", "refused", "missing")
WORDS = {
    "held": "locked by another process",
    "queued": "queued or running as job arrays",
    "refused": "refused",
    "missing": "without a result",
}


@dataclass(frozen=True)
class Outcome:
    """Where one run stands at the end. `reason` says why it has no result."""

    spec: RunSpec
    state: str  # of ORDER
    reason: str = ""


@dataclass(frozen=True)
class Account:
    """Every run that was asked for, in the order of the question."""

    outcomes: tuple[Outcome, ...]
    left_out: tuple[str, ...] = ()  # datasets that were asked for and left out, each with the reason

    def count(self, state: str) -> int:
        return Counter(outcome.state for outcome in self.outcomes)[state]

    @property
    def complete(self) -> bool:
        """Whether everything that was asked for is there: a result, or a declared refusal, for every run, and a result
        for at least one."""
        answered = self.count("done") + self.count("skipped")
        return answered == len(self.outcomes) and self.count("done") > 0 and not self.left_out

    def summary(self) -> str:
        """`8 runs: 6 done, 1 failed, 1 locked by another process.`"""
        number = len(self.outcomes)
        counts = [f"{n} {WORDS.get(state, state)}" for state in ORDER if (n := self.count(state))]
        return f"{number} run{'' if number == 1 else 's'}: {', '.join(counts) or 'none'}."

    def reasons(self) -> list[str]:
        """A line for each reason why runs have no result, with the first of them and how many there are."""
        found: dict[tuple[str, str], list[RunSpec]] = {}
        for outcome in self.outcomes:
            if outcome.state != "done":
                reason = next(iter(outcome.reason.splitlines()), "")
                found.setdefault((outcome.state, reason), []).append(outcome.spec)
        lines = []
        for (state, reason), specs in found.items():
            more = f" and {len(specs) - 1} more" if len(specs) > 1 else ""
            first = specs[0]
            name = f"{first.method} on {first.dataset}, {first.backbone}, seed {first.seed}{more}"
            lines.append(f"{WORDS.get(state, state)}: {name}" + (f": {reason}" if reason else ""))
        return lines


def account(
    store: Store,
    specs: Sequence[RunSpec],
    events: Mapping[str, RunEvent],
    queued: frozenset[str] = frozenset(),
    left_out: Sequence[str] = (),
) -> Account:
    """Where each run stands, by what is on disk now; `events` are the last that workers reported, by digest."""
    return Account(tuple(_outcome(store, spec, events.get(spec.digest), queued) for spec in specs), tuple(left_out))


def _outcome(store: Store, spec: RunSpec, event: RunEvent | None, queued: frozenset[str]) -> Outcome:
    record: Record | None = store.find(spec)
    if record is not None and record.status == "done":
        return Outcome(spec, "done")
    if spec.digest in queued:
        return Outcome(spec, "queued")
    if holder := holder_of(store.state(spec)):
        return Outcome(spec, "held", f"a process on {holder} is running it")
    if event is not None and event.outcome == "refused":
        return Outcome(spec, "refused", event.text)
    if record is not None:
        return Outcome(spec, record.status, record.reason or "")
    if event is None:
        return Outcome(spec, "missing", "no worker has begun it")
    return Outcome(spec, "missing", "its worker ended without a record of it")
