"""What every method owes, whoever wrote it. `bench check NAME|FILE` and the test suite run the same list.

Each check builds what it needs from scratch on random weights and raises Fault, with a sentence, where a promise is
broken.
"""

from __future__ import annotations

import copy
import multiprocessing
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import load as load_safetensors
from safetensors.torch import save as save_safetensors
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError, Incompatible, SideChannelError
from bench.core.spec import Protocol
from bench.data.splits import ArraySplit
from bench.models import backbones, cost, registry
from bench.models.families import build_view
from bench.models.method import Method, attach, build, optimizer_groups
from bench.models.tuned_model import TunedModel
from bench.models.view import ModelView
from bench.training import loop

CLASSES, BATCH, STEPS = 5, 4, 3
PHASES = 8  # epochs to divide among a method's phases
LABELS = torch.arange(BATCH) % CLASSES
PROTOCOL = Protocol("check", "adamw", 1e-2, 0.0, PHASES, 0.1, BATCH, "train", "last", (0,))


class Fault(BenchError):
    """A promise that a method does not keep."""


@dataclass(frozen=True)
class Case:
    method: Method
    backbone: str
    _trained: dict[torch.dtype, ModelView] = field(default_factory=dict, init=False, repr=False, compare=False)

    def bare(self, dtype: torch.dtype = torch.float32) -> nn.Module:
        """The backbone, every vector randomised so that nothing can hide behind a zero or a one."""
        torch.manual_seed(0)
        model = backbones.create(self.backbone, classes=CLASSES, weights="random")
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.ndim < 2:
                    parameter.add_(0.1 * torch.randn_like(parameter))
        return model.to(dtype)

    def fresh(self, dtype: torch.dtype = torch.float32, seed: int = 1) -> ModelView:
        net = build_view(self.bare(dtype))
        torch.manual_seed(seed)
        attach(self.method, net)
        self.method.calibrate(net, self.batches(dtype))
        return net

    def images(self, dtype: torch.dtype = torch.float32) -> Tensor:
        size = backbones.size_of(self.backbone)
        return torch.randn(BATCH, 3, size, size, generator=torch.Generator().manual_seed(2)).to(dtype)

    def batches(self, dtype: torch.dtype) -> Callable[[int], Iterator[tuple[Tensor, Tensor]]]:
        """The check's own images as training data."""
        return lambda count: iter([(self.images(dtype), LABELS)] * count)

    def trained(self, dtype: torch.dtype = torch.float32) -> ModelView:
        """A copy of the case's trained model: most checks want one, and training is what they spend their time on."""
        if dtype not in self._trained:
            self._trained[dtype] = self.train(dtype)
        return copy.deepcopy(self._trained[dtype])

    def train(self, dtype: torch.dtype = torch.float32) -> ModelView:
        """After a few steps on random labels, with whatever the method does between its phases."""
        net = self.fresh(dtype)
        phases = self.method.phases(PHASES)
        for phase in phases:
            steps(self.method, net, self.images(dtype))
            if phase.then:
                phase.then(net, self.batches(dtype))
        return net


def steps(method: Method, net: ModelView, images: Tensor) -> None:
    """A few optimiser steps, large enough to see."""
    optimizer = torch.optim.AdamW(optimizer_groups(method, net, lr=1e-2, weight_decay=0.0))
    net.pet.train()
    for _ in range(STEPS):
        optimizer.zero_grad()
        loss(method, net, net.model(images)).backward()
        optimizer.step()


def loss(method: Method, net: ModelView, out: Tensor) -> Tensor:
    """Cross-entropy of the check's labels, with the term that the method adds."""
    term = method.loss(out, LABELS, net)
    return F.cross_entropy(out, LABELS) if term is None else F.cross_entropy(out, LABELS) + term


@torch.no_grad()
def logits(net: ModelView, images: Tensor) -> Tensor:
    out: Tensor = net.model.eval()(images)
    return out


