"""One task of VTAB-1k's shape on an accelerator: seconds, share of the peak, memory, and Hugging Face PEFT beside it.

    python benchmarks/gpu.py [--methods linear_probe,lora,mimi,full] [--precision bf16] [--compile]
    python benchmarks/gpu.py --device cpu --backbone pocket_vit --train 40 --test 40 --epochs 3 --batch 20

A task is 1,000 images at the backbone's size, trained on for 100 epochs, and 10,000 test images, scored once, with
ViT-B/16 and random weights and pixels: the numbers learned mean nothing, their cost is that of a real task. Reading and
decoding are not part of it (benchmarks/data.py measures them): images lie in memory as bytes, as after `bench data`.

    train s    of the training, as a run records it; MiMi's phases and removals included
    test s     of scoring the test images
    task s     of both, with attaching the method; 19 x: of VTAB-1k's tasks, in minutes
    images/s   trained on
    TFLOP/s    of training and scoring: the products of one step, counted, by the number of steps, and those of a
               forward pass by the number of test images
    peak       its share of what the device can do in the precision; --peak gives the TFLOP/s of one that is not known
    MB         the most that was allocated on the device

`peft` trains LoRA with Hugging Face PEFT in a plain loop on the same bytes, for as many epochs. `compiled` (--compile)
is a step of LoRA under torch.compile against one that is not: what compiling would give, and what it takes.
"""

from __future__ import annotations

import argparse
import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from bench.core import configs
from bench.core.spec import Precision, Protocol
from bench.data.splits import ArraySplit
from bench.models import backbones, registry
from bench.models.method import build
from bench.models.tuned_model import TunedModel
from bench.training import inference, loop
from bench.training.batches import BatchLoader

CLASSES = 100
PEAKS = {"H200": 989, "H100": 989, "A100": 312, "A40": 150, "L40S": 362, "L4": 121, "V100": 125, "T4": 65}
"""Dense TFLOP/s of 16-bit products by a part of the device's name, as the makers give them."""


@dataclass(frozen=True)
class Task:
    backbone: str
    device: str
    protocol: Protocol
    train: ArraySplit
    test: ArraySplit

    def model(self) -> nn.Module:
        torch.manual_seed(0)
        return backbones.create(
            self.backbone,
            classes=CLASSES,
            weights="random",
            device=self.device,
            precision=self.protocol.precision,
        )

    def tuned(self, method: str) -> TunedModel:
        return TunedModel.attach(self.model(), build(registry.load(method), {}, method))

    @property
    def steps(self) -> int:
        return self.protocol.epochs * math.ceil(len(self.train) / self.protocol.batch_size)


@dataclass(frozen=True)
class Measured:
    train: float  # seconds
    test: float
    task: float
    images: float  # a second
    tflops: float  # a second
    megabytes: float


def pixels(count: int, size: int, seed: int) -> ArraySplit:
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, size, size, 3), dtype=np.uint8)
    return ArraySplit(images, rng.integers(0, CLASSES, count))


def finish(device: str) -> None:
    if device == "cuda":
        torch.cuda.synchronize()


def reset(device: str) -> None:
    if device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def allocated(device: str) -> float:
    return torch.cuda.max_memory_allocated() / 1e6 if device == "cuda" else math.nan


def counted(work: Callable[[], object]) -> float:
    """Floating-point operations of products."""
    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def step_flops(task: Task, method: str) -> tuple[float, float]:
    """Of one training step, and of scoring one image, of the method as it starts (MiMi's later phases cost less)."""
    net = task.tuned(method).train()
    some = task.train.take(np.arange(min(len(task.train), task.protocol.batch_size)))
    loader = BatchLoader(net.view, some, precision=task.protocol.precision)

    def step() -> None:
        logits, labels = loader(torch.arange(len(some)))
        F.cross_entropy(logits, labels).backward()

    one = task.train.take(np.arange(1))
    return counted(step), counted(lambda: inference.predict(net.view, one, task.protocol.precision))


def ours(task: Task, method: str) -> Measured:
    reset(task.device)
    start = time.perf_counter()
    net = task.tuned(method)
    trained = loop.fit(net, net.method.phases(task.protocol.epochs), task.protocol, task.train, None, seed=0)
    finish(task.device)
    scored = time.perf_counter()
    inference.predict(net.view, task.test, task.protocol.precision)
    end = time.perf_counter()
    memory = allocated(task.device)
    step, image = step_flops(task, method)
    work = step * task.steps + image * len(task.test)
    if net.view.only_head_trains():  # its features are computed once
        work += image * len(task.train)
    train, test = trained.seconds, end - scored
    return Measured(train, test, end - start, trained.images_per_second, work / (train + test) / 1e12, memory)


