"""bench verify: are the numbers in a results folder those of its own predictions, and of the models it names?

Of every record the score is computed again from the labels and predictions beside it; parameters, operations and bytes
from closed forms, or from the method put on its backbone anew without training. What is compared:

    score       of the predictions, exactly; of stored logits (float16) to three places
    labels      the same for all records of the same data
    head        C x D + C for C classes and width D
    parameters, operations, bytes     of the untrained model, where training does not change sizes
    PE, metric, rule, phases, memory  within the record

Labels and predictions are what the run wrote: who forges them, and the record to match, is not found out here.
"""

from __future__ import annotations

import copy
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from bench.core import configs, predictions
from bench.core.errors import BenchError, UsageError
from bench.core.record import Cost, Record, pe
from bench.core.store import Store
from bench.models import backbones, cost, head_norm, memory, registry, static_cost
from bench.models.method import Method, build
from bench.models.tuned_model import TunedModel
from bench.training import metrics

if TYPE_CHECKING:
    import numpy as np
    from torch import nn

Verdict = Literal["vouched", "mismatch", "cannot"]

LOGITS_TOLERANCE = 2e-3  # on a score of logits that were stored in half precision
SAFETENSORS_ENTRY = 512  # bytes at most, of the names, shapes and padding of the head's tensors in a file's header


@dataclass(frozen=True)
class Finding:
    """What became of one record."""

    record: str  # path below DIR/runs
    mismatches: tuple[str, ...] = ()  # what the record says, and what it should
    unchecked: tuple[str, ...] = ()  # what there is no way to compute again, with the reason
    checked: tuple[str, ...] = ()
    row: tuple[str, str, str, str] = ("", "", "", "")  # method, variant, backbone, suite

    @property
    def verdict(self) -> Verdict:
        """ "vouched" where the score was computed again and nothing disagrees; "cannot" where it could not be."""
        if self.mismatches:
            return "mismatch"
        return "vouched" if {"score", "refusal"} & set(self.checked) else "cannot"


@dataclass(frozen=True)
class Verification:
    """The findings of a results folder, in the order of its files."""

    root: Path
    findings: tuple[Finding, ...]

    def count(self, verdict: Verdict) -> int:
        return sum(finding.verdict == verdict for finding in self.findings)

    def rows(self) -> dict[tuple[str, str, str, str], Verdict]:
        """The verdict on each row of a leaderboard (method, variant, backbone, suite): the worst of its records'."""
        worst: dict[tuple[str, str, str, str], Verdict] = {}
        order: tuple[Verdict, ...] = ("vouched", "cannot", "mismatch")
        for finding in self.findings:
            before = worst.get(finding.row, "vouched")
            worst[finding.row] = max(before, finding.verdict, key=order.index)
        return worst


@dataclass
class _Check:
    """Comparisons of one record, as they are made."""

    mismatches: list[str] = field(default_factory=list)
    unchecked: list[str] = field(default_factory=list)
    checked: list[str] = field(default_factory=list)

    def equal(self, what: str, says: float | str | None, should: float | str | None, tolerance: float = 0.0) -> None:
        self.checked.append(what)
        numbers = isinstance(says, int | float) and isinstance(should, int | float)
        if says != should and not (numbers and abs(says - should) <= tolerance):  # type: ignore[operator]
            self.mismatches.append(f"{what}: the record says {says}, it is {should}")


def verify(
    root: Path, plugins: tuple[Path, ...] = (), on_record: Callable[[str], object] = lambda _: None
) -> Verification:
    """Checks every record below `root`/runs. `on_record` is called with the name of each before it is checked.

    Raises UsageError where there is no results folder. A file that cannot be read is a mismatch, and stops nothing.
    """
    store = Store(root)
    if not (root / "runs").is_dir():
        raise UsageError(f"There are no records under {root / 'runs'}: name a results folder, like results/pocket-v1.")
    strays: list[str] = []
    labels: dict[str, tuple[str, int]] = {}  # of a record: its data, and a hash of its labels
    findings = []
    for name, _ in store.files(strays.append):
        on_record(name)
        finding, read = _finding(store, name, plugins)
        findings.append(finding)
        if read is not None:
            labels[name] = read
    findings += [Finding(stray.partition(" ")[0], (stray,)) for stray in strays]
    return Verification(root, tuple(_with_labels(findings, labels)))


