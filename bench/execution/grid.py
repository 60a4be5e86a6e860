"""A request as jobs: every combination of methods, backbones, datasets and seeds."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from bench.core import configs, suites
from bench.core.errors import UsageError
from bench.core.spec import CHANGES, Protocol, changed
from bench.data.progress import OnProgress, silent
from bench.execution.request import MethodChoice, RunRequest
from bench.models import registry

if TYPE_CHECKING:
    from bench.core.configs import SuiteCard
    from bench.execution import datasets
    from bench.models.method import Method
    from bench.training.job import Job

Warn = Callable[[str], object]
Progresses = Callable[[str], OnProgress]  # of the preparation of each dataset, by its name


@dataclass(frozen=True)
class Grid:
    jobs: tuple[Job, ...]
    refused: tuple[str, ...]  # methods that the protocol does not fit, datasets that are not what their cards say
    folders: dict[str, str]  # of own images, by the name of their dataset
    summary: tuple[str, ...]  # what own images were taken for


def method_choices(names: Sequence[str], settings: dict[str, str], plugins: Sequence[Path]) -> tuple[MethodChoice, ...]:
    """The methods of these names or aliases, each once; "all" names every one."""
    if "all" in names:
        names = list(registry.entries(plugins))
    canonical = dict.fromkeys(registry.canonical(name, plugins) for name in names)
    return tuple(MethodChoice(name, dict(settings)) for name in canonical)


def make(
    request: RunRequest, device: str, warn: Warn, on_progress: Progresses = lambda _: silent, *, prepare: bool = True
) -> Grid:
    """Every run that is asked for, on a device. With `prepare`, images are decoded where they have to be.

    Seed by seed, so that an interrupted suite is a whole smaller one. Raises UsageError where the question is wrong:
    names first, then what does not fit, then the data, so that nothing is fetched or decoded for a wrong name.
    """
    plugins = [Path(plugin) for plugin in request.plugins]
    chosen = [(choice.name, _build(choice, plugins)) for choice in request.methods]
    own = suites.read_suite(Path(request.suite)) if request.suite and suites.is_file(request.suite) else None
    suite = own.card if own else _suite(request)
    protocol = _protocol(request, own.protocol if own and not request.protocol else suite.protocol)
    backbones = request.backbones or (suite.backbone,)
    methods, unfit = _check_fit(chosen, backbones, protocol)
    for line in unfit:
        warn(f"left out: {line}")
    if device == "cpu" and protocol.precision == "bf16" and not computes_in_bf16():
        warn(
            "The processor of this machine has no instructions for bfloat16: without them bf16 takes longer than fp32, "
            "up to ten times as long."
        )
    for name, _ in methods:
        for backbone in backbones:
            _with_rate(protocol, backbone, name)  # a rate that is missing is told before anything is decoded

    from bench.data.root import default_data_root
    from bench.execution import datasets
    from bench.training.job import make_job

    root = Path(request.data_root) if request.data_root else default_data_root()
    if protocol.head == "texts" and prepare:  # told before anything is decoded
        places = datasets.locate(request, own, protocol, backbones, root, lambda _: None, on_progress, prepare=False)
        _check_texts(places.ready, backbones, root)
    found = datasets.locate(request, own, protocol, backbones, root, warn, on_progress, prepare=prepare)
    jobs = [
        make_job(
            *(name, method, backbone, card, _with_rate(protocol, backbone, name), seed),
            weights=request.weights,
            data_root=root,
            source=source,
            device=device,
        )
        for seed in (protocol.seeds if request.seeds is None else dict.fromkeys(request.seeds))
        for backbone in backbones
        for card, source in found.ready
        for name, method in methods
    ]
    unique = tuple({job.spec.digest: job for job in jobs}.values())
    return Grid(unique, (*unfit, *found.refused), found.folders, found.summary)


def _check_texts(places: Sequence[datasets.Located], backbones: Sequence[str], root: Path) -> None:
    """Raises UsageError where a head that starts from texts lacks them. Data that are missing are told later."""
    from bench.data import sources
    from bench.training.setup import texts_for

    faults = []
    for card, source in places:
        if sources.is_local(card) and source is None:
            continue
        for backbone in backbones:
            try:
                texts_for(card, source, backbone, root)
            except UsageError as error:
                faults.append(str(error))
    if faults:
        more = f" So it is with {len(faults) - 1} more: --dataset takes a suite as well." if faults[1:] else ""
        raise UsageError(faults[0] + more)


def computes_in_bf16(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """False on an x86 processor under Linux that multiplies no bfloat16 numbers; elsewhere it is not known."""
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    flags = next((line.split() for line in lines if line.startswith("flags")), None)
    return flags is None or not {"avx512_bf16", "amx_bf16"}.isdisjoint(flags)


def _build(choice: MethodChoice, plugins: Sequence[Path]) -> Method:
    from bench.models.method import build

    return build(registry.load(choice.name, plugins), choice.settings, choice.name)


def _suite(request: RunRequest) -> SuiteCard:
    """The suite that gives the defaults."""
    if request.suite:
        return configs.suite(request.suite).card
    if request.datasets:
        return configs.suite(request.datasets[0].partition("/")[0]).card
    return configs.OWN


def _protocol(request: RunRequest, default: str | Protocol) -> Protocol:
    chosen = request.protocol or default
    protocol = suites.protocol(chosen) if isinstance(chosen, str) else chosen
    if protocol.rates and request.lr is not None:
        raise UsageError(f"{protocol.name} has a learning rate for each method: give --lr with another protocol.")
    return changed(protocol, {key: getattr(request, key) for key in CHANGES})


def _with_rate(protocol: Protocol, backbone: str, method: str) -> Protocol:
    """The protocol with the rate that was chosen for the method, where it has one for each."""
    if protocol.rates is None:
        return protocol
    return dataclasses.replace(protocol, lr=configs.rate(protocol.rates, backbone, method))


Chosen = Sequence[tuple[str, "Method"]]  # the method that each name was built into


def _check_fit(methods: Chosen, backbones: Sequence[str], protocol: Protocol) -> tuple[Chosen, tuple[str, ...]]:
    """The methods whose phases the protocol has epochs for, and a line for each of the others.

    Raises UsageError where that is none, where a method's hyper-parameters make no sense for a backbone, and where a
    backbone is not supported; before anything is downloaded, decoded or written.
    """
    from bench.models import static_cost
    from bench.training.setup import phases_of

    fit, unfit = [], []
    for name, method in methods:
        try:
            phases_of(method, protocol)
            fit.append((name, method))
        except UsageError as error:
            unfit.append(str(error))
    if not fit:
        raise UsageError("\n".join(unfit))
    for backbone in dict.fromkeys(backbones):
        static_cost.check_supported(backbone)
        for _, method in fit:
            static_cost.check_fit(method, backbone)
    return fit, tuple(unfit)
