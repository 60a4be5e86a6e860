"""What the harness costs over a bare loop: the same model, optimiser, schedule, batches and data already in memory.

    python benchmarks/overhead.py [--method lora] [--backbone pocket_vit] [--rounds 5]

Both are measured in one process, alternately, round by round; the ratio printed is that of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import time

import numpy as np
import torch
from torch.nn import functional as F

from bench.core import configs
from bench.data.splits import ArraySplit
from bench.models import backbones, registry
from bench.models.method import Phase, build
from bench.models.tuned_model import TunedModel
from bench.training import loop

EPOCHS = 1


def fresh(method: str, backbone: str) -> TunedModel:
    torch.manual_seed(0)
    model = backbones.create(backbone, classes=10, weights="random")
    return TunedModel.attach(model, build(registry.load(method), {}, method))


def harness(net: TunedModel, data: ArraySplit) -> float:
    protocol = configs.protocol("pocket@v1")
    start = time.perf_counter()
    loop.fit(net, (Phase(EPOCHS),), protocol, data, None, seed=0)
    return time.perf_counter() - start


def bare(net: TunedModel, data: ArraySplit) -> float:
    """A loop as one would write it by hand, over images that are already normalised floats."""
    protocol = configs.protocol("pocket@v1")
    mean, std = (torch.tensor(value).view(3, 1, 1) for value in backbones.normalisation(net.model))
    x = (torch.from_numpy(data.images).permute(0, 3, 1, 2).float() / 255 - mean) / std
    y = torch.from_numpy(data.labels)
    parameters = [p for p in net.model.parameters() if p.requires_grad]
    start = time.perf_counter()
    optimizer = torch.optim.AdamW(parameters, lr=protocol.lr, fused=True)
    steps = EPOCHS * -(-len(y) // protocol.batch_size)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: loop.schedule(step, steps, protocol.warmup))
    for _ in range(EPOCHS):
        for index in torch.randperm(len(y)).split(protocol.batch_size):
            F.cross_entropy(net.model(x[index]), y[index]).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
    return time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--method", default="lora")
    parser.add_argument("--backbone", default="pocket_vit")
    parser.add_argument("--images", type=int, default=400)
    parser.add_argument("--rounds", type=int, default=7)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    data = ArraySplit(rng.integers(0, 256, (args.images, 32, 32, 3), dtype=np.uint8), rng.integers(0, 10, args.images))
    times: dict[str, list[float]] = {"harness": [], "bare": []}
    for number in range(args.rounds + 1):
        pair = [("harness", harness), ("bare", bare)]
        for name, trained in pair if number % 2 else reversed(pair):
            seconds = trained(fresh(args.method, args.backbone), data)
            if number:  # the first round warms up
                times[name].append(seconds)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["harness"] / medians["bare"]
    print(f"{args.method} on {args.backbone}, {args.images} images", end=", ")
    print(f"{torch.get_num_threads()} threads, {args.rounds} rounds")
    for name, value in medians.items():
        print(f"  {name:8} {value:.3f} s (median), {args.images * EPOCHS / value:.0f} images/s")
    print(f"  ratio    {ratio:.3f}")


if __name__ == "__main__":
    main()
