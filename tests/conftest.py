from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

import pytest
import torch

from bench import backbones
from bench.anatomy import Anatomy
from bench.dissect import dissect


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared data of the tests, shared by them, never the user's."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(params=["pocket_vit", "pocket_swin"])
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def random_net(backbone: str, dtype: torch.dtype = torch.float64) -> Anatomy:
    """A dissected backbone with every parameter random, so that no oracle hides behind a zero."""
    torch.manual_seed(0)
    model = backbones.create(backbone, classes=5, weights="random").to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return dissect(model)
