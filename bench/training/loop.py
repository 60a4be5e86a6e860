"""The one training loop: phases of a protocol over arrays in memory."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.configs import Metric
from bench.core.errors import BenchError
from bench.core.record import Epoch
from bench.core.spec import Protocol, stream
from bench.data.augment import augments
from bench.data.splits import ArraySplit, TrainingOutcome, issue
from bench.models import tuned_model
from bench.models.method import Phase
from bench.models.tuned_model import TunedModel
from bench.models.view import ModelView
from bench.training import frozen
from bench.training.batches import BatchLoader, fixed_batches
from bench.training.checkpoint import Checkpoints
from bench.training.inference import evaluate
from bench.training.job import Job
from bench.training.setup import phases_of
from bench.training.state import Best, Snapshot, TrainingState, resume, seeded

ZERO_SHOT = "zero-shot"  # the milestone before training, where the head starts from texts


class Diverged(BenchError):
    """The loss stopped being a number."""


@dataclass(frozen=True)
class Progress:
    phase: str
    epoch: int  # finished ones, over all phases
    epochs: int
    loss: float
    images_per_second: float


@dataclass(frozen=True, eq=False)
class Trained(TrainingOutcome):
    tuned: TunedModel  # as it is reported: at the end, or with the best validation score, as the protocol says
    reported: tuned_model.Snapshot  # the same
    snapshots: tuple[Snapshot, ...]  # one for each phase that counts; the last is the final model; first "zero-shot"
    val: float | None  # score of the reported model on the validation split, where that was not trained on
    epochs: tuple[Epoch, ...]
    params_with_grad: int  # parameters that received a non-zero gradient, head included
    max_trainable_params: int  # trained parameters at their most, head included
    seconds: float
    images: int  # seen in training

    @property
    def images_per_second(self) -> float:
        return self.images / self.seconds


def fit(
    tuned: TunedModel,
    phases: Sequence[Phase],
    protocol: Protocol,
    train: ArraySplit,
    val: ArraySplit | None,
    *,
    seed: int,
    metric: Metric = "top1",
    on_progress: Callable[[Progress], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Trains what is trainable in a model whose method was just attached and may look at the data first; `seed` orders
    them.

    The backbone stays in eval mode throughout: no dropout, no drop-path; what a method adds is in training mode while
    it trains. Where nothing but the head trains, the features of the frozen backbone are computed once. With
    `checkpoints` a training that was cut goes on at the end of an epoch, and ends with the same bits on a CPU.

    With the protocol's `val_target` a later phase whose score on the validation split, at its end, is lower than that
    share of the first phase's ends the training, and the model of the phase before it is reported (Marouf et al. 2024,
    section 3.2: the stopping criterion that it names beside a compression rate).

    Raises Diverged where the loss is no longer finite.
    """
    start, net = time.perf_counter(), tuned.view
    batches = fixed_batches(net, train, protocol.batch_size, seed)
    tuned.calibrate(batches)
    resumed = resume(tuned, checkpoints) if checkpoints else None
    run = resumed or TrainingState(tuned, seeded(seed))
    if protocol.head == "texts" and resumed is None:
        run.snapshots.append(Snapshot(ZERO_SHOT, 0, tuned.snapshot()))
    run.began = start
    total = sum(phase.epochs for phase in phases)
    while run.phase < len(phases):
        phase = phases[run.phase]
        loader, optimizer = _loader(net, train, protocol), make_optimizer(tuned, protocol)
        run.restore_optimizer_state(optimizer)
        run.max_trainable_params = max(
            run.max_trainable_params, sum(p.numel() for p in net.trainable_parameters().values())
        )
        steps = phase.epochs * math.ceil(len(train) / protocol.batch_size)
        while run.epoch < phase.epochs:
            began = time.perf_counter()
            loss, lr = _epoch(run, loader, optimizer, protocol, phase, steps, len(train), seed)
            if not math.isfinite(loss):
                raise Diverged(f"The loss was {loss} in epoch {len(run.epochs) + 1}: training has diverged.")
            seconds = time.perf_counter() - began
            val_score = evaluate(net, val, metric, protocol.precision) if val is not None else None
            run.epoch += 1
            run.epochs.append(Epoch(run.phase, loss, lr, seconds, val_score))
            better = val_score is not None and (run.best is None or val_score > run.best.score)
            if protocol.choose == "validation" and val_score is not None and better:
                run.best = Best(val_score, len(run.epochs), tuned.snapshot())
            on_progress(Progress(phase.name, len(run.epochs), total, loss, len(train) / seconds))
            if checkpoints and checkpoints.due() and run.epoch < phase.epochs:
                run.save(checkpoints, optimizer)
        if _misses_target(run, protocol):
            break
        if run.phase < len(phases) - 1:
            run.snapshots.append(Snapshot(phase.name, len(run.epochs), tuned.snapshot()))
            run.best = None  # the next phase's model is another model
            tuned.end_phase(phase, batches)
        else:
            tuned.end_phase(phase, batches)
            run.snapshots.append(Snapshot(phase.name, len(run.epochs), tuned.snapshot()))
        run.phase, run.epoch, run.step = run.phase + 1, 0, 0
        if checkpoints and checkpoints.due():
            run.save(checkpoints)
    net.pet.eval()
    if not all(bool(p.isfinite().all()) for p in net.trainable_parameters().values()):
        raise Diverged("A trained weight is not finite at the end: training has diverged.")
    reported = run.best.model if run.best else run.snapshots[-1].model
    if run.best or run.phase < len(phases):
        tuned.restore(reported)
    outcome = Trained(
        tuned=tuned,
        reported=reported,
        snapshots=tuple(run.snapshots),
        val=run.best.score if run.best else run.epochs[run.snapshots[-1].epoch - 1].val,
        epochs=tuple(run.epochs),
        params_with_grad=sum(run.params_with_grad.values()),
        max_trainable_params=run.max_trainable_params,
        seconds=run.seconds(),
        images=len(run.epochs) * len(train),
    )
    return issue(outcome)


