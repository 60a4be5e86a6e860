"""Names beside points, none over another: greedy, in pixels, each at the nearest free place around its point."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import numpy.typing as npt
from matplotlib import patheffects
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg

Point = tuple[float, float]
Array = npt.NDArray[np.float64]  # boxes end in 4: left, bottom, right, top; points end in 2: x, y; all in pixels

RADII = (7, 10, 14, 19, 25, 32, 40, 50, 62, 76, 92, 110, 130)  # points
ANGLES = tuple(math.tau * turn / 16 for turn in (0, 8, 2, 14, 4, 12, 6, 10, 1, 15, 7, 9, 3, 13, 5, 11))
PLACES = np.asarray([(radius, math.cos(angle), math.sin(angle)) for radius in RADII for angle in ANGLES])
LED = PLACES[:, 0] >= 14  # so far from its point, a name has a line that leads to it
GAP = 2.0  # pixels between any two things
TRIES = 12  # orders; in each, the names that were unlucky in the one before choose first
CROSSING = 20.0  # what a pixel step of a crossed line weighs, in square pixels of overlap


def place(axes: Axes, points: Sequence[Point], names: Sequence[str], lines: Sequence[Array], size: float) -> bool:
    """Whether every name found a place that touches no name, marker, leader or line and lies within the axes.

    Call it when the layout is final. A name without such a place is put where it disturbs least. `lines` are in data
    coordinates, (n, 2) each.
    """
    figure = axes.get_figure(root=True)
    assert figure is not None
    renderer = FigureCanvasAgg(figure).get_renderer()  # type: ignore[no-untyped-call, unused-ignore]
    unit = figure.dpi / 72  # pixels a point
    frame = axes.get_window_extent(renderer)
    inside = np.asarray([frame.x0 + GAP, frame.y0 + GAP, frame.x1 - GAP, frame.y1 - GAP])
    anchors = np.asarray([axes.transData.transform(point) for point in points]).reshape(-1, 2)
    drawn = _along([axes.transData.transform(line) for line in lines])
    extents = [_extent(axes, name, size, renderer) for name in names]
    order, tries = _most_crowded_first(anchors), []
    for _ in range(TRIES):
        tries.append(_in_turn(order, anchors, extents, drawn, inside, unit))
        unlucky = tries[-1][1]
        if not unlucky:
            break
        order = [*unlucky, *(index for index in order if index not in unlucky)]
    chosen, unlucky = min(tries, key=lambda tried: len(tried[1]))
    for index, best in chosen.items():
        offset = _offsets(extents[index], unit)[best] / unit
        _write(axes, points[index], names[index], offset, size, bool(LED[best]))
    return not unlucky


def _in_turn(
    order: Sequence[int], anchors: Array, extents: Sequence[Array], drawn: Array, inside: Array, unit: float
) -> tuple[dict[int, int], list[int]]:
    """The index of each name's place, given one after the other; and the names that disturb something even there."""
    markers = _boxes(anchors, np.full(2, 9.0 * unit))
    labels, leaders = np.empty((0, 4)), np.empty((0, 2))
    chosen: dict[int, int] = {}
    unlucky: list[int] = []
    for index in order:
        extent = extents[index]
        offsets = _offsets(extent, unit)
        boxes = _boxes(anchors[index] + offsets, extent)
        reach = anchors[index] + np.linspace(0, 1, 40)[:, None] * offsets[:, None]  # (places, 40, 2)
        others = np.concatenate([np.delete(markers, index, axis=0), labels])
        between = ~_within(reach, boxes[:, None]) & ~_within(reach, markers[index])
        crossed = (_within(reach[:, :, None], others).any(2) & between).sum(1) * LED
        over = _shared(boxes[:, None], np.concatenate([others, markers[index : index + 1]])).sum(1)
        covered = _within(np.concatenate([leaders, drawn]), boxes[:, None]).sum(1)
        outside = extent.prod() - _shared(boxes, inside, 0)
        clash = over + outside + CROSSING * (crossed + covered)
        best = int(np.argmin(np.round(clash)))  # the first, which is the nearest, among equals
        if round(float(clash[best])) > 0:
            unlucky.append(index)
        labels = np.concatenate([labels, boxes[best : best + 1]])
        if LED[best]:
            leaders = np.concatenate([leaders, reach[best][~_within(reach[best], boxes[best])]])
        chosen[index] = best
    return chosen, unlucky


def _offsets(extent: Array, unit: float) -> Array:
    """From a point to the middle of its name, in pixels, for every place."""
    return PLACES[:, 1:] * (PLACES[:, :1] * unit + extent / 2)


def _most_crowded_first(anchors: Array) -> list[int]:
    distance = np.linalg.norm(anchors[:, None] - anchors, axis=2)
    return [int(index) for index in np.argsort(-(1 / (20 + distance)).sum(1), kind="stable")]


def _boxes(centres: Array, extent: Array) -> Array:
    return np.concatenate([centres - extent / 2, centres + extent / 2], axis=1)


def _along(lines: Sequence[Array]) -> Array:
    """Points a few pixels apart along every line."""
    steps = [np.empty((0, 2))]
    for line in lines:
        for a, b in pairwise(line):
            count = max(2, int(np.linalg.norm(b - a) / 3))
            steps.append(a + np.linspace(0, 1, count)[:, None] * (b - a))
    return np.concatenate(steps)


def _within(points: Array, boxes: Array) -> npt.NDArray[np.bool_]:
    x, y = points[..., 0], points[..., 1]
    left, bottom, right, top = np.moveaxis(boxes, -1, 0)
    return (x > left - GAP) & (x < right + GAP) & (y > bottom - GAP) & (y < top + GAP)


def _shared(one: Array, other: Array, gap: float = GAP) -> Array:
    """The area in which two boxes overlap, the second widened by the gap."""
    width = np.minimum(one[..., 2], other[..., 2] + gap) - np.maximum(one[..., 0], other[..., 0] - gap)
    height = np.minimum(one[..., 3], other[..., 3] + gap) - np.maximum(one[..., 1], other[..., 1] - gap)
    return np.maximum(width, 0) * np.maximum(height, 0)


def _extent(axes: Axes, name: str, size: float, renderer: object) -> Array:
    text = axes.text(0, 0, name, fontsize=size)
    box = text.get_window_extent(renderer)  # type: ignore[arg-type]
    text.remove()
    return np.asarray([box.width, box.height])


def _write(axes: Axes, point: Point, name: str, offset: Array, size: float, led: bool) -> None:
    text = axes.annotate(
        name,
        point,
        (float(offset[0]), float(offset[1])),
        textcoords="offset points",
        ha="center",
        va="center",
        fontsize=size,
        color="0.15",
        gid="label",
        zorder=5,
        arrowprops={"arrowstyle": "-", "color": "0.55", "lw": 0.6, "shrinkA": 0, "shrinkB": 4} if led else None,
    )
    text.set_path_effects([patheffects.withStroke(linewidth=2, foreground="white")])
    text.set_in_layout(False)
