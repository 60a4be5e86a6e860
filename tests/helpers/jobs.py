"""Jobs for tests."""

from __future__ import annotations

from dataclasses import replace

from bench.core import configs
from bench.data.readers import folder
from bench.data.root import default_data_root
from bench.models.method import Method, build
from bench.models.registry import load
from bench.training.job import Job, make_job

PROTOCOL = replace(configs.protocol("pocket@v1"), epochs=4)


def job(
    source: folder.ImageFolder,
    name: str = "lora",
    seed: int = 0,
    method: Method | None = None,
    backbone: str = "pocket_swin",
) -> Job:
    method = method or build(load(name), {}, name)
    return make_job(
        name, method, backbone, folder.card(source), PROTOCOL, seed, data_root=default_data_root(), source=source
    )
