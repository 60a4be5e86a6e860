from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from helpers.arrays import DATA
from helpers.specs import PROTOCOL
from helpers.views import as_tuned, random_view
from torch import Tensor, nn
from torch.nn import functional as F

from bench.core.errors import SealedTest
from bench.data.splits import ArraySplit, Sealed, TrainingOutcome
from bench.models.method import Method, ParamGroup, Phase, build
from bench.models.registry import load
from bench.models.view import ModelView
from bench.training import inference, loop
from bench.training.batches import BatchLoader

SHORT = replace(PROTOCOL, epochs=2, batch_size=8)


def net_with(name: str, backbone: str = "pocket_vit") -> tuple[ModelView, Method]:
    net = random_view(backbone, torch.float32)
    method = build(load(name), {}, name)
    method.attach(net)
    return net, method


def test_the_schedule_warms_up_linearly_then_follows_half_a_cosine() -> None:
    factors = [loop.schedule(step, 100, 0.1) for step in range(100)]
    assert factors[:10] == pytest.approx([(k + 1) / 10 for k in range(10)])
    assert factors[10] == 1.0
    assert factors[55] == pytest.approx(0.5)
    assert factors[99] == pytest.approx(0.5 * (1 + math.cos(math.pi * 89 / 90)))
    assert all(a > b for a, b in zip(factors[10:], factors[11:], strict=False))


def test_the_loop_equals_a_bare_one_written_out() -> None:
    """Same order of data, AdamW and schedule in a dozen plain lines; the trained tensors are equal."""
    net, _ = net_with("lora")
    bare, _ = net_with("lora")
    for ours, theirs in zip(net.pet.parameters(), bare.pet.parameters(), strict=True):
        theirs.data.copy_(ours.data)
    loop.fit(as_tuned(net), (Phase(2),), SHORT, DATA, None, seed=7)
    parameters = [p for p in bare.model.parameters() if p.requires_grad]
    groups = [
        {"params": [p for p in parameters if p.ndim > 1], "weight_decay": 1e-4},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0},
    ]
    optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
    chance, step = torch.Generator().manual_seed(7), 0
    x = (
        torch.from_numpy(DATA.images).permute(0, 3, 1, 2).float() / 255
        - torch.tensor([0.4914, 0.4822, 0.4465]).view(3, 1, 1)
    ) / torch.tensor([0.2470, 0.2435, 0.2616]).view(3, 1, 1)
    for _ in range(2):
        for index in torch.randperm(24, generator=chance).split(8):
            for group in optimizer.param_groups:
                group["lr"] = 1e-3 * loop.schedule(step, 6, 0.1)
            F.cross_entropy(bare.model(x[index]), torch.from_numpy(DATA.labels)[index]).backward()
            optimizer.step()
            optimizer.zero_grad()
            step += 1
    for (name, ours), theirs in zip(
        net.trainable_parameters().items(), bare.trainable_parameters().values(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=5e-6, msg=name)


def test_features_computed_once_train_the_same_head_as_features_computed_every_time(backbone: str) -> None:
    (cached, _), (plain, _) = net_with("linear_probe", backbone), net_with("linear_probe", backbone)
    assert BatchLoader(cached, DATA).features is not None
    plain.pet["idle"] = nn.Identity()  # not frozen any more: features are computed at every step
    assert BatchLoader(plain, DATA).features is None
    for net in (cached, plain):
        loop.fit(as_tuned(net), (Phase(2),), SHORT, DATA, None, seed=3)
    torch.testing.assert_close(cached.head.weight, plain.head.weight, rtol=1e-4, atol=1e-5)


def test_vectors_are_never_decayed() -> None:
    net, _ = net_with("bitfit")
    decayed, spared = loop.make_optimizer(as_tuned(net), replace(SHORT, weight_decay=0.5)).param_groups
    assert decayed["weight_decay"] == 0.5
    assert spared["weight_decay"] == 0.0
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in spared["params"]} == {1}
    assert len(decayed["params"]) + len(spared["params"]) == len(net.trainable_parameters())


class Scale(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.ones(1, dim))

    def forward(self, y: Tensor) -> Tensor:
        return y * self.s[0]


def gain_of(net: ModelView) -> Tensor:
    return net.model.get_parameter("pet.blocks_0_attn_proj.s")


@dataclass(frozen=True)
class Gain(Method):
    """A gain behind one linear, four times as fast, never decayed, that a term of the loss pulls to two."""

    pull: float = 0.0

    def attach(self, net: ModelView) -> None:
        net.blocks[0].linear["proj"].then(Scale(net.blocks[0].dim))

    def param_groups(self, net: ModelView) -> tuple[ParamGroup, ...]:
        return (ParamGroup(lambda name: name.startswith("pet."), lr_factor=4.0, weight_decay_factor=0.5),)

    def loss(self, logits: Tensor, labels: Tensor, net: ModelView) -> Tensor | None:
        return self.pull * ((gain_of(net) - 2) ** 2).sum() if self.pull else None


