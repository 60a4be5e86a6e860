"""execute(spec) -> Record: the one place where data, backbone, method, training and measures meet."""

from __future__ import annotations

import hashlib
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from torch import nn

from bench import __version__
from bench.core.configs import Dataset
from bench.core.errors import BadData, BenchError, Incompatible, UnsupportedBackbone, UsageError
from bench.core.record import Cost, Failure, Milestone, Params, Record, Scores, Trial
from bench.core.schema import parse, plain
from bench.core.spec import Protocol, RunSpec, stream
from bench.core.store import Store, write_atomically
from bench.data import fewshot, sources
from bench.data.augment import MARGIN
from bench.data.prepare import Transform
from bench.data.readers import folder
from bench.data.splits import ArraySplit, Splits
from bench.models import backbones, cost, registry
from bench.models.families import build_view
from bench.models.method import Method, Phase, params, variant
from bench.models.view import ModelView
from bench.training import loop, metrics, provenance
from bench.training.checkpoint import Checkpoints

EMPTY = np.arange(0)
NO_MEMORY = ("out of memory", "can't allocate memory")  # what allocators say, of accelerators and of torch on a CPU


@dataclass(frozen=True)
class Job:
    """A spec with what it takes to run it here: the built method, the data's whereabouts, the device."""

    spec: RunSpec
    method: Method
    card: Dataset
    source: folder.ImageFolder | sources.DatasetLocation | None = None  # where the data is, unless it is drawn
    weights_file: Path | None = None
    device: str = "cpu"


def make_job(
    name: str,
    method: Method,
    backbone: str,
    card: Dataset,
    protocol: Protocol,
    seed: int,
    *,
    weights: str = "pretrained",
    source: folder.ImageFolder | sources.DatasetLocation | None = None,
    device: str = "cpu",
) -> Job:
    """`weights`: "pretrained", "random", or the path of a safetensors file, whose digest then enters the spec."""
    file = None
    if weights not in ("pretrained", "random"):
        file = Path(weights)
        if not file.is_file():
            raise UsageError(f"--weights {weights} is neither 'pretrained' nor 'random' nor a file.")
        weights = f"sha256:{_file_digest(file)}"
    spec = RunSpec(name, method.version, params(method), backbone, weights, card.name, card.fingerprint, protocol, seed)
    return Job(spec, method, card, source, file, device)


@cache
def _file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16]


def execute(
    job: Job,
    store: Store | None = None,
    watch: Callable[[loop.Progress], None] = lambda _: None,
    *,
    checkpoints: Checkpoints | None = None,
    attempts: int = 1,
    guard: Callable[[], object] = lambda: None,
) -> Record:
    """Runs one spec and returns its record; with a `store`, the record and its predictions or traceback are written.

    What goes wrong becomes a failed record, what does not fit a skipped one. UsageError alone is raised: it is the
    question that is wrong. `guard` is asked before anything is written, and may raise.
    """
    if store and (existing := store.find(job.spec)) is not None and existing.status == "done":
        return existing  # made by another process meanwhile
    started, clock = datetime.now(UTC), time.perf_counter()
    provenance.code_version()  # before a commit made meanwhile could blur it
    notes: dict[str, str] = {}
    files: dict[str, np.ndarray] = {}

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
    try:
        results = _run(job, notes, files, watch, checkpoints)
        record = finish("done", None, **results)
    except (Incompatible, UnsupportedBackbone) as error:
        record = finish("skipped", str(error))
    except UsageError:
        raise
    except Exception as error:
        lines = traceback.format_exc()
        reason = str(error) if isinstance(error, BenchError) else f"{type(error).__name__}: {error}"
        record = finish("failed", reason, failure=failure_of(error), log=log.name if log else None)
        if log:
            guard()
            write_atomically(log, lambda file: file.write_text(lines))
    if store:
        guard()
        if files:
            write_atomically(store.path(job.spec).with_suffix(".npz"), lambda file: _save_npz(file, files))
        store.write(record)
    return record


def lost(job: Job, reason: str, attempts: int) -> Record:
    """The record of a run whose processes were killed without a word."""
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


def compatibility_key(job: Job) -> str:
    """What a checkpoint must have been made by for its training to go on here with the same numbers."""
    method = registry.source_digest(type(job.method))
    code = (__version__, provenance.code_version(), method, version("torch"), version("timm"))
    return f"{job.spec.digest} {code} {job.device} {torch.get_num_threads()} threads"


def failure_of(error: Exception) -> Failure:
    """The kind of a failure: which of them may pass when the run is tried again depends on it."""
    told = str(error).lower()
    if isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in told for sign in NO_MEMORY):
        return "memory"
    if isinstance(error, loop.Diverged):
        return "diverged"
    if isinstance(error, BadData):
        return "data"
    return "system" if isinstance(error, OSError) else "error"


