"""How far a training has come: all that its next step depends on, put down and taken up again."""

from __future__ import annotations

import time
from dataclasses import dataclass, field

import torch
from torch import Tensor

from bench.core.record import Epoch
from bench.core.schema import parse, plain
from bench.models import tuned_model
from bench.models.tuned_model import TunedModel
from bench.training.checkpoint import Checkpoints

COUNTERS = ("phase", "epoch", "step", "batches_seen", "max_trainable_params", "params_with_grad")


@dataclass(frozen=True)
class Snapshot:
    """The model as it stood at the end of a phase."""

    name: str
    epoch: int
    model: tuned_model.Snapshot


@dataclass(frozen=True)
class Best:
    """The model with the best score on the validation split so far, in the present phase."""

    score: float
    epoch: int
    model: tuned_model.Snapshot


@dataclass
class TrainingState:
    tuned: TunedModel
    data_rng: torch.Generator  # of the order of the data
    phase: int = 0
    epoch: int = 0  # of the phase
    step: int = 0  # of the phase
    batches_seen: int = 0  # batches so far: each has its own augmentation, the same for every method
    max_trainable_params: int = 0  # trained parameters at their most, head included
    params_with_grad: dict[str, int] = field(default_factory=dict)  # size of each tensor that received a gradient
    epochs: list[Epoch] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)  # one for each phase that has ended
    best: Best | None = None
    pending_optimizer_state: dict[int, dict[str, Tensor]] = field(
        default_factory=dict
    )  # of a checkpoint, for the next one
    before: float = 0.0  # seconds of training before it was cut
    began: float = field(default_factory=time.perf_counter)

    def seconds(self) -> float:
        return self.before + time.perf_counter() - self.began

    def restore_optimizer_state(self, optimizer: torch.optim.Optimizer) -> None:
        """Gives a new optimiser the state that the checkpoint kept of the one before it."""
        if self.pending_optimizer_state:
            groups = optimizer.state_dict()["param_groups"]
            optimizer.load_state_dict({"state": self.pending_optimizer_state, "param_groups": groups})
            self.pending_optimizer_state = {}

    def save(self, checkpoints: Checkpoints, optimizer: torch.optim.Optimizer | None = None) -> None:
        """Puts everything down; "last", which names the other files, when they are there. Between two phases there is
        no optimiser."""
        snapshots: list[tuple[str, int, str]] = []
        for number, snapshot in enumerate(self.snapshots):
            snapshots.append((snapshot.name, snapshot.epoch, f"phase{number}"))
            if not checkpoints.path(f"phase{number}").is_file():
                _save(checkpoints, f"phase{number}", snapshot.model)
        best = f"best{self.best.epoch}" if self.best else None
        if self.best and best and not checkpoints.path(best).is_file():
            _save(checkpoints, best, self.best.model)
        now = self.tuned.snapshot()
        tensors = {f"net {name}": tensor for name, tensor in now.tensors.items()}
        tensors |= {"data_rng": self.data_rng.get_state(), "rng_state": torch.get_rng_state()}
        if torch.cuda.is_initialized():
            tensors["cuda_rng_state"] = torch.cuda.get_rng_state()
        for index, moments in (optimizer.state_dict()["state"] if optimizer else {}).items():
            tensors |= {f"optimizer {index} {key}": value for key, value in moments.items() if value is not None}
        facts = {name: getattr(self, name) for name in COUNTERS} | {
            "trained": sorted(now.trained),
            "epochs": plain(self.epochs),
            "snapshots": snapshots,
            "best": [self.best.score, self.best.epoch, best] if self.best else None,
            "seconds": self.seconds(),
        }
        checkpoints.save("last", tensors, facts)
        for path in checkpoints.folder.glob("best*.safetensors"):
            if path.stem != best:
                path.unlink()


def resume(tuned: TunedModel, checkpoints: Checkpoints) -> TrainingState | None:
    """The state that was put down last, and the model as it was then; None where there is none to go on from.

    `tuned` has its method freshly attached. A file that is missing, or of another compatibility key, means to start
    anew.
    """
    found = checkpoints.load("last")
    if found is None:
        return None
    tensors, facts = found
    models: dict[str, tuned_model.Snapshot] = {}
    for *_, file in facts["snapshots"] + ([facts["best"]] if facts["best"] else []):
        stored = checkpoints.load(file)
        if stored is None:
            return None
        models[file] = tuned_model.Snapshot(stored[0], frozenset(stored[1]["trained"]))
    delta = {key.removeprefix("net "): tensor for key, tensor in tensors.items() if key.startswith("net ")}
    tuned.restore(tuned_model.Snapshot(delta, frozenset(facts["trained"])))
    state = TrainingState(tuned, seeded(0), before=facts["seconds"])
    for name in COUNTERS:
        setattr(state, name, facts[name])
    state.epochs = [parse(Epoch, epoch, "checkpoint") for epoch in facts["epochs"]]
    state.snapshots = [Snapshot(name, epoch, models[file]) for name, epoch, file in facts["snapshots"]]
    if facts["best"]:
        score, epoch, file = facts["best"]
        state.best = Best(score, epoch, models[file])
    for key, tensor in tensors.items():
        if key.startswith("optimizer "):
            _, index, name = key.split(" ")
            state.pending_optimizer_state.setdefault(int(index), {})[name] = tensor
    state.data_rng.set_state(tensors["data_rng"])
    torch.set_rng_state(tensors["rng_state"])  # last: attaching has drawn from it
    if "cuda_rng_state" in tensors and torch.cuda.is_available():
        torch.cuda.set_rng_state(tensors["cuda_rng_state"])
    return state


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def _save(checkpoints: Checkpoints, name: str, model: tuned_model.Snapshot) -> None:
    checkpoints.save(name, model.tensors, {"trained": sorted(model.trained)})