def starts_as_declared(case: Case) -> None:
    """The outputs before training are the backbone's, exactly if `identity_at_start` says so."""
    x = case.images(torch.float64)
    with torch.no_grad():
        before = case.bare(torch.float64)(x)
    same = torch.allclose(before, logits(case.fresh(torch.float64), x), rtol=0, atol=1e-12)
    if same != type(case.method).identity_at_start:
        raise Fault(f"identity_at_start is {not same}, but the outputs {'are' if same else 'are not'} the backbone's.")


def every_trained_tensor_moves(case: Case) -> None:
    """Three steps change every tensor that is declared trainable."""
    net = case.fresh()
    before = {name: p.detach().clone() for name, p in net.trainable_parameters().items()}
    steps(case.method, net, case.images())
    stuck = [name for name, p in net.trainable_parameters().items() if torch.equal(p, before[name])]
    if stuck:
        raise Fault(f"Trainable, but not moved by {STEPS} steps: {', '.join(stuck[:5])}.")


def groups_train(case: Case) -> None:
    """Every group of `param_groups` has trained parameters, and a rate above zero."""
    net = case.fresh()
    try:
        optimizer_groups(case.method, net, lr=1.0, weight_decay=0.0)
    except BenchError as error:
        raise Fault(str(error)) from error


def validation_does_not_train(case: Case) -> None:
    """Two trainings by the harness's own loop, whose validation splits have other labels, end with the same bits."""
    size = backbones.size_of(case.backbone)
    images = np.random.default_rng(0).integers(0, 256, (2 * BATCH, size, size, 3), dtype=np.uint8)
    labels, ends = LABELS.numpy(), []
    for of_validation in (labels, labels[::-1].copy()):
        net, phases = case.fresh(), case.method.phases(len(case.method.phases(PHASES)))
        train, val = ArraySplit(images[:BATCH], labels), ArraySplit(images[BATCH:], of_validation)
        torch.manual_seed(4)
        loop.fit(TunedModel(net.model, net, case.method), phases, PROTOCOL, train, val, seed=0)
        ends.append(cost.delta(net))
    one, other = ends
    if set(one) != set(other) or any(not torch.equal(one[name], other[name]) for name in one):
        raise Fault("What was trained depends on the labels of the validation split.")


def frozen_tensors_stay(case: Case) -> None:
    """Every other tensor of the model, buffers included, is bit-identical after training."""
    net = case.fresh()
    ids = {id(p) for p in net.trainable_parameters().values()}  # a shared parameter has several names
    trained = {name for name, p in net.model.named_parameters(remove_duplicate=False) if id(p) in ids}
    before = {name: value.clone() for name, value in net.model.state_dict().items() if name not in trained}
    steps(case.method, net, case.images())
    after = net.model.state_dict()
    moved = [name for name, value in before.items() if not torch.equal(value, after[name])]
    if moved:
        raise Fault(f"Frozen, but changed by training: {', '.join(moved[:5])}.")


def images_do_not_mix(case: Case) -> None:
    """An image's output is the same alone, in a batch, and in a permuted batch."""
    net, x = case.trained(torch.float64), case.images(torch.float64)
    batch, order = logits(net, x), torch.tensor([2, 0, 3, 1])
    alone = torch.cat([logits(net, image[None]) for image in x])
    for name, other in (("alone", alone), ("in a permuted batch", logits(net, x[order])[order.argsort()])):
        gap = float((other - batch).abs().max())
        if gap > 1e-10:
            raise Fault(f"An image's output {name} differs from that in its batch by {gap:.1e}.")


def count_is_declared(case: Case) -> None:
    """The closed form `count` gives the number of parameters that train."""
    net = case.fresh()
    declared = case.method.count(net.shape)
    counted = cost.method_params(net)
    if declared is not None and declared != counted:
        raise Fault(f"count() says {declared}, {counted} parameters train.")


def delta_restores(case: Case) -> None:
    """The trained tensors, loaded into a fresh model, give the same outputs to the bit."""
    net, x = case.trained(), case.images()
    stored = cost.delta(net)
    other = case.fresh(seed=3)
    case.method.reshape(other, stored)
    cost.restore(other, stored)
    if not torch.equal(logits(net, x), logits(other, x)):
        raise Fault("The delta loaded into a fresh model gives other outputs.")