def _finding(store: Store, name: str, plugins: tuple[Path, ...]) -> tuple[Finding, tuple[str, int] | None]:
    try:
        record = store.read(name)
    except (BenchError, OSError) as error:
        return Finding(name, (f"record: {error}",)), None
    check, labels = _Check(), None
    spec = record.spec
    if record.scores is None or record.cost is None:
        _check_refusal(check, record, plugins)
    else:
        arrays = _arrays(check, store.path(spec).with_suffix(".npz"))
        if arrays is not None:
            labels = (spec.fingerprint, hash((arrays["labels"].shape, arrays["labels"].tobytes())))
            _check_score(check, record, arrays)
        _check_record(check, record)
        _check_cost(check, record, record.cost, plugins)
    row = (spec.method, record.variant or "default", spec.backbone, spec.dataset.partition("/")[0])
    return Finding(name, tuple(check.mismatches), tuple(check.unchecked), tuple(check.checked), row), labels


def _with_labels(findings: list[Finding], labels: Mapping[str, tuple[str, int]]) -> Iterator[Finding]:
    """The findings, and a mismatch where a record's labels are not those of most records of the same data."""
    found = Counter(labels.values())
    usual: dict[str, int] = {}
    for (data, digest), _ in found.most_common():
        usual.setdefault(data, digest)
    for finding in findings:
        own = labels.get(finding.record)
        if own is not None and own[1] != usual[own[0]]:
            fault = "labels: they differ from those of most records of the same data"
            finding = replace(finding, mismatches=(*finding.mismatches, fault))
        yield finding


# one record ----------------------------------------------------------------------------------------------------------


def _check_refusal(check: _Check, record: Record, plugins: tuple[Path, ...]) -> None:
    """A skipped record: does the method refuse the backbone today too?"""
    if record.status == "failed":
        check.unchecked.append("a failed run has no numbers")
        return
    try:
        refusal = static_cost.check_fit(_method(record, plugins), record.spec.backbone)
    except BenchError as error:
        check.unchecked.append(f"refusal: {error}")
        return
    check.equal("refusal", "refused", "refused" if refusal else "fits")


def _arrays(check: _Check, path: Path) -> Mapping[str, np.ndarray] | None:
    try:
        arrays = predictions.read(path)
    except FileNotFoundError:
        check.unchecked.append("score: there are no predictions beside the record")
        return None
    except (BenchError, OSError) as error:
        check.mismatches.append(f"predictions: {error}")
        return None
    faults = list(_faults(arrays))
    check.mismatches += [f"predictions: {fault}" for fault in faults]
    return None if faults else arrays


def _faults(arrays: Mapping[str, np.ndarray]) -> Iterator[str]:
    """What is wrong with the shapes and types of labels, predictions and logits."""
    for name in ("labels", "predictions"):
        if name not in arrays:
            yield f"{name} are missing"
        elif arrays[name].dtype.kind != "u":
            yield f"{name} are {arrays[name].dtype}, not classes"
    if any(name not in arrays for name in ("labels", "predictions")):
        return
    count = len(arrays["labels"]) if arrays["labels"].ndim else 0
    if count == 0 or arrays["predictions"].shape != (count,):
        yield f"{arrays['predictions'].shape} predictions do not fit {arrays['labels'].shape} labels"
    logits = arrays.get("logits")
    if logits is not None and (logits.dtype.kind != "f" or logits.ndim != 2 or len(logits) != count):
        yield f"logits of shape {logits.shape}, {logits.dtype}, do not fit {count} labels"


def _check_score(check: _Check, record: Record, arrays: Mapping[str, np.ndarray]) -> None:
    assert record.scores is not None
    metric, labels, chosen = record.scores.metric, arrays["labels"], arrays["predictions"]
    check.equal("test images", record.scores.test_images, len(labels))
    classes = _classes(record)
    largest = int(max(labels.max() if labels.ndim == 1 else 0, chosen.max()))
    if classes is not None and largest >= classes:
        check.mismatches.append(f"predictions: class {largest} of {classes}")
        return
    if metric in ("top1", "mean_per_class"):
        import numpy as np

        scores = np.eye(largest + 1, dtype=np.float32)[chosen]
    elif "logits" in arrays:
        scores = arrays["logits"].astype("float32")
    else:
        check.unchecked.append(f"score: {metric} needs logits, and there are none beside the record")
        return
    try:
        found = metrics.score(metric, scores, labels.astype("int64") if labels.ndim == 1 else labels)  # type: ignore[arg-type]
    except (UsageError, ValueError, KeyError) as error:
        check.mismatches.append(f"score: {metric} cannot be computed of these predictions: {error}")
        return
    check.equal("score", record.scores.test, found, LOGITS_TOLERANCE if "logits" in arrays else 0.0)


def _classes(record: Record) -> int | None:
    """From the card of a dataset with a name; None for folders of somebody's own."""
    try:
        return configs.dataset(record.spec.dataset).classes
    except UsageError:
        return None


