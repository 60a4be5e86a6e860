"""How far a request is, on a terminal: a line for each run that has ended, and a bar with the time that is left."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from bench.core.text import printable
from bench.execution.events import Report, RunEvent
from bench.execution.plan import Plan

WORDS = {"done": "", "held": "", "failed": "failed: ", "skipped": "skipped: ", "refused": "refused: "}


@contextlib.contextmanager
def showing(*plans: Plan, quiet: bool) -> Iterator[Report]:
    """Where workers report to. The time that is left follows the estimates of the runs, corrected by how fast they are
    in truth: it counts seconds of estimated work, not runs, of which some are a hundred times as long as others."""
    terminal = Console(stderr=quiet, highlight=False)
    seconds = {planned.spec.digest: max(planned.seconds, 0.1) for plan in plans for planned in plan.runs}
    done: set[str] = set()
    one_at_a_time = threading.Lock()
    columns = (
        TextColumn("{task.description}"),
        BarColumn(10),
        TextColumn("{task.fields[ended]}/{task.fields[runs]}"),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    shown = Progress(
        *columns, console=terminal, disable=quiet or not terminal.is_terminal, transient=True, speed_estimate_period=600
    )
    with shown as bar:
        task = bar.add_task("", total=sum(seconds.values()), ended=0, runs=len(seconds))

        def report(event: RunEvent) -> None:
            with one_at_a_time:
                spec = event.spec
                if event.outcome is None:
                    _step(event)
                    return
                done.add(spec.digest)
                bar.update(task, completed=sum(seconds.get(d, 0.0) for d in done), ended=len(done))
                if not quiet:
                    title = f"{spec.method} · {spec.dataset} · {spec.backbone} · seed {spec.seed}"
                    text = f"{WORDS[event.outcome]}{event.text}  {event.seconds:.1f} s"
                    terminal.print(
                        f"[{len(done)}/{len(seconds)}] {printable(title)}  {printable(text)}",
                        markup=False,
                        soft_wrap=True,
                    )

        def _step(event: RunEvent) -> None:
            short = f"{event.spec.method} {event.spec.dataset}"  # with rate and time left it fits 80 columns
            if event.progress is None:
                bar.update(task, description=printable(short))
                if event.text and not quiet:
                    terminal.print(printable(event.text), markup=False, soft_wrap=True)
                return
            step = event.progress
            rate = f"epoch {step.epoch}/{step.epochs} {step.images_per_second:.0f} images/s"
            share = seconds.get(event.spec.digest, 0.0) * step.epoch / max(step.epochs, 1)
            completed = sum(seconds.get(d, 0.0) for d in done) + share
            bar.update(task, description=printable(f"{short} {rate}"), completed=completed)

        yield report
