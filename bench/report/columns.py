"""The columns of cost, each declared once: where its number comes from, how it is written, what it means.

Every table, plot, legend and page is made from here. A new one is a field of bench.core.record.Cost, the place in
bench.training that measures it, and a line here.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from bench.core.record import Compute, Cost, Params, Storage, pe
from bench.report.cells import human, thousandths, three

Numbers = Mapping[str, float]  # a measure, or "score", the headline in [0, 1] -> its mean; NaN where one is missing


class Model(Protocol):
    """What a record tells of a model, at the end of training and at the end of each of its phases."""

    @property
    def params(self) -> Params: ...
    @property
    def storage_bytes(self) -> Storage: ...
    @property
    def unmerged(self) -> Compute: ...


MODEL_MEASURES: Mapping[str, Callable[[Model], float | None]] = {
    "params_method": lambda model: model.params.method,
    "params_deployed": lambda model: model.params.deployed,
    "params_head": lambda model: model.params.head,
    "params_total": lambda model: model.params.total,
    "params_with_gradient": lambda model: model.params.with_gradient,
    "storage_with_head": lambda model: model.storage_bytes.with_head,
    "storage_without_head": lambda model: model.storage_bytes.without_head,
    "macs_unmerged": lambda model: model.unmerged.macs,
    "flops_unmerged": lambda model: model.unmerged.flops,
    "flops_linear_conv": lambda model: model.unmerged.flops_linear_conv,
}
RUN_MEASURES: Mapping[str, Callable[[Cost], float | None]] = {
    "macs_merged": lambda cost: cost.merged.macs if cost.merged else None,
    "flops_merged": lambda cost: cost.merged.flops if cost.merged else None,
    "train_seconds": lambda cost: cost.train_seconds,
    "train_images_per_second": lambda cost: cost.train_images_per_second,
    "inference_images_per_second": lambda cost: cost.inference_images_per_second,
    "merged_images_per_second": lambda cost: cost.merged_images_per_second,
    "train_bytes": lambda cost: cost.train_bytes,
    "inference_bytes": lambda cost: cost.inference_bytes,
    "peak_bytes": lambda cost: cost.peak_bytes,
    "peak_inference_bytes": lambda cost: cost.peak_inference_bytes,
}
MEASURES = (*MODEL_MEASURES, *RUN_MEASURES)  # as columns of the long frame


@dataclass(frozen=True)
class Column:
    name: str  # in the CSV and the DataFrame
    value: Callable[[Numbers], float]  # from the means over datasets of the measures
    meaning: str  # in legends
    heading: str = ""  # in tables for readers; none: it stands in the CSV alone
    show: Callable[[float], str] = three  # for readers
    digits: str = ".10g"  # in the CSV
    axis: str = ""  # of a plot of accuracy against it; none: there is no such plot
    more_is_better: bool = False


def measures_of_run(cost: Cost) -> dict[str, float | None]:
    return {**measures_of_model(cost), **{name: read(cost) for name, read in RUN_MEASURES.items()}}


def measures_of_model(model: Model) -> dict[str, float | None]:
    return {name: read(model) for name, read in MODEL_MEASURES.items()}


def _trained(of: Numbers) -> float:
    return of["params_deployed"] + of["params_head"]


def _trained_percent(of: Numbers) -> float:
    return 100 * _trained(of) / of["params_total"] if of["params_total"] else math.nan


COLUMNS = (
    Column(
        "params_method",
        lambda of: of["params_method"],
        "trainable parameters without the head at their most: more than those deployed where a method prunes",
        heading="at most",
        show=human,
        axis="trainable parameters at their most, without head",
    ),
    Column(
        "params_deployed",
        lambda of: of["params_deployed"],
        "trainable parameters of the final model, without the head",
        heading="method only",
        show=human,
        axis="trainable parameters of the final model, without head",
    ),
    Column(
        "params_head",
        lambda of: of["params_head"],
        "parameters of the head, the classifier",
        heading="head",
        show=human,
    ),
    Column(
        "params_trained",
        _trained,
        "trainable parameters of the final model, head included",
        heading="trained",
        show=human,
        axis="trainable parameters of the final model, head included",
    ),
    Column(
        "trained_percent",
        _trained_percent,
        "their share of all parameters of the final model in %",
        heading="% of all",
        axis="trainable parameters, % of the final model",
    ),
    Column(
        "gflops_unmerged",
        lambda of: of["flops_unmerged"] / 1e9,
        "1e9 floating-point operations of one image's forward pass (1 MAC = 2 FLOPs, attention products counted)",
        heading="GFLOPs",
        axis="GFLOPs of one image's forward pass, nothing merged",
    ),
    Column(
        "gflops_merged",
        lambda of: of["flops_merged"] / 1e9,
        "the same with the method merged into the backbone; missing where it cannot be",
        heading="merged",
        axis="GFLOPs of one image's forward pass, merged into the backbone",
    ),
    Column(
        "gflops_linear_conv",
        lambda of: of["flops_linear_conv"] / 1e9,
        "the papers' count: linear layers and convolutions alone, nothing merged",
    ),
    Column(
        "storage_mb",
        lambda of: of["storage_with_head"] / 1e6,
        "1e6 bytes of the safetensors file that turns the backbone into this model",
        heading="MB",
        axis="stored megabytes, head included",
    ),
    Column(
        "storage_mb_without_head",
        lambda of: of["storage_without_head"] / 1e6,
        "the same without the head",
        heading="MB, no head",
        axis="stored megabytes, without head",
    ),
    Column(
        "bits_per_parameter",
        lambda of: 8 * of["storage_without_head"] / of["params_deployed"] if of["params_deployed"] else math.nan,
        "bits of that file without the head for each of its trainable parameters, the file's own header included",
    ),
    Column(
        "train_seconds",
        lambda of: of["train_seconds"],
        "seconds of training; times and memory compare on one device alone",
    ),
    Column(
        "train_images_per_second",
        lambda of: of["train_images_per_second"],
        "images a second in training",
        more_is_better=True,
    ),
    Column(
        "inference_images_per_second",
        lambda of: of["inference_images_per_second"],
        "images a second in testing",
        more_is_better=True,
    ),
    Column(
        "merged_images_per_second",
        lambda of: of["merged_images_per_second"],
        "the same with the method merged into the backbone, of 1,000 test images at most",
        more_is_better=True,
    ),
    Column(
        "train_mb",
        lambda of: of["train_bytes"] / 1e6,
        "1e6 bytes of weights, gradients, optimiser state and what one batch's forward pass keeps for the backward "
        "pass, counted tensor by tensor: the same at every call",
        axis="megabytes of weights, gradients, optimiser state and kept activations",
    ),
    Column(
        "inference_mb",
        lambda of: of["inference_bytes"] / 1e6,
        "1e6 bytes of weights and of the tensors alive at one time, at most, while one image is scored, nothing merged",
        axis="megabytes while one image is scored",
    ),
    Column("peak_mb", lambda of: of["peak_bytes"] / 1e6, "1e6 bytes of accelerator memory, at most, while training"),
    Column("peak_inference_mb", lambda of: of["peak_inference_bytes"] / 1e6, "the same while testing"),
    Column(
        "pe",
        lambda of: pe(of["score"], _trained(of)),
        "s exp(-log10(P / 1e8 + 1)), s the mean that ranks, in [0, 1], P = `params_trained` (ELEVATER, Li et al. 2022)",
        heading="PE",
        show=thousandths,
        digits=".6f",
        more_is_better=True,
    ),
)
NAMED: Mapping[str, Column] = {column.name: column for column in COLUMNS}