def _check_record(check: _Check, record: Record) -> None:
    """What a record says twice."""
    scores = record.scores
    assert scores is not None
    assert record.cost is not None
    params = record.cost.params
    check.equal("rule", scores.rule, record.spec.protocol.choose)
    if scores.pe is not None:
        check.equal("PE", scores.pe, pe(scores.test, params.deployed + params.head), 1e-12)
    check.equal("parameters left at most those that were trained", max(params.deployed, params.method), params.method)
    trained = params.method + params.head
    check.equal("gradients at most for what is trained", max(params.with_gradient, trained), trained)
    for what, found, least in _memory(record.cost, record.spec.protocol.optimizer):
        if found is not None:
            check.equal(f"memory of {what} at least what it is made of", max(found, least), found)
    if record.milestones:
        last = record.milestones[-1]
        check.equal("parameters of the last phase", last.params.deployed, params.deployed)
        if scores.rule == "last":
            check.equal("score of the last phase", last.score, scores.test)


def _memory(cost: Cost, optimizer: str) -> Iterator[tuple[str, int | None, int]]:
    """Of training and of inference, the bytes that a record tells, and those of the weights, of gradients and of the
    optimiser's state alone."""
    weights, trained = 4 * cost.params.total, 4 * (cost.params.deployed + cost.params.head)
    yield "training", cost.train_bytes, weights + (1 + memory.MOMENTS[optimizer]) * trained
    yield "inference", cost.inference_bytes, weights


def _check_cost(check: _Check, record: Record, says: Cost, plugins: tuple[Path, ...]) -> None:
    params, classes = says.params, _classes(record)
    try:
        method, width = _method(record, plugins), static_cost.head_width(record.spec.backbone)
        known = _counted(method, record.spec.backbone, params.head // (width + 1))
    except BenchError as error:
        check.unchecked.append(f"cost: {error}")
        return
    if classes is not None:
        check.equal("head", params.head, classes * width + classes)
    of_head = says.storage_bytes.with_head - says.storage_bytes.without_head
    least = 4 * params.head + (head_norm.nbytes(width) if record.spec.protocol.head_norm == "batch" else 0)
    check.equal("bytes of the head", of_head, min(max(of_head, least), least + SAFETENSORS_ENTRY))
    if known.closed_form is not None:
        check.equal("trained parameters in closed form", params.method, known.closed_form)
    if known.closed_form != known.params and type(method).calibrate is not Method.calibrate:
        check.unchecked.append("bytes, operations, parameters without a closed form: the data decide before training")
        return
    check.equal("trained parameters", params.method, known.params)
    if params.deployed != params.method:
        check.unchecked.append("bytes, operations and parameters that are left: training changes their number")
        return
    check.equal("all parameters", params.total, known.total)
    check.equal("bytes without head", says.storage_bytes.without_head, known.bytes_without_head)
    check.equal("operations", says.unmerged.flops, known.flops)
    check.equal("operations when merged", says.merged.flops if says.merged else None, known.merged_flops)


def _method(record: Record, plugins: tuple[Path, ...]) -> Method:
    """Raises UsageError where today's method is another one."""
    cls = _method_class(record.spec.method, plugins)
    if cls.version != record.spec.method_version:
        raise UsageError(
            f"{record.spec.method} is at version {cls.version}, the record at {record.spec.method_version}."
        )
    return build(cls, dict(record.spec.params), record.spec.method)


@cache
def _method_class(name: str, plugins: tuple[Path, ...]) -> type[Method]:
    return registry.load(name, list(plugins))


@dataclass(frozen=True)
class _Counted:
    """Counts of a method on random weights, untrained."""

    closed_form: int | None  # Method.count
    params: int  # of the method
    total: int
    bytes_without_head: int
    flops: int
    merged_flops: int | None


@cache
def _counted(method: Method, backbone: str, classes: int) -> _Counted:
    """Raises a BenchError where the method cannot be put on such a backbone here."""
    net = TunedModel.attach(copy.deepcopy(_backbone(backbone, classes)), method)
    size, view = backbones.input_size(net.model), net.view
    merged = cost.merged(method, view)
    return _Counted(
        closed_form=method.count(view.shape),
        params=cost.method_params(view),
        total=cost.total_params(view),
        bytes_without_head=cost.storage(method, view).without_head,
        flops=cost.compute(view, size).flops,
        merged_flops=cost.compute(merged, size).flops if merged else None,
    )


@lru_cache(maxsize=1)  # records of a dataset and a backbone come one after the other
def _backbone(name: str, classes: int) -> nn.Module:
    return backbones.create(name, classes=classes, weights="random")
