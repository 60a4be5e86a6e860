"""A model with a method on it: the one place where a method is attached, and what can be done with the two of them.

net = TunedModel.attach(timm_model, LoRA(rank=4))
optimizer = torch.optim.AdamW(net.optimizer_groups(lr=1e-3))
...  # train as any model: net(images) are the logits, net.loss(logits, labels) is the loss
net.save("delta.safetensors")
net.merge()
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import BenchError, Incompatible, UsageError
from bench.core.schema import plain
from bench.models import cost
from bench.models.families import build_view
from bench.models.method import Batches, Method, Phase, attach, optimizer_groups, params
from bench.models.view import ModelView

FORMAT = "petbench delta 1"  # of a file; its metadata say which method the tensors belong to
ROOM = 2**24  # bytes that a delta may be larger than its model twice over


@dataclass(frozen=True)
class Snapshot:
    """A tuned model at one moment, without the frozen backbone: copies of its tensors on the CPU, by name."""

    tensors: Mapping[str, Tensor]
    trained: frozenset[str]  # those of the names that train; the others are fixed tensors of the method


@dataclass(eq=False)
class TunedModel:
    """A backbone, frozen but for what a method trains and for its classifier, with the method on it.

    A model without a classifier (timm's `num_classes=0`) gives features, and then the method's parameters train alone.
    """

    model: nn.Module
    view: ModelView
    method: Method
    _untrained: dict[str, Tensor] = field(default_factory=dict, repr=False)  # what trains only since a later phase

    @classmethod
    def attach(cls, model: nn.Module, method: Method) -> TunedModel:
        """Freezes the model, which is changed in place, and puts the method on it.

        `model` is a timm VisionTransformer, SwinTransformer, SwinTransformerV2 or Eva, or a CvT of bench.models.cvt.
        What of the method starts at random is drawn from torch's generator.

        Raises UnsupportedBackbone where the model's blocks are not understood, Incompatible where the method does not
        fit them, UsageError where the model has a method on it already.
        """
        if len(getattr(model, "pet", ())):
            raise UsageError(f"This {type(model).__name__} has a method on it already. Attach to a new model.")
        view = build_view(model)
        attach(method, view)
        if not view.trainable_parameters():
            raise Incompatible(
                f"{type(method).__name__} trains nothing on this {type(model).__name__}: it has no classifier."
            )
        return cls(model, view, method)

    def __call__(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W), normalised as the backbone's checkpoint asks, to logits (B, classes)."""
        logits: Tensor = self.model(images)
        return logits

    def train(self, mode: bool = True) -> TunedModel:
        """What the method added is in training mode; the frozen backbone never is: no dropout, no drop-path."""
        self.model.eval()
        self.view.pet.train(mode)
        return self

    def eval(self) -> TunedModel:
        return self.train(False)

    def trainable_parameters(self) -> dict[str, nn.Parameter]:
        """Every parameter that trains, the classifier's included, by its name in the model."""
        return self.view.trainable_parameters()

    def calibrate(self, batches: Batches) -> None:
        """Lets the method look at training data, once, before the first step (`Method.calibrate`)."""
        self._unfreezing(lambda: self.method.calibrate(self.view, batches))

    def end_phase(self, phase: Phase, batches: Batches) -> None:
        """Does what the method does after the last step of one of its phases."""
        if phase.then is not None:
            then = phase.then
            self._unfreezing(lambda: then(self.view, batches))

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        """Cross-entropy of a training batch, logits (B, C) and labels (B), with the term that the method adds."""
        loss, term = F.cross_entropy(logits, labels), self.method.loss(logits, labels, self.view)
        return loss if term is None else loss + term

    def optimizer_groups(self, lr: float, weight_decay: float = 0.0) -> list[dict[str, Any]]:
        """The trained parameters as torch's optimisers take them, at the rates that the method gives its groups."""
        return optimizer_groups(self.method, self.view, lr, weight_decay)

    def merge(self) -> None:
        """Merges the trained update into the backbone's weights, in place: the model has its own modules again.

        Raises NotMergeable where that cannot be done exactly; the model is then as it was.
        """
        self.method.merge(self.view)

    def delta(self) -> dict[str, Tensor]:
        """Copies, on the CPU, of what turns the backbone into this model, by name: every trained tensor, the
        classifier's included, and the fixed tensors that the method drew or chose."""
        return {name: tensor.clone() for name, tensor in cost.delta(self.view).items()}

    def snapshot(self) -> Snapshot:
        """The present state, to come back to with `restore`."""
        return Snapshot(self.delta(), frozenset(self.trainable_parameters()))

    def restore(self, snapshot: Snapshot) -> None:
        """Gives the model the sizes, the trainable parameters and the values of a snapshot of it.

        torch's generator is left as it was. Raises UsageError where the snapshot is of another model.
        """
        self._reshape(snapshot.tensors)
        self._assign(snapshot)

    def save(self, path: str | Path) -> None:
        """Writes the delta as a safetensors file that says which method it belongs to."""
        save_file(dict(self.method.pack(self.view, self.delta())), path, self._metadata())

    def load(self, path: str | Path) -> None:
        """Takes the values of a file that `save` wrote, for this method on this backbone.

        Raises UsageError where the file is not one, or belongs to another method, other hyper-parameters, or another
        model; the model is then as it was.
        """
        stored = self._read(Path(path))
        buffers, before = set(self.view.saved_buffers()), self.snapshot()
        try:
            tensors = self.method.unpack(self.view, stored)
            self._check_numbers(tensors)
            self._reshape(tensors)
            missing = set(self.trainable_parameters()) - set(tensors) - set(self._untrained)
            if missing:
                raise UsageError(f"it lacks {', '.join(sorted(missing)[:3])}.")
            self._assign(Snapshot(tensors, frozenset(set(tensors) - buffers)))
        except Exception as error:
            self.restore(before)
            reason = str(error) if isinstance(error, UsageError) else f"{type(error).__name__}: {error}"
            raise UsageError(f"{path} does not fit {type(self.method).__name__} on this model: {reason}") from error

    def _reshape(self, tensors: Mapping[str, Tensor]) -> None:
        device = next(self.model.parameters()).device
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
            self.method.reshape(self.view, tensors)
        self.view.pet.train(self.view.pet.training)

    @torch.no_grad()
    def _assign(self, snapshot: Snapshot) -> None:
        parameters = dict(self.model.named_parameters())
        for name in snapshot.trained & set(parameters):
            if not parameters[name].requires_grad:
                self._untrained.setdefault(name, parameters[name].detach().clone())
        for name, parameter in parameters.items():
            parameter.requires_grad_(name in snapshot.trained)
        cost.restore(self.view, snapshot.tensors)
        for name in (set(self._untrained) - snapshot.trained) & set(parameters):
            parameters[name].copy_(self._untrained[name])

    def _metadata(self) -> dict[str, str]:
        return {
            "format": FORMAT,
            "method": type(self.method).__name__,
            "version": str(self.method.version),
            "settings": json.dumps(plain(params(self.method)), sort_keys=True),
            "backbone": type(self.model).__name__,
        }

    def _read(self, path: Path) -> dict[str, Tensor]:
        """The tensors of a file whose metadata are those of this model; names and shapes are not checked."""
        if not path.is_file():
            raise UsageError(f"There is no file {path}.")
        own = sum(tensor.nbytes for tensor in self.model.state_dict().values())
        if (size := path.stat().st_size) > 2 * own + ROOM:
            raise UsageError(f"{path} is larger ({size:,} bytes) than any delta of a model of {own:,} bytes.")
        try:
            with safe_open(path, "pt") as file:
                found: dict[str, str] = file.metadata() or {}
                for key, expected in self._metadata().items():
                    if found.get(key) != expected:
                        told = repr(found.get(key, "nothing"))[:200]
                        raise UsageError(f"{path} is for another model: its {key} is {told}, this one's {expected!r}.")
                return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise UsageError(f"{path} is not a safetensors file ({error}).") from error

    def _check_numbers(self, tensors: Mapping[str, Tensor]) -> None:
        dtype = next(self.model.parameters()).dtype
        buffers = self.view.saved_buffers()
        for name, tensor in tensors.items():
            expected = buffers[name].dtype if name in buffers else dtype
            if tensor.dtype != expected:
                raise UsageError(f"{name} is stored in {tensor.dtype}, this model computes in {expected}.")
            if not bool(tensor.isfinite().all()):
                raise UsageError(f"{name} has numbers that are not finite.")

    def _unfreezing(self, act: Callable[[], None]) -> None:
        """Lets the method act, and keeps the values of what it unfreezes: an earlier snapshot does not have them."""
        before = set(self.trainable_parameters())
        act()
        after = self.trainable_parameters()
        stopped = {name for name, _ in self.model.named_parameters() if name in before and name not in after}
        if stopped:
            few = ", ".join(sorted(stopped)[:3])
            raise BenchError(f"{type(self.method).__name__} freezes {few}: what has trained must go on training.")
        for name in set(after) - before:
            self._untrained.setdefault(name, after[name].detach().clone())
