"""Plans for tests."""

from __future__ import annotations

from bench.core import configs
from bench.data.root import default_data_root
from bench.execution.attempt import Settings
from bench.execution.plan import Bundle, ExecutionContext, Plan, PlannedRun
from bench.execution.resources import Resources
from bench.models.method import Method, build
from bench.models.registry import load
from bench.training.job import Job, make_job

SMALL = Resources()


def plan_of(*jobs: Job, **place: object) -> Plan:
    runs = tuple(PlannedRun(job.spec, 5.0) for job in jobs)
    cards_ = {job.spec.dataset: job.card for job in jobs}
    bundle = Bundle(tuple(range(len(runs))), 5.0 * len(runs), SMALL)
    return Plan(ExecutionContext("cpu", **place), Settings(), cards_, runs, (bundle,))  # type: ignore[arg-type]


def job(method: Method | None = None, name: str = "lora", weights: str = "pretrained") -> Job:
    method = method or build(load(name), {"rank": 4}, name)
    protocol = configs.protocol("pocket@v1")
    return make_job(
        name,
        method,
        "pocket_vit",
        configs.dataset("pocket/digits"),
        protocol,
        0,
        weights=weights,
        data_root=default_data_root(),
    )