def packed_delta_restores(case: Case) -> None:
    """What `pack` stores, read back from bytes and unpacked, gives the same outputs to the bit, and is no larger."""
    if type(case.method).pack is Method.pack:
        return
    net, x, other = case.trained(), case.images(), case.fresh(seed=3)
    raw = save_safetensors(cost.delta(net))
    stored = save_safetensors(dict(case.method.pack(net, cost.delta(net))))
    tensors = case.method.unpack(other, load_safetensors(stored))
    case.method.reshape(other, tensors)
    cost.restore(other, tensors)
    if not torch.equal(logits(net, x), logits(other, x)):
        raise Fault("The delta as it is packed, loaded into a fresh model, gives other outputs.")
    if len(stored) > len(raw):
        raise Fault(f"The packed delta has {len(stored):,} bytes, more than the {len(raw):,} of the delta itself.")


def copies_are_independent(case: Case) -> None:
    """A deep copy trains, leaves the original as it was, and does not feel what happens to the original."""
    net, x = case.fresh(), case.images()
    before = logits(net, x)
    twin = copy.deepcopy(net)
    steps(case.method, twin, x)
    if not torch.equal(before, logits(net, x)):
        raise Fault("Training a deep copy changed the original's outputs.")
    trained = logits(twin, x)
    with torch.no_grad():
        for parameter in net.trainable_parameters().values():
            parameter.normal_()
    if not torch.equal(trained, logits(twin, x)):
        raise Fault("Changing the original changed the outputs of a deep copy.")


def seed_decides(case: Case) -> None:
    """The same seed trains the same model, to the bit."""
    first, second = (logits(net, case.images()) for net in (case.trained(), case.train()))
    if not torch.equal(first, second):
        raise Fault("Two trainings under one seed give different outputs.")


def runs_in_bfloat16(case: Case) -> None:
    """Under bf16 autocast the outputs stay near those in float32, and every trained tensor gets a finite gradient."""
    net, x = case.trained(), case.images()
    exact = logits(net, x)
    with torch.autocast(x.device.type, torch.bfloat16):
        out = net.model(x)
    net.model.zero_grad(set_to_none=True)
    loss(case.method, net, out.float()).backward()
    gap = float((out.detach().float() - exact).abs().max() / exact.abs().max())
    if not gap < 0.1:
        raise Fault(f"Outputs under bf16 autocast differ by {gap:.0%} of the largest.")
    wrong = [n for n, p in net.trainable_parameters().items() if p.grad is None or not bool(p.grad.isfinite().all())]
    if wrong:
        raise Fault(f"No finite gradient under bf16 autocast: {', '.join(wrong[:5])}.")


def gradients(method: Method, net: ModelView, model: Callable[[Tensor], Tensor], images: Tensor) -> dict[str, Tensor]:
    net.pet.eval()  # no dropout: it would hide what is compared
    net.model.zero_grad(set_to_none=True)
    loss(method, net, model(images)).backward()
    return {name: p.grad.clone() for name, p in net.trainable_parameters().items() if p.grad is not None}


def _compare(expected: dict[str, Tensor], found: dict[str, Tensor], what: str) -> None:
    for name, grad in expected.items():
        if name not in found or not torch.allclose(grad, found[name], rtol=1e-6, atol=1e-9):
            raise Fault(f"{what}, {name} gets another gradient.")


def gradients_survive_checkpointing(case: Case) -> None:
    """With every block recomputed in the backward pass the gradients are the same, or the method refuses."""
    net, x = case.trained(torch.float64), case.images(torch.float64)
    if not hasattr(net.model, "set_grad_checkpointing"):
        return
    expected = gradients(case.method, net, net.model, x)
    net.model.set_grad_checkpointing(True)  # type: ignore[operator]
    try:
        found = gradients(case.method, net, net.model, x)
    except SideChannelError:
        return
    _compare(expected, found, "With gradient checkpointing")