def test_groups_of_a_method_have_rates_and_decay_of_their_own_all_along() -> None:
    net = random_view("pocket_vit", torch.float32)
    Gain().attach(net)
    groups = loop.make_optimizer(as_tuned(net, Gain()), replace(SHORT, weight_decay=0.5)).param_groups
    assert [(len(g["params"]), g["lr"] / SHORT.lr, g["weight_decay"]) for g in groups] == [
        (1, 4.0, 0.25), (0, 4.0, 0.0), (1, 1.0, 0.5), (1, 1.0, 0.0),
    ]  # fmt: skip
    slow, fast = (random_view("pocket_vit", torch.float32) for _ in range(2))
    for each in (slow, fast):
        Gain().attach(each)
    loop.fit(as_tuned(slow), (Phase(1),), replace(SHORT, weight_decay=0.0), DATA, None, seed=0)
    loop.fit(as_tuned(fast, Gain()), (Phase(1),), replace(SHORT, weight_decay=0.0), DATA, None, seed=0)
    far = [float((gain_of(each).detach() - 1).abs().mean()) for each in (slow, fast)]
    assert 2.5 < far[1] / far[0] < 5.5  # steps of Adam are as long as its rate


def test_the_term_of_a_method_is_part_of_what_is_minimised_and_of_the_loss_that_is_told() -> None:
    losses, gains = [], []
    for pull in (0.0, 100.0):
        net = random_view("pocket_vit", torch.float32)
        Gain(pull).attach(net)
        trained = loop.fit(as_tuned(net, Gain(pull)), (Phase(2),), replace(SHORT, lr=0.05), DATA, None, seed=0)
        losses.append(trained.epochs[0].loss)
        gains.append(float(gain_of(net).detach().mean()))
    assert gains[0] < 1.5 < gains[1] and losses[1] > losses[0] + 100


def test_full_fine_tuning_trains_at_its_own_fraction_of_the_rate() -> None:
    net, method = net_with("full")
    trained = loop.fit(as_tuned(net, method), method.phases(1), replace(SHORT, epochs=1), DATA, None, seed=0)
    assert trained.epochs[0].lr == pytest.approx(SHORT.lr * 0.2 * loop.schedule(2, 3, 0.1))


def test_a_method_in_phases_leaves_a_snapshot_of_each() -> None:
    net, method = net_with("mimi")
    phases = method.phases(8)
    trained = loop.fit(as_tuned(net, method), phases, replace(SHORT, epochs=8), DATA, None, seed=0)
    assert sum(method.sizes(net).values()) == 48
    sizes = []
    for snapshot in trained.snapshots:
        trained.tuned.restore(snapshot.model)
        sizes.append(sum(method.sizes(net).values()))
    assert sizes == [192, 96, 48]
    assert [snapshot.epoch for snapshot in trained.snapshots] == [2, 5, 8]
    assert trained.reported is trained.snapshots[-1].model
    assert [epoch.phase for epoch in trained.epochs] == [0, 0, 1, 1, 1, 2, 2, 2]


def test_the_best_validation_epoch_is_reported_where_the_protocol_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    net, _ = net_with("linear_probe")
    scores = iter([0.2, 0.9, 0.4])
    heads = []

    def scored(net: ModelView, data: ArraySplit, metric: str, precision: str) -> float:
        heads.append(net.head.weight.detach().clone())
        return next(scores)

    monkeypatch.setattr(loop, "evaluate", scored)
    protocol = replace(SHORT, train_on="train", choose="validation", epochs=3)
    trained = loop.fit(as_tuned(net), (Phase(3),), protocol, DATA, DATA, seed=0)
    assert trained.val == 0.9
    assert torch.equal(net.head.weight, heads[1]) and trained.tuned.view is net
    assert torch.equal(trained.reported.tensors["head.weight"], heads[1])
    assert torch.equal(trained.snapshots[-1].model.tensors["head.weight"], heads[2])


