"""Bytes of tensors against closed forms: of layers that can be counted by hand, and of the probe's whole step."""

from __future__ import annotations

import pytest
import torch
from helpers.views import random_view
from torch import nn

from bench.models import cost, memory
from bench.models.method import attach, build
from bench.models.registry import load
from bench.models.view import ModelView

FLOAT = 4
VIT, SWIN = "pocket_vit_patch8", "pocket_swin_patch4"


def with_method(name: str, backbone: str = VIT) -> ModelView:
    net, method = random_view(backbone, torch.float32), build(load(name), {}, name)
    attach(method, net)
    return net


def network(first: bool, second: bool) -> nn.Sequential:
    """Of which one linear or both train."""
    net = nn.Sequential(nn.Linear(8, 16), nn.GELU(), nn.Linear(16, 4))
    net[0].requires_grad_(first)
    net[2].requires_grad_(second)
    return net


@pytest.mark.parametrize(
    ("first", "second", "numbers"),
    [
        (True, True, 3 * (8 + 16 + 16)),  # the inputs of all three layers
        (False, True, 3 * 16),  # nothing before it trains: the input of the second alone
        (True, False, 3 * (8 + 16)),  # a frozen linear needs its weight to pass a gradient on, not its input
        (False, False, 0),
    ],
)
def test_a_linear_keeps_its_input_where_it_trains_and_gelu_where_a_gradient_passes(
    first: bool, second: bool, numbers: int
) -> None:
    net = network(first, second)
    kept = memory.KeptBytes(net.parameters())
    with kept:
        net(torch.zeros(3, 8))
    assert kept.total == FLOAT * numbers


def test_a_storage_counts_once_and_whole() -> None:
    x, kept = torch.zeros(5, 8, requires_grad=True), memory.KeptBytes([])
    with kept:
        _ = x[:2] * x[:2].exp() + x[2:4].exp() * 2  # x's own storage, and one for each exponential
    assert kept.total == FLOAT * (5 * 8 + 2 * 8 + 2 * 8)


def test_what_is_alive_at_one_time_is_counted_at_its_most() -> None:
    net, x = network(True, True), torch.zeros(3, 8)
    with torch.no_grad(), memory.LiveBytes() as live:
        net(x)
    assert live.most == FLOAT * 3 * (16 + 16)  # before and behind the activation; the weights were there
    kept = memory.KeptBytes([*net.parameters(), x])
    with memory.LiveBytes() as live, kept:
        out = net(x)
    assert live.now == live.most == kept.total + out.nbytes == FLOAT * 3 * (16 + 16 + 4)
    with memory.LiveBytes() as live:
        x.view(-1).add_(1)  # a view, and in place
    assert live.most == 0


@pytest.mark.parametrize(("backbone", "tokens"), [(VIT, 17), (SWIN, 1)])
def test_a_step_of_the_linear_probe_holds_the_weights_three_heads_and_the_features(backbone: str, tokens: int) -> None:
    """A ViT's head reads one token of 17 where they lie: all of them stay. A Swin's reads their mean."""
    net = with_method("linear_probe", backbone)
    weights = FLOAT * cost.total_params(net) + sum(buffer.nbytes for buffer in net.model.buffers())
    for images, moments in ((64, 2), (1, 1)):
        expected = (
            weights + (1 + moments) * FLOAT * cost.head_params(net) + images * FLOAT * tokens * net.head.in_features
        )
        assert memory.training(net, 32, images, moments) == expected


@pytest.mark.parametrize("name", ["lora", "adapters", "vpt_deep", "mimi", "full", "cara", "lst", "ssf"])
def test_what_is_kept_grows_by_the_same_bytes_with_each_image(name: str) -> None:
    net = with_method(name)
    net.pet.train()
    images, there = torch.zeros(5, 3, 32, 32), [*net.model.parameters(), *net.model.buffers()]
    kept = memory.KeptBytes([*there, images])
    with kept:
        net.model(images)
    held = sum(tensor.nbytes for tensor in (*there, *net.trainable_parameters().values())) + kept.total
    assert memory.training(net, 32, 5, moments=0) == held


def test_memory_tells_the_methods_apart_as_they_are_built() -> None:
    held = {name: memory.training(with_method(name), 32, 64, 2) for name in ("linear_probe", "lst", "lora", "full")}
    assert held["linear_probe"] < held["lst"] < held["lora"] < held["full"]
    bare, lora = memory.inference(with_method("linear_probe"), 32), with_method("lora")
    method = build(load("lora"), {}, "lora")
    merged = cost.merged(method, lora)
    assert merged is not None
    assert memory.inference(merged, 32) == bare < memory.inference(lora, 32)


def test_measuring_leaves_the_model_and_the_random_state_as_they_were() -> None:
    net = with_method("cara")  # which drops out
    before, state, mode = cost.delta(net), torch.get_rng_state(), net.pet.training
    first = memory.training(net, 32, 64, 2), memory.inference(net, 32)
    assert torch.equal(state, torch.get_rng_state()) and net.pet.training == mode
    assert all(torch.equal(tensor, before[name]) for name, tensor in cost.delta(net).items())
    assert first == (memory.training(net, 32, 64, 2), memory.inference(net, 32))
