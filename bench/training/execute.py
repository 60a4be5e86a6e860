"""execute(job) -> Record: the one place where data, backbone, method, training and measures meet."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import torch

from bench.core.configs import Metric
from bench.core.errors import BadData, BenchError, Incompatible, UnsupportedBackbone, UsageError
from bench.core.record import Cost, Failure, Milestone, Params, Record, Scores, pe
from bench.core.spec import Protocol
from bench.core.store import Store, write_atomically
from bench.data import fewshot
from bench.data.splits import ArraySplit
from bench.models import backbones, cost, memory
from bench.models.method import variant
from bench.models.tuned_model import TunedModel
from bench.models.view import ModelView
from bench.training import inference, loop, metrics, provenance
from bench.training.checkpoint import Checkpoints
from bench.training.job import Job
from bench.training.search import search
from bench.training.setup import apply_split_rules, load_test, load_training, phases_of, prepare_model, text_features

TIMED = 1000  # test images, at most, on which the merged model is timed
OUT_OF_MEMORY = ("out of memory", "can't allocate memory")  # in the messages of allocators, of accelerators and CPUs


def execute(
    job: Job,
    store: Store | None = None,
    on_progress: Callable[[loop.Progress], None] = lambda _: None,
    *,
    checkpoints: Checkpoints | None = None,
    attempts: int = 1,
    check_lease: Callable[[], object] = lambda: None,
) -> Record:
    """Runs one spec and returns its record; with a `store`, the record and its predictions or traceback are written.

    A method that does not fit the backbone becomes a skipped record; whatever goes wrong later, a failed one, the
    method's own refusals and exits included. Of what goes wrong before training, UsageError alone is raised: it is the
    question that is wrong. `check_lease` is called before anything is written, and may raise.
    """
    if store and (existing := store.find(job.spec)) is not None and existing.status == "done":
        return existing  # made by another process meanwhile
    started, clock = datetime.now(UTC), time.perf_counter()
    provenance.code_version(), provenance.harness_digest()  # before an edit made meanwhile could blur them
    notes: dict[str, str] = {}
    files: dict[str, np.ndarray] = {}
    kept: list[TunedModel] = []

    def finish(status: str, reason: str | None, **results: object) -> Record:
        return Record(
            spec=job.spec,
            status=status,  # type: ignore[arg-type]
            provenance=provenance.of(job, notes, started, time.perf_counter() - clock),
            variant=variant(job.method),
            reason=reason,
            attempts=attempts,
            **results,  # type: ignore[arg-type]
        )

    log = store.path(job.spec).with_suffix(".log") if store else None

    def fail(error: BaseException) -> Record:
        lines = "".join(traceback.format_exception(error))
        if log:
            check_lease()
            write_atomically(log, lambda file: file.write_text(lines, encoding="utf-8", errors="backslashreplace"))
        return finish("failed", reason_of(error), failure=failure_of(error), log=log.name if log else None)

    try:
        net = prepare_model(job)
        phases_of(job.method, job.spec.protocol)  # refuses epochs that the method cannot divide
    except UsageError:
        raise
    except (Incompatible, UnsupportedBackbone) as error:
        record = finish("skipped", reason_of(error))
    except (Exception, SystemExit) as error:
        record = fail(error)
    else:
        try:
            record = finish("done", None, **_run(job, net, notes, files, kept, on_progress, checkpoints))
        except (Exception, SystemExit) as error:
            record = fail(error)
    if store:
        check_lease()
        if files:
            write_atomically(store.path(job.spec).with_suffix(".npz"), lambda file: _save_npz(file, files))
        for tuned in kept:
            write_atomically(store.path(job.spec).with_suffix(".safetensors"), tuned.save)
        store.write(record)
    return record


def lost(job: Job, reason: str, attempts: int) -> Record:
    """The record of a run whose processes died without an exit status."""
    now = datetime.now(UTC)
    return Record(
        spec=job.spec,
        status="failed",
        provenance=provenance.of(job, {}, now, 0.0),
        variant=variant(job.method),
        reason=reason,
        failure="node",
        attempts=attempts,
    )


def reason_of(error: BaseException) -> str:
    """What a record says of an error, never empty: its message, after the name of its class unless that is ours."""
    message, name = str(error).strip(), type(error).__name__
    if not message:
        return name
    return message if isinstance(error, BenchError) else f"{name}: {message}"


def failure_of(error: BaseException) -> Failure:
    """The kind of a failure: which of them may pass when the run is tried again depends on it."""
    message = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in message for sign in OUT_OF_MEMORY):
        return "memory"
    if isinstance(error, loop.Diverged):
        return "diverged"
    if isinstance(error, BadData):
        return "data"
    return "system" if isinstance(error, OSError) else "error"


def _run(
    job: Job,
    net: ModelView,
    notes: dict[str, str],
    files: dict[str, np.ndarray],
    kept: list[TunedModel],
    on_progress: Callable[[loop.Progress], None],
    checkpoints: Checkpoints | None,
) -> dict[str, object]:
    spec, protocol = job.spec, job.spec.protocol
    size = protocol.image_size or backbones.input_size(net.model)
    notes["weights_sha256"] = backbones.weights_digest(net.model)
    notes["transform"] = f"RGB, resized to {size}x{size} (bicubic), mean/std {backbones.normalisation(net.model)}"
    if protocol.head == "texts":
        notes["texts_sha256"] = text_features(job).sha256
    whole = load_training(job, protocol, size)
    if protocol.shots is not None:
        notes["shots_sha256"] = fewshot.digest(fewshot.sample(whole.train.labels, protocol.shots, spec.seed))
    protocol, trials = search(job, whole, protocol, on_progress, checkpoints)
    splits = apply_split_rules(whole, protocol, spec.seed)
    held_out = protocol.train_on == "train"
    train = splits.train if held_out else splits.train + splits.val
    _restart_peak(job)
    trained = loop.fit_job(job, net, protocol, train, splits.val if held_out else None, on_progress, checkpoints)
    peak = _peak(job)

    test, metric, view = load_test(job, protocol, size, trained), job.card.metric, trained.tuned.view
    _restart_peak(job)
    logits, inference_rate = _timed(view, test, protocol)
    inference_peak = _peak(job)
    files.update(labels=_small(test.labels), predictions=_small(logits.argmax(1)))
    if job.keep_delta:
        kept.append(trained.tuned)
    if metric in ("map11", "auc"):
        files["logits"] = logits.astype(np.float16)
    score = metrics.score(metric, logits, test.labels)
    merged = cost.merged(job.method, view)
    few = np.arange(min(TIMED, len(test)))
    return {
        "scores": Scores(metric, protocol.choose, score, len(test), trained.val, pe(score, _deployed(view))),
        "cost": Cost(
            params=_params(trained),
            storage_bytes=cost.storage(job.method, view),
            unmerged=cost.compute(view, size),
            merged=cost.compute(merged, size) if merged else None,
            flops_counter=cost.COUNTER,
            train_seconds=trained.seconds,
            train_images_per_second=trained.images_per_second,
            inference_images_per_second=inference_rate,
            peak_bytes=peak,
            peak_inference_bytes=inference_peak,
            train_bytes=_train_bytes(trained, protocol, size),
            inference_bytes=_inference_bytes(view, protocol, size),
            merged_images_per_second=_timed(merged, test.take(few), protocol)[1] if merged else None,
        ),
        "milestones": _milestones(trained, protocol, test, metric, size, score) if len(trained.snapshots) > 1 else (),
        "epochs": trained.epochs,
        "trials": trials,
    }


def _milestones(
    trained: loop.Trained, protocol: Protocol, test: ArraySplit, metric: Metric, size: int, score: float
) -> tuple[Milestone, ...]:
    """The model at the end of each phase, come back to and scored; it is left as it is reported, with `score`."""
    tuned, found = trained.tuned, []
    for snapshot in trained.snapshots:
        tuned.restore(snapshot.model)
        same = snapshot.model is trained.reported
        found.append(
            Milestone(
                name=snapshot.name,
                epoch=snapshot.epoch,
                score=score if same else inference.evaluate(tuned.view, test, metric, protocol.precision),
                params=_params(trained),
                storage_bytes=cost.storage(tuned.method, tuned.view),
                unmerged=cost.compute(tuned.view, size),
                sizes=tuned.method.sizes(tuned.view),
            )
        )
    tuned.restore(trained.reported)
    return tuple(found)


def _params(trained: loop.Trained) -> Params:
    """Of the model as it is now."""
    view = trained.tuned.view
    head = cost.head_params(view)
    return Params(
        method=trained.max_trainable_params - head,
        deployed=cost.method_params(view),
        head=head,
        total=cost.total_params(view),
        with_gradient=trained.params_with_grad,
    )


def _restart_peak(job: Job) -> None:
    if job.device == "cuda":
        torch.cuda.reset_peak_memory_stats()


def _peak(job: Job) -> int | None:
    """Bytes of an accelerator's memory, at most, since `_restart_peak`."""
    return torch.cuda.max_memory_allocated() if job.device == "cuda" else None


def _train_bytes(trained: loop.Trained, protocol: Protocol, size: int) -> int:
    """Of the phase that needs most: a method may prune. The model is left as it is reported."""
    tuned, found = trained.tuned, []
    for snapshot in trained.snapshots:
        tuned.restore(snapshot.model)
        with inference.autocast(tuned.view, protocol.precision):
            found.append(memory.training(tuned.view, size, protocol.batch_size, memory.MOMENTS[protocol.optimizer]))
    tuned.restore(trained.reported)
    return max(found)


def _inference_bytes(view: ModelView, protocol: Protocol, size: int) -> int:
    with inference.autocast(view, protocol.precision):
        return memory.inference(view, size)


def _timed(view: ModelView, split: ArraySplit, protocol: Protocol) -> tuple[np.ndarray, float]:
    """What the model says of the images, and of how many a second."""
    begin = time.perf_counter()
    logits = inference.predict(view, split, protocol.precision)
    return logits, len(split) / (time.perf_counter() - begin)


def _deployed(view: ModelView) -> int:
    return cost.method_params(view) + cost.head_params(view)


def _small(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8 if values.max() < 256 else np.uint16)


def _save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