def peft(task: Task) -> Measured:
    """The same LoRA with Hugging Face PEFT: a plain loop over bytes that lie on the device."""
    from peft import LoraConfig, get_peft_model

    reset(task.device)
    start = time.perf_counter()
    model = get_peft_model(
        task.model(),  # type: ignore[arg-type]
        LoraConfig(r=8, lora_alpha=8, target_modules=["qkv"], modules_to_save=["head"]),
    ).train()
    mean, std = (torch.tensor(v, device=task.device).view(3, 1, 1) for v in backbones.normalisation(task.model()))
    cast = torch.autocast(task.device, torch.bfloat16, enabled=task.protocol.precision == "bf16")

    def logits(images: Tensor) -> Tensor:
        x = (images.permute(0, 3, 1, 2).float() / 255 - mean) / std
        with cast:
            return model(x).float()

    images = torch.from_numpy(np.asarray(task.train.images[:])).to(task.device)
    labels = torch.from_numpy(task.train.labels).to(task.device)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-3, fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: loop.schedule(step, task.steps, 0.1))
    began = time.perf_counter()
    for _ in range(task.protocol.epochs):
        for index in torch.randperm(len(images), device=task.device).split(task.protocol.batch_size):
            F.cross_entropy(logits(images[index]), labels[index]).backward()
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            schedule.step()
    finish(task.device)
    train = time.perf_counter() - began
    model.eval()
    scored = time.perf_counter()
    size = inference.images_at_a_time(task.tuned("lora").view)
    with torch.no_grad():
        for first in range(0, len(task.test), size):
            part = torch.from_numpy(np.asarray(task.test.images[first : first + size])).to(task.device)
            logits(part).argmax(1).cpu()
    end = time.perf_counter()
    memory = allocated(task.device)
    step, image = step_flops(task, "lora")
    work = step * task.steps + image * len(task.test)
    seen = task.protocol.epochs * len(images)
    return Measured(train, end - scored, end - start, seen / train, work / (train + end - scored) / 1e12, memory)


def compiled(task: Task) -> str:
    """Milliseconds of a step of LoRA, as it is and compiled, and the seconds that compiling took."""
    net = task.tuned("lora").train()
    x = inference.Pixels(net.view, task.train)(torch.arange(min(len(task.train), task.protocol.batch_size)))

    def milliseconds(model: Callable[[Tensor], Tensor], rounds: int = 10) -> float:
        def step() -> None:
            with inference.autocast(net.view, task.protocol.precision):
                out = model(x)
            out.float().sum().backward()

        step()
        finish(task.device)
        start = time.perf_counter()
        for _ in range(rounds):
            step()
        finish(task.device)
        return 1e3 * (time.perf_counter() - start) / rounds

    plain, start = milliseconds(net.model), time.perf_counter()
    fast = torch.compile(net.model)
    fast(x).sum().backward()
    finish(task.device)
    took = time.perf_counter() - start
    return f"compiled: a step of LoRA takes {plain:.1f} ms, compiled {milliseconds(fast):.1f} ms after {took:.0f} s"


def peak_of(device: str, given: float | None, precision: Precision) -> float:
    if given is not None:
        return given
    if device != "cuda" or precision != "bf16":
        return math.nan
    name = torch.cuda.get_device_name()
    return next((value for part, value in PEAKS.items() if part in name), math.nan)


def _known(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--methods", default="linear_probe,lora,mimi,full")
    parser.add_argument("--backbone", default="vit_base_patch16_224")
    parser.add_argument("--precision", default="bf16", choices=("fp32", "bf16"))
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--train", type=int, default=1000)
    parser.add_argument("--test", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--peak", type=float, help="TFLOP/s of the device in this precision")
    parser.add_argument("--compile", action="store_true", help="also a compiled step")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        parser.error("no GPU can be used here. --device cpu measures a small task: see the second example of --help.")
    protocol = replace(
        configs.protocol("vtab1k@v1"), epochs=args.epochs, batch_size=args.batch, precision=args.precision
    )
    size = backbones.size_of(args.backbone)
    task = Task(args.backbone, args.device, protocol, pixels(args.train, size, 0), pixels(args.test, size, 1))
    peak = peak_of(args.device, args.peak, args.precision)
    where = torch.cuda.get_device_name() if args.device == "cuda" else f"CPU, {torch.get_num_threads()} threads"
    print(
        f"{where}, torch {torch.__version__}, {args.precision}; {args.backbone}, {args.train} images at {size} pixels "
    )
    print(f"x {args.epochs} epochs in batches of {args.batch}, {args.test} test images")
    print(f"{'':14} {'train s':>8} {'test s':>7} {'task s':>8} {'19 x':>9} {'images/s':>9}", end="")
    print(f" {'TFLOP/s':>8} {'peak':>6} {'MB':>8}")
    jobs: dict[str, Callable[[], Measured]] = {
        name: lambda name=name: ours(task, name) for name in args.methods.split(",")
    }
    for name, measure in (jobs | {"peft": lambda: peft(task)}).items():
        m = measure()
        print(
            f"{name:14} {m.train:8.1f} {m.test:7.1f} {m.task:8.1f} {19 * m.task / 60:5.1f} min {m.images:9.0f} "
            f"{m.tflops:8.2f} {_known(m.tflops / peak, '.1%'):>6} {_known(m.megabytes, '.0f'):>8}",
            flush=True,
        )
    if args.compile:
        print(compiled(task))


if __name__ == "__main__":
    main()