def _run(
    job: Job,
    notes: dict[str, str],
    files: dict[str, np.ndarray],
    watch: Callable[[loop.Progress], None],
    checkpoints: Checkpoints | None,
) -> dict[str, object]:
    spec, protocol = job.spec, job.spec.protocol
    net = prepare_model(job)
    phases = phases_of(job.method, protocol)
    size = protocol.image_size or backbones.input_size(net.model)
    notes["weights_sha256"] = backbones.weights_digest(net.model)
    notes["transform"] = f"RGB, resized to {size}x{size} (bicubic), mean/std {backbones.normalisation(net.model)}"
    whole = _load(job, transform(protocol, size))
    if protocol.shots is not None:
        notes["shots_sha256"] = fewshot.digest(fewshot.sample(whole.train.labels, protocol.shots, spec.seed))
    protocol, trials = search(job, whole, protocol, watch, checkpoints)
    splits = apply_split_rules(whole, protocol, spec.seed)
    held_out = protocol.train_on == "train"
    data = splits.train if held_out else splits.train + splits.val
    if job.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    trained = _fit(job, net, protocol, data, splits.val if held_out else None, watch, checkpoints)
    peak = torch.cuda.max_memory_allocated() if job.device == "cuda" else None

    test = splits.test.open(trained)
    begin = time.perf_counter()
    logits = loop.predict(trained.reported, test)
    inference = len(test) / (time.perf_counter() - begin)
    files.update(labels=_small(test.labels), predictions=_small(logits.argmax(1)))
    if job.card.metric in ("map11", "auc"):
        files["logits"] = logits.astype(np.float16)
    metric = job.card.metric
    score = metrics.score(metric, logits, test.labels)
    most = trained.most - cost.head_params(net)
    merged = cost.merged(job.method, trained.reported)
    return {
        "scores": Scores(metric, protocol.choose, score, len(test), trained.val),
        "cost": Cost(
            params=_params(trained.reported, most, trained.with_gradient),
            storage_bytes=cost.storage(trained.reported),
            unmerged=cost.compute(trained.reported, size),
            merged=cost.compute(merged, size) if merged else None,
            flops_counter=cost.COUNTER,
            train_seconds=trained.seconds,
            train_images_per_second=trained.images_per_second,
            inference_images_per_second=inference,
            peak_bytes=peak,
        ),
        "milestones": tuple(
            Milestone(
                name=snapshot.name,
                epoch=snapshot.epoch,
                score=score if snapshot.net is trained.reported else loop.evaluate(snapshot.net, test, metric),
                params=_params(snapshot.net, most, trained.with_gradient),
                storage_bytes=cost.storage(snapshot.net),
                unmerged=cost.compute(snapshot.net, size),
                sizes=job.method.sizes(snapshot.net),
            )
            for snapshot in trained.snapshots
            if len(phases) > 1
        ),
        "epochs": trained.epochs,
        "trials": trials,
    }


def _load(job: Job, how: Transform) -> Splits:
    try:
        return sources.load(job.card, how, job.source)
    except UsageError as error:
        raise BadData(str(error)) from error


def transform(protocol: Protocol, size: int) -> Transform:
    """How images are prepared for a backbone that sees `size` pixels: larger where the protocol augments them."""
    return Transform(size if protocol.augment == "none" else round(size * MARGIN), protocol.resize)


def image_size(backbone: str, protocol: Protocol) -> int:
    """Side of the square that a backbone sees under a protocol, in pixels."""
    return protocol.image_size or backbones.size_of(backbone)


def phases_of(method: Method, protocol: Protocol) -> tuple[Phase, ...]:
    """The method's phases; where the protocol's epochs are those of one phase, as many times the epochs."""
    if protocol.epochs_of == "run":
        return method.phases(protocol.epochs)
    return method.phases(protocol.epochs * len(method.phases(10**6)))


def search(
    job: Job,
    splits: Splits,
    protocol: Protocol,
    watch: Callable[[loop.Progress], None] = lambda _: None,
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
            val = _fit(job, prepare_model(job), tried, parts.train, parts.val, watch, own).val
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


def _fit(
    job: Job,
    net: ModelView,
    protocol: Protocol,
    data: ArraySplit,
    val: ArraySplit | None,
    watch: Callable[[loop.Progress], None],
    checkpoints: Checkpoints | None,
) -> loop.Trained:
    return loop.fit(
        net,
        phases_of(job.method, protocol),
        protocol,
        data,
        val,
        seed=stream(job.spec, "data"),
        metric=job.card.metric,
        method=job.method,
        watch=watch,
        checkpoints=checkpoints,
    )


def apply_split_rules(splits: Splits, protocol: Protocol, seed: int) -> Splits:
    """The splits as the protocol trains on them: `shots` images a class, drawn by the seed; val cut off train."""
    train_split, val = splits.train, splits.val
    if protocol.shots is not None:
        train_split, val = (
            train_split.take(np.array(fewshot.sample(train_split.labels, protocol.shots, seed))),
            val.take(EMPTY),
        )
    share = protocol.val_share or (0.2 if protocol.train_on == "train" and len(val) == 0 else None)
    if share is not None:
        keep, cut = map(np.array, fewshot.holdout_split(train_split.labels, share))
        train_split, val = train_split.take(keep), train_split.take(cut)
    return Splits(train_split, val, splits.test, splits.classes, splits.fingerprint)


def prepare_model(job: Job) -> ModelView:
    """The backbone, dissected, with a head drawn from the "head" stream and the method attached."""
    torch.manual_seed(job.spec.seed)  # a backbone with random weights
    weights = str(job.weights_file or job.spec.weights)
    model = backbones.create(
        job.spec.backbone,
        classes=job.card.classes,
        weights=weights,
        device=job.device,
        image_size=job.spec.protocol.image_size,
    )
    net = build_view(model)
    draw_head(net, stream(job.spec, "head"))
    torch.manual_seed(stream(job.spec, "method"))
    job.method.attach(net)
    return net


def draw_head(net: ModelView, seed: int) -> None:
    """Weights from a normal distribution of std 0.02 cut at two, biases zero."""
    weight = torch.empty(net.head.weight.shape)
    nn.init.trunc_normal_(weight, std=0.02, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        net.head.weight.copy_(weight)
        net.head.bias.zero_()


def _params(net: ModelView, largest: int, with_gradient: int) -> Params:
    deployed = cost.method_params(net)
    return Params(largest, deployed, cost.head_params(net), cost.total_params(net), with_gradient)


def _small(values: np.ndarray) -> np.ndarray:
    return values.astype(np.uint8 if values.max() < 256 else np.uint16)


def _save_npz(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with open(path, "wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
