"""The protocol's search: which learning rate and weight decay do best on the validation split."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from bench.core.record import Trial
from bench.core.schema import parse, plain
from bench.core.spec import Protocol
from bench.data.splits import Splits
from bench.training import loop
from bench.training.checkpoint import Checkpoints
from bench.training.job import Job
from bench.training.setup import apply_split_rules, prepare_model


def search(
    job: Job,
    splits: Splits,
    protocol: Protocol,
    on_progress: Callable[[loop.Progress], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> tuple[Protocol, tuple[Trial, ...]]:
    """The protocol with the learning rate and weight decay that do best on the validation split, and every trial.

    Each trial trains a fresh model on the training split alone; ties go to the smaller rate, then the smaller decay.
    A trial that the checkpoints know is not trained again. Raises Diverged where every trial does.
    """
    if not protocol.search_lr and not protocol.search_weight_decay:
        return protocol, ()
    held = replace(protocol, train_on="train", choose="last", epochs=protocol.search_epochs or protocol.epochs)
    parts = apply_split_rules(splits, held, job.spec.seed)
    known = checkpoints.load("trials") if checkpoints else None
    trials = [parse(Trial, trial, "checkpoint") for trial in known[1]["trials"]] if known else []
    grid = [
        (lr, decay)
        for lr in sorted(protocol.search_lr or (protocol.lr,))
        for decay in sorted(protocol.search_weight_decay or (protocol.weight_decay,))
    ]
    for number, (lr, decay) in enumerate(grid[len(trials) :], len(trials)):
        begin, tried = time.perf_counter(), replace(held, lr=lr, weight_decay=decay)
        own = checkpoints.within(f"trial{number}") if checkpoints else None
        try:
            val = loop.fit_job(job, prepare_model(job), tried, parts.train, parts.val, on_progress, own).val
        except loop.Diverged:
            val = None
        trials.append(Trial(lr, decay, val, time.perf_counter() - begin))
        if checkpoints and checkpoints.due():
            checkpoints.save("trials", {}, {"trials": plain(trials)})
    done = [trial for trial in trials if trial.val is not None]
    if not done:
        raise loop.Diverged(f"Every one of {len(trials)} trials of the search has diverged.")
    best = max(done, key=lambda trial: trial.val or 0.0)  # the first of equals
    return replace(protocol, lr=best.lr, weight_decay=best.weight_decay), tuple(trials)