def compiles(case: Case) -> None:
    """The model as torch.compile captures it gives the same gradients. (No code is generated: that takes minutes.)"""
    net, x = case.trained(torch.float64), case.images(torch.float64)
    expected = gradients(case.method, net, net.model, x)
    torch._dynamo.reset()
    found = gradients(case.method, net, torch.compile(net.model, backend="eager"), x)
    torch._dynamo.reset()
    _compare(expected, found, "Compiled")


def merging_is_exact(case: Case) -> None:
    """A merged model has the backbone's own modules and FLOPs, and in float64 the same outputs to 1e-12."""
    net, x = case.trained(torch.float64), case.images(torch.float64)
    merged = cost.merged(case.method, net)
    if (merged is not None) != type(case.method).merges:
        raise Fault(f"merges is {type(case.method).merges}, but the model {'does not' if merged is None else 'does'}.")
    if merged is None:
        return
    gap = float((logits(merged, x) - logits(net, x)).abs().max() / logits(net, x).abs().max())
    if gap > 1e-12:
        raise Fault(f"The merged model's outputs differ by {gap:.1e}.")
    if merged.pet:
        raise Fault(f"The merged model still has {', '.join(merged.pet)}.")
    merged.model.float()
    size = backbones.size_of(case.backbone)
    flops, bare = (cost.compute(model, size).flops for model in (merged, build_view(case.bare())))
    if flops != bare:
        raise Fault(f"The merged model takes {flops:,} FLOPs, the backbone {bare:,}.")


CHECKS: tuple[Callable[[Case], None], ...] = (
    starts_as_declared,
    every_trained_tensor_moves,
    groups_train,
    validation_does_not_train,
    frozen_tensors_stay,
    images_do_not_mix,
    count_is_declared,
    delta_restores,
    packed_delta_restores,
    copies_are_independent,
    seed_decides,
    runs_in_bfloat16,
    gradients_survive_checkpointing,
    compiles,
    merging_is_exact,
)


def refused(case: Case) -> str | None:
    """Why the method does not take this backbone, or this size of it; None where it does."""
    try:
        case.fresh()
    except Incompatible as refusal:
        return str(refusal) or "Incompatible, without a reason."
    return None


def run(method: Method, backbone: str) -> Iterator[tuple[str, str | None]]:
    """Each check's name with what it found, None where all is well; a method that refuses the backbone yields once."""
    case = Case(method, backbone)
    try:
        refusal = refused(case)
    except Exception as error:
        yield "attaches", str(error) if isinstance(error, Fault) else f"{type(error).__name__}: {error}"
        return
    if refusal:
        yield "refuses", refusal
        return
    for check in CHECKS:
        try:
            check(case)
            yield check.__name__, None
        except Fault as fault:
            yield check.__name__, str(fault)
        except Exception as error:  # a broken method is what this command is for
            yield check.__name__, f"{type(error).__name__}: {error}"


def run_all(
    cases: Sequence[tuple[str, str]], settings: Mapping[str, str], plugins: tuple[Path, ...]
) -> Iterator[list[tuple[str, str | None]]]:
    """What `run` finds for each (method, backbone), in order; several at a time where there are several cores."""
    jobs = [(name, backbone, dict(settings), plugins) for name, backbone in cases]
    workers = min(len(jobs), os.cpu_count() or 1)
    if workers == 1:
        yield from map(_run_one, jobs)
        return
    others = set(multiprocessing.active_children())
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        try:
            yield from pool.map(_run_one, jobs)
        except BrokenProcessPool as error:
            raise BenchError(
                "A process of the check died. Was memory short? Then check one method at a time."
            ) from error
        finally:  # whoever stops listening, at Ctrl-C for one, does not wait for what still runs
            for worker in set(multiprocessing.active_children()) - others:
                worker.kill()


def _run_one(job: tuple[str, str, dict[str, str], tuple[Path, ...]]) -> list[tuple[str, str | None]]:
    name, backbone, settings, plugins = job
    return list(run(build(registry.load(name, plugins), settings, name), backbone))