@pytest.mark.parametrize(
    ("target", "scores", "kept"),
    [
        (0.9, [0.5, 0.8, 0.1, 0.73, 0.2, 0.71], 2),  # 0.71 < 0.9 x 0.8 = 0.72 <= 0.73; only ends of phases count
        (0.9, [0.5, 0.8, 0.1, 0.70, 0.2, 0.99], 1),  # nothing is tried behind a phase that misses
        (0.5, [0.5, 0.8, 0.1, 0.40, 0.2, 0.40], 3),  # the target itself is enough
        (None, [0.5, 0.8, 0.1, 0.10, 0.2, 0.10], 3),
    ],
)
def test_removals_stop_at_the_validation_target_and_the_last_model_that_met_it_is_reported(
    target: float | None, scores: list[float], kept: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    net, method = net_with("mimi")
    left = iter(scores)
    monkeypatch.setattr(loop, "evaluate", lambda *_: next(left))
    protocol = replace(SHORT, train_on="train", epochs=6, val_target=target)
    trained = loop.fit(as_tuned(net, method), method.phases(6), protocol, DATA, DATA, seed=0)
    assert sum(method.sizes(net).values()) == 192 >> (kept - 1)
    assert [snapshot.name for snapshot in trained.snapshots] == [f"cycle {k}" for k in range(kept)]
    assert trained.reported is trained.snapshots[-1].model and trained.val == scores[2 * kept - 1]
    assert len(trained.epochs) == min(2 * kept + 2, 6) and trained.images == len(trained.epochs) * len(DATA)
    for name, tensor in trained.tuned.delta().items():
        assert torch.equal(tensor, trained.reported.tensors[name])


def test_a_validation_target_needs_a_validation_split_that_is_not_trained_on() -> None:
    with pytest.raises(ValueError, match="train_on = 'train'"):
        replace(SHORT, val_target=0.9)
    with pytest.raises(ValueError, match="between 0 and 1"):
        replace(SHORT, train_on="train", val_target=1.5)


def test_a_loss_that_is_no_number_stops_the_run() -> None:
    net, _ = net_with("linear_probe")
    with torch.no_grad():
        net.head.weight.fill_(float("nan"))
    with pytest.raises(loop.Diverged, match="diverged"):
        loop.fit(as_tuned(net), (Phase(1),), SHORT, DATA, None, seed=0)


@dataclass(frozen=True)
class HalfDead(Method):
    """Trains one tensor that takes part and one that does not."""

    def attach(self, net: ModelView) -> None:
        class Scale(nn.Module):
            def __init__(self) -> None:
                super().__init__()
                self.used, self.unused = nn.Parameter(torch.ones(128)), nn.Parameter(torch.ones(128))

            def forward(self, x: Tensor) -> Tensor:
                return self.used * x

        net.blocks[0].mlp.then(Scale())


def test_parameters_without_gradient_are_not_counted_as_trained() -> None:
    net = random_view("pocket_vit", torch.float32)
    HalfDead().attach(net)
    trained = loop.fit(as_tuned(net), (Phase(1),), SHORT, DATA, None, seed=0)
    assert trained.params_with_grad == 128 + sum(p.numel() for p in net.head.parameters())
    assert sum(p.numel() for p in net.trainable_parameters().values()) == trained.params_with_grad + 128


def test_the_test_split_opens_for_a_finished_training_only() -> None:
    sealed = Sealed(lambda: DATA)
    for key in (None, True, object(), TrainingOutcome, TrainingOutcome()):
        with pytest.raises(SealedTest, match="before training had ended"):
            sealed.open(key)
    net, _ = net_with("linear_probe")
    trained = loop.fit(as_tuned(net), (Phase(1),), SHORT, DATA, None, seed=0)
    assert sealed.open(trained) is DATA


def test_pixels_are_normalised_by_the_checkpoint_and_never_changed() -> None:
    net, _ = net_with("linear_probe")
    before = DATA.images.copy()
    x = inference.Pixels(net, DATA)(torch.arange(2))
    assert torch.equal(x, inference.Pixels(net, DATA)(torch.arange(2)))
    assert np.array_equal(before, DATA.images)
    assert float(x[1, 2, 3, 4]) == pytest.approx((DATA.images[1, 3, 4, 2] / 255 - 0.4465) / 0.2616, abs=1e-5)


class Noisy(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.s = nn.Parameter(torch.ones(128))
        self.drop = nn.Dropout(0.5)
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        return self.s * self.drop(x)


def test_a_methods_dropout_is_on_in_training_and_off_in_scoring() -> None:
    net = random_view("pocket_vit", torch.float32)
    noisy = Noisy()
    net.blocks[0].mlp.then(noisy)
    loop.fit(as_tuned(net), (Phase(1),), SHORT, DATA, None, seed=0)
    assert set(noisy.modes) == {True}
    noisy.modes.clear()
    assert (inference.predict(net, DATA) == inference.predict(net, DATA)).all()
    assert set(noisy.modes) == {False}


def test_a_phase_may_unfreeze_what_the_one_before_left_frozen() -> None:
    """Linear probing first, full fine-tuning then: features computed once must not outlive the first phase."""
    net, _ = net_with("linear_probe")
    before = net.model.get_parameter("blocks.0.attn.proj.weight").detach().clone()
    phases = (Phase(1, then=lambda net, _: net.unfreeze(lambda name: True)), Phase(1))
    trained = loop.fit(as_tuned(net), phases, SHORT, DATA, None, seed=0)
    assert not torch.equal(before, net.model.get_parameter("blocks.0.attn.proj.weight"))
    total = sum(p.numel() for p in net.model.parameters())
    assert trained.max_trainable_params == total
    assert trained.params_with_grad > 0.9 * total


def test_weights_that_are_no_numbers_at_the_end_fail_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    net, _ = net_with("linear_probe")
    monkeypatch.setattr(loop, "schedule", lambda step, steps, warmup: float("nan") if step == steps - 1 else 1.0)
    with pytest.raises(loop.Diverged, match="not finite at the end"):
        loop.fit(as_tuned(net), (Phase(1),), SHORT, DATA, None, seed=0)
