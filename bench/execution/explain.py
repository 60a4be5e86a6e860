"""Why a record counts, or does not, for what would be asked today: each part of a run's identity, then and now."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from bench.core.errors import BenchError
from bench.core.record import Record
from bench.core.schema import plain
from bench.core.spec import CHANGES, RunSpec, changed, changes_of, identity
from bench.core.store import Store
from bench.execution import inspect
from bench.execution.attempt import holder_of


def explain(root: Path, run: str, plugins: Sequence[Path], warn: Callable[[str], object]) -> tuple[bool, list[str]]:
    """Whether the run's record counts for today's question, and lines for a person."""
    spec = inspect.find(root, run, warn)
    store = Store(root)
    record = store.find(spec)
    lines = [f"{spec.digest}  {inspect.title(spec)}"]
    if record is None:
        holder = holder_of(store.state(spec))
        lines.append(
            f"  It has no record yet: {f'a process on {holder} is running it' if holder else 'it is planned'}."
        )
        for other in _nearest(store, spec, warn):
            lines.append(
                f"  {other.spec.digest[:8]}, a record of the same method, data, backbone and seed, is another run:"
            )
            lines += [f"    {told}" for told in _differences(_parts(other.spec), _parts(spec), "{} there, {} here")]
        return False, lines
    lines.append(f"  record: {record.status}" + (f", {record.reason}" if record.reason else ""))
    try:
        now = today(spec, plugins)
    except BenchError as error:
        return False, [*lines, f"  It cannot be asked today: {error}", *_hint(plugins)]
    apart = _differences(_parts(spec), now)
    lines += [f"  {told}" for told in apart]
    lines += [f"  {told}" for told in _provenance(record, plugins)]
    if apart:
        return False, [*lines, "  It does not count: today's question is another one, and would be run."]
    if record.status != "done":
        return False, [*lines, "  It is today's question, but has no result: 'bench run' tries it again."]
    return True, [*lines, "  It counts: today's question is the same, so it is not run again."]


def _hint(plugins: Sequence[Path]) -> list[str]:
    return [] if plugins else ["  A method from a file of your own is asked with --plugin FILE."]


def _parts(spec: RunSpec) -> dict[str, Any]:
    """The identity, one entry a component."""
    protocol = {k: v for k, v in identity(spec.protocol).items() if k not in ("seeds", "name")}
    flat = {
        "method": spec.method,
        "method version": spec.method_version,
        "backbone": spec.backbone,
        "weights": spec.weights,
        "dataset": spec.dataset,
        "data fingerprint": spec.fingerprint,
        "protocol": spec.protocol.name,
        "seed": spec.seed,
    }
    flat |= {f"hyper-parameter {key}": value for key, value in plain(spec.params).items()}
    return flat | {f"protocol {key}": value for key, value in protocol.items()}


def today(spec: RunSpec, plugins: Sequence[Path]) -> dict[str, Any]:
    """The parts of the same question as it would be asked now: today's version of the method with its own defaults for
    what the record does not name, today's card and protocol of the same names."""
    import dataclasses

    from bench.core import configs
    from bench.models import registry
    from bench.models.method import build, params

    cls = registry.load(spec.method, plugins)
    fields = {f.name for f in dataclasses.fields(cls)}
    method = build(cls, {key: value for key, value in spec.params.items() if key in fields}, spec.method)
    name, changes = changes_of(spec.protocol.name)
    protocol = configs.protocols().get(name, spec.protocol)
    if protocol is not spec.protocol:
        protocol = changed(protocol, {key: getattr(spec.protocol, key) for key in CHANGES if key in changes})
    if protocol.rates:
        rates = configs.rates().get(protocol.rates, {}).get(spec.backbone, {})
        protocol = dataclasses.replace(protocol, lr=rates.get(spec.method, protocol.lr))
    names = {card.name: card for suite in configs.suite_names() for card in configs.suite(suite).datasets}
    card = names.get(spec.dataset)
    fingerprint = card.fingerprint if card and card.fingerprint else spec.fingerprint
    now = dataclasses.replace(
        spec, method_version=cls.version, params=params(method), protocol=protocol, fingerprint=fingerprint
    )
    return _parts(now)


def _differences(then: Mapping[str, Any], now: Mapping[str, Any], told: str = "was {}, is {}") -> list[str]:
    def shown(parts: Mapping[str, Any], name: str) -> str:
        return repr(parts[name]) if name in parts else "absent"

    names = dict.fromkeys([*then, *now])
    return [f"{n}: {told.format(a, b)}" for n in names if (a := shown(then, n)) != (b := shown(now, n))]


def _provenance(record: Record, plugins: Sequence[Path]) -> list[str]:
    """What has changed without being part of the identity."""
    from importlib.metadata import version

    from bench.models import registry
    from bench.training import provenance

    made, lines = record.provenance, []
    digest = registry.source_digest(registry.load(record.spec.method, plugins))
    if digest != made.method_sha256:
        lines.append("the method's file has changed since; if its numbers do, raise its `version`")
    if made.harness_sha256 is None:
        lines.append("made before records named the harness's own code: whether that has changed since is not known")
    elif made.harness_sha256 != provenance.harness_digest():
        lines.append("the harness's own code (models, training) has changed since: its numbers may differ")
    for name in ("torch", "timm"):
        if (old := made.versions.get(name)) and old.split("+")[0] != version(name).split("+")[0]:
            lines.append(f"made with {name} {old}, here is {version(name)}")
    return lines


def _nearest(store: Store, spec: RunSpec, warn: Callable[[str], object]) -> list[Record]:
    folder = store.path(spec).parent.relative_to(store.root / "runs").as_posix() + "/"
    return [
        record
        for record in store.records(warn, lambda name: name.startswith(folder))
        if record.spec.seed == spec.seed and record.spec.digest != spec.digest
    ]