def fit_job(
    job: Job,
    net: ModelView,
    protocol: Protocol,
    train: ArraySplit,
    val: ArraySplit | None,
    on_progress: Callable[[Progress], None] = lambda _: None,
    checkpoints: Checkpoints | None = None,
) -> Trained:
    """Trains a job's model under a protocol, which is the job's own or one of its search.

    Raises BackboneChanged where a tensor of the backbone changed that does not count as trained.
    """
    before = frozen.digests(net.model, net.head)
    outcome = fit(
        TunedModel(net.model, net, job.method),
        phases_of(job.method, protocol),
        protocol,
        train,
        val,
        seed=stream(job.spec, "data"),
        metric=job.card.metric,
        on_progress=on_progress,
        checkpoints=checkpoints,
    )
    frozen.check_trained(before, net)
    return outcome


def _epoch(
    run: TrainingState,
    loader: BatchLoader,
    optimizer: torch.optim.Optimizer,
    protocol: Protocol,
    phase: Phase,
    steps: int,
    images: int,
    seed: int,
) -> tuple[float, float]:
    """One pass over the training images: the mean loss, what the method adds included, and the last learning rate."""
    net, loss_sum, lr = run.tuned.view, torch.zeros((), device=loader.device), 0.0
    net.pet.train()
    for index in torch.randperm(images, generator=run.data_rng).split(protocol.batch_size):
        lr = protocol.lr * phase.lr_factor * schedule(run.step, steps, protocol.warmup)
        for group in optimizer.param_groups:
            group["lr"] = lr * group["lr_factor"]
        run.batches_seen += 1
        logits, labels = loader(index, seed + run.batches_seen)
        loss = loss_of(logits, labels, protocol.label_smoothing)
        if (term := run.tuned.method.loss(logits, labels, net)) is not None:
            loss = loss + term
        loss.backward()
        if run.step < 3:
            _note_gradients(run)
        if protocol.clip_norm is not None:
            nn.utils.clip_grad_norm_(net.trainable_parameters().values(), protocol.clip_norm)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        loss_sum += loss.detach() * len(index)
        run.step += 1
    return float(loss_sum) / images, lr


def _misses_target(run: TrainingState, protocol: Protocol) -> bool:
    """Whether the phase that has just ended scores too little on the validation split to be kept."""
    if protocol.val_target is None or run.phase == 0:
        return False
    first = [epoch.val for epoch in run.epochs if epoch.phase == 0][-1]
    last = run.epochs[-1].val
    if first is None or last is None:
        raise BenchError("val_target needs a validation split.")
    return last < protocol.val_target * first


def _loader(net: ModelView, train: ArraySplit, protocol: Protocol) -> BatchLoader:
    return BatchLoader(net, train, augments(protocol.augment), protocol.precision)


def _note_gradients(run: TrainingState) -> None:
    """Which tensors have received a gradient that is not zero: one round trip to an accelerator for all of them."""
    fresh = {
        name: p
        for name, p in run.tuned.trainable_parameters().items()
        if name not in run.params_with_grad and p.grad is not None
    }
    if fresh:
        touched = torch.stack([p.grad.any() for p in fresh.values() if p.grad is not None]).tolist()
        run.params_with_grad |= {
            name: p.numel() for (name, p), any_ in zip(fresh.items(), touched, strict=True) if any_
        }


def schedule(step: int, steps: int, warmup: float) -> float:
    """Factor on the learning rate at `step` of `steps`: linear warm-up, then a cosine that would reach 0 at `steps`."""
    ramp = max(1, round(warmup * steps))
    if step < ramp:
        return (step + 1) / ramp
    return 0.5 * (1 + math.cos(math.pi * (step - ramp) / (steps - ramp)))


def make_optimizer(tuned: TunedModel, protocol: Protocol) -> torch.optim.Optimizer:
    """Weight decay acts on tensors of two and more dimensions, never on vectors; groups of the method have their rates.

    Raises BenchError where one of them trains nothing.
    """
    groups = tuned.optimizer_groups(protocol.lr, protocol.weight_decay)
    if protocol.optimizer == "sgd":
        return torch.optim.SGD(groups, lr=protocol.lr, momentum=0.9)
    return torch.optim.AdamW(groups, lr=protocol.lr, fused=True)


def loss_of(logits: Tensor, labels: Tensor, smoothing: float) -> Tensor:
    """Cross-entropy; for labels (B, C), several classes to an image, binary cross-entropy of each class."""
    if labels.ndim == 2:
        return F.binary_cross_entropy_with_logits(logits, labels.to(logits.dtype))
    return F.cross_entropy(logits, labels, label_smoothing=smoothing)
