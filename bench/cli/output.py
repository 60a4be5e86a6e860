"""What `--json` prints of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bench.core.schema import plain
from bench.core.spec import RunSpec
from bench.core.store import Store

if TYPE_CHECKING:
    from bench.execution.run import Executed


def run_as_data(out: Path, done: Executed, specs: Sequence[RunSpec]) -> dict[str, Any]:
    """Where every run stands, the records there are, and the job arrays or the files that were written."""
    outcomes = [{"digest": o.spec.digest, "state": o.state, "reason": o.reason} for o in done.account.outcomes]
    store = Store(out)
    records = [plain(record) for spec in specs if (record := store.find(spec))]
    data: dict[str, Any] = {"outcomes": outcomes, "records": records}
    if done.detached:
        submitted = [(plan, submission) for plan, submission in done.submissions if not submission.waited]
        data["plan"] = submitted[0][0].id
        data["arrays"] = [job for _, submission in submitted for job in submission.jobs]
        data["runs"] = sum(len(plan.runs) for plan, _ in submitted)
        return data
    from bench import report
    from bench.cli import console
    from bench.models import registry

    made = report.load(out, console.warn, registry.families(), registry.versions())
    data["files"] = [str(path) for path in made.write(out, console.warn)]
    return data
