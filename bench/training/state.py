"""How far a training has come: all that its next step depends on, put down and taken up again."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.core.record import Epoch
from bench.core.schema import parse, plain
from bench.models import cost
from bench.models.method import Method
from bench.models.view import ModelView
from bench.training.checkpoint import Checkpoints

COUNTERS = ("phase", "epoch", "step", "drawn", "most", "touched")


@dataclass(frozen=True)
class Snapshot:
    """The model as it stood at the end of a phase."""

    name: str
    epoch: int
    net: ModelView


@dataclass(frozen=True)
class Best:
    """The model with the best score on the validation split so far, in the present phase."""

    score: float
    epoch: int
    net: ModelView


@dataclass
class TrainingState:
    net: ModelView
    order: torch.Generator  # of the data
    phase: int = 0
    epoch: int = 0  # of the phase
    step: int = 0  # of the phase
    drawn: int = 0  # batches so far: each has its own augmentation, the same for every method
    most: int = 0  # trained parameters at their most
    touched: dict[str, int] = field(default_factory=dict)  # parameters that have received a gradient, with their number
    epochs: list[Epoch] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)  # one for each phase that has ended
    best: Best | None = None
    waiting: dict[int, dict[str, Tensor]] = field(default_factory=dict)  # state for the optimiser that is to be made
    before: float = 0.0  # seconds of training before it was cut
    began: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def restore_optimizer_state(self, optimizer: torch.optim.Optimizer) -> None:
        """Gives a new optimiser the state that the checkpoint kept of the one before it."""
        if self.waiting:
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": self.waiting, "param_groups": groups})
            self.waiting = {}

    def save(self, checkpoints: Checkpoints, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Puts everything down; "last", which names the other files, when they are there. Between two phases there is
        no optimiser."""
        snapshots: list[tuple[str, int, str | None]] = []
        for number, snapshot in enumerate(self.snapshots):
            own = snapshot.net is not self.net
            snapshots.append((snapshot.name, snapshot.epoch, f"phase{number}" if own else None))
            if own and not checkpoints.path(f"phase{number}").is_file():
                _save(checkpoints, f"phase{number}", snapshot.net)
        best = f"best{self.best.epoch}" if self.best else None
        if self.best and best and not checkpoints.path(best).is_file():
            _save(checkpoints, best, self.best.net)
        tensors = {f"net {name}": tensor for name, tensor in cost.delta(self.net).items()}
        tensors |= {"order": self.order.get_state(), "chance": torch.get_rng_state()}
        if torch.cuda.is_initialized():
            tensors["chance cuda"] = torch.cuda.get_rng_state()
        for index, state in (optimizer.state_dict()["state"] if optimizer else {}).items():
            tensors |= {f"optimizer {index} {key}": value for key, value in state.items() if value is not None}
        facts = {name: getattr(self, name) for name in COUNTERS} | {
            "trained": list(self.net.trainable_parameters()),
            "epochs": plain(self.epochs),
            "snapshots": snapshots,
            "best": [self.best.score, self.best.epoch, best] if self.best else None,
            "seconds": self.seconds(),
        }
        checkpoints.save("last", tensors, facts)
        for path in checkpoints.folder.glob("best*.safetensors"):
            if path.stem != best:
                path.unlink()


def resume(net: ModelView, method: Method, checkpoints: Checkpoints) -> TrainingState | None:
    """The course that was put down last, and `net` as it was then; None where there is none to go on from.

    `net` has the method freshly attached. A file that is missing or of another maker means to start anew.
    """
    found = checkpoints.load("last")
    if found is None:
        return None
    tensors, facts = found
    asked = [file for *_, file in facts["snapshots"] + ([facts["best"]] if facts["best"] else []) if file]
    stored = {file: checkpoints.load(file) for file in asked}
    nets: dict[str | None, ModelView] = {None: net}
    for file, model in stored.items():
        if model is None:
            return None
        nets[file] = _become(net.snapshot(), method, model[0], model[1]["trained"])
    delta = {key.removeprefix("net "): tensor for key, tensor in tensors.items() if key.startswith("net ")}
    _become(net, method, delta, facts["trained"])
    course = TrainingState(net, seeded(0), before=facts["seconds"])
    for name in COUNTERS:
        setattr(course, name, facts[name])
    course.epochs = [parse(Epoch, epoch, "checkpoint") for epoch in facts["epochs"]]
    course.snapshots = [Snapshot(name, epoch, nets[file]) for name, epoch, file in facts["snapshots"]]
    if facts["best"]:
        score, epoch, file = facts["best"]
        course.best = Best(score, epoch, nets[file])
    for key, tensor in tensors.items():
        if key.startswith("optimizer "):
            _, index, name = key.split(" ")
            course.waiting.setdefault(int(index), {})[name] = tensor
    course.order.set_state(tensors["order"])
    torch.set_rng_state(tensors["chance"])  # last: attaching and reshaping have drawn from it
    if "chance cuda" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["chance cuda"])
    return course


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _save(checkpoints: Checkpoints, name: str, net: ModelView) -> None:
    checkpoints.save(name, cost.delta(net), {"trained": list(net.trainable_parameters())})


def _become(net: ModelView, method: Method, delta: Mapping[str, Tensor], trained: Sequence[str]) -> ModelView:
    """Gives a freshly attached model the sizes, the trainable parameters and the tensors of a stored one."""
    method.reshape(net, delta)
    net.clone_parameters(set(trained) - set(net.trainable_parameters()))
    for name, parameter in net.model.named_parameters():
        parameter.requires_grad_(name in trained)
    cost.restore(net, delta)
    return net
