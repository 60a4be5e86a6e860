"""bench: parameter-efficient tuning for vision, compared under one protocol.

import bench

results = bench.run("lora", suite="pocket2", seeds=3, rank=4)
print(results.leaderboard())
net = bench.attach(timm_model, "lora", rank=8)
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from bench.core.version import VERSION

__version__ = VERSION

if TYPE_CHECKING:
    from bench.api import Results, attach, check, forgetting, load, load_tuned, plan, run
    from bench.execution.request import Launch, MethodChoice, RunRequest
    from bench.models.method import Method, Phase
    from bench.models.view import ModelView

_PLACES = {
    **dict.fromkeys(("Results", "attach", "check", "forgetting", "load", "load_tuned", "plan", "run"), "bench.api"),
    **dict.fromkeys(("Launch", "MethodChoice", "RunRequest"), "bench.execution.request"),
    **dict.fromkeys(("Method", "Phase"), "bench.models.method"),
    "ModelView": "bench.models.view",
}

__all__ = [
    "Launch",
    "Method",
    "MethodChoice",
    "ModelView",
    "Phase",
    "Results",
    "RunRequest",
    "__version__",
    "attach",
    "check",
    "forgetting",
    "load",
    "load_tuned",
    "plan",
    "run",
]


def __getattr__(name: str) -> Any:
    """The public names, imported when they are first used: `import bench` takes no time, and no torch."""
    if name not in _PLACES:
        raise AttributeError(f"module 'bench' has no attribute {name!r}")
    return getattr(importlib.import_module(_PLACES[name]), name)


def __dir__() -> list[str]:
    return __all__
