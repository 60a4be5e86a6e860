"""Models for tests of methods and of the view."""

from __future__ import annotations

import torch

from bench.models import backbones
from bench.models.families import build_view
from bench.models.method import Method, build
from bench.models.registry import load
from bench.models.tuned_model import TunedModel
from bench.models.view import ModelView


def random_view(backbone: str, dtype: torch.dtype = torch.float64) -> ModelView:
    """A dissected backbone with every parameter random, so that no oracle hides behind a zero."""
    torch.manual_seed(0)
    model = backbones.create(backbone, classes=5, weights="random").to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return build_view(model)


def as_tuned(view: ModelView, method: Method | None = None) -> TunedModel:
    """What a training takes: a view with the method that was attached, or with modules that a test put there itself."""
    return TunedModel(view.model, view, method or build(load("linear_probe"), {}, "linear_probe"))
