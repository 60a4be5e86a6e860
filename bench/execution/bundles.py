"""Runs into bundles of similar cost, one for each worker at a time."""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

from bench.execution.plan import Bundle
from bench.execution.resources import Resources


def bundled(costs: Sequence[tuple[float, Resources]], seconds: float) -> list[Bundle]:
    """Bundles of about `seconds` each, of runs with the same resources, the costliest first; for 0 s every run alone.

    Every run goes, the costliest first, to the bundle that has least so far: so they end at about the same time.
    """
    bundles: list[Bundle] = []
    for resources in dict.fromkeys(need for _, need in costs):
        own = [index for index, (_, need) in enumerate(costs) if need == resources]
        total = sum(costs[index][0] for index in own)
        count = max(1, min(len(own), math.ceil(total / seconds))) if seconds > 0 else len(own)
        heap = [(0.0, number) for number in range(count)]  # the load of each bundle, the least first
        members = [list[int]() for _ in range(count)]
        for index in sorted(own, key=lambda i: -costs[i][0]):
            load, number = heap[0]
            heapq.heapreplace(heap, (load + costs[index][0], number))
            members[number].append(index)
        bundles += [Bundle(tuple(sorted(members[number])), load, resources) for load, number in sorted(heap)]
    return sorted(bundles, key=lambda bundle: -bundle.seconds)
