from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1" if "PYTEST_XDIST_WORKER" in os.environ else "2")

import pytest


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Prepared data of the tests, shared by them, never the user's."""
    monkeypatch.setenv("BENCH_DATA", str(tmp_path_factory.getbasetemp() / "cache"))


@pytest.fixture(params=["pocket_vit", "pocket_swin"])
def backbone(request: pytest.FixtureRequest) -> str:
    return str(request.param)
