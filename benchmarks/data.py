"""What decoding once saves: epochs from a prepared array against a DataLoader that decodes every image every time.

    python benchmarks/data.py [FOLDER] [--rounds 5] [--images 1000] [--batch 64]

FOLDER is any folder of images, as those of `bench run --data` and of the community's VTAB-1k; without one, 512 random
JPEGs of about 300x250 pixels are made. Both sides give the same normalised batches in the same order on the CPU, and no
model sees them. The loader is torchvision over PIL: resize, ToTensor, Normalize, in two workers that stay alive. Also
shown are the array's bytes, not normalised: a GPU gets them so, and normalises itself. All are measured in one process,
in turn, epoch by epoch; the ratios printed are those of the medians.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from bench.data import prepare
from bench.data.items import ImageList, open_image
from bench.data.prepare import Transform
from bench.data.readers.image_tree import SUFFIXES
from bench.data.splits import ArraySplit
from bench.models import backbones
from bench.models.families import build_view
from bench.models.view import ModelView
from bench.training.inference import Pixels

WORKERS = 2
SIZE = 224


class Files(Dataset[Tensor]):
    """Images decoded and transformed when asked for, as most training scripts do it."""

    def __init__(self, paths: list[Path], net: ModelView) -> None:
        self.paths = paths
        self.transform = transforms.Compose(
            [
                transforms.Resize((SIZE, SIZE), transforms.InterpolationMode.BICUBIC),
                transforms.ToTensor(),
                transforms.Normalize(*backbones.normalisation(net.model)),
            ]
        )

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        with Image.open(self.paths[index]) as image:
            batch: Tensor = self.transform(image.convert("RGB"))
        return batch


class Order:
    """The batches of an epoch, to be set before it; workers that stay alive keep their loader's sampler."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def __iter__(self) -> Iterator[list[int]]:
        return iter(self.batches)

    def __len__(self) -> int:
        return len(self.batches)


def draw(folder: Path, count: int) -> None:
    """Smooth noise with some grain: JPEGs about as large, and as slow to decode, as photographs."""
    rng = np.random.default_rng(0)
    for number in range(count):
        width, height = (int(side * rng.uniform(0.85, 1.15)) for side in (300, 250))
        clouds = Image.fromarray(rng.integers(0, 256, (height // 10, width // 10, 3), dtype=np.uint8))
        pixels = np.asarray(clouds.resize((width, height), Image.Resampling.BICUBIC)).astype(np.int16)
        grain = rng.normal(0, 6, pixels.shape).astype(np.int16)
        Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(folder / f"{number:03d}.jpg", quality=90)


def from_array(net: ModelView, images: np.ndarray, batches: Iterable[list[int]]) -> Iterator[Tensor]:
    pixels = Pixels(net, ArraySplit(images, np.zeros(len(images), np.int64)))
    return (pixels(torch.tensor(batch)) for batch in batches)


def as_bytes(images: np.ndarray, batches: Iterable[list[int]]) -> Iterator[Tensor]:
    return (torch.from_numpy(images[np.array(batch)]) for batch in batches)


def seconds(batches: Iterable[Tensor]) -> float:
    start = time.perf_counter()
    for _ in batches:
        pass
    return time.perf_counter() - start


def measure(paths: list[Path], place: Path, batch: int, rounds: int) -> None:
    items = ImageList(np.zeros(len(paths), np.int64), tuple(map(str, paths)), lambda i: open_image(paths[i]))
    start = time.perf_counter()
    prepare.build(place, lambda: {"train": items, "test": items.take([])}, Transform(SIZE))
    once = time.perf_counter() - start
    images = np.load(place / "train.images.npy", mmap_mode="r")
    net = build_view(backbones.create("vit_tiny_patch16_224", classes=2, weights="random"))  # for its mean and std
    order = Order()
    loader = DataLoader(Files(paths, net), batch_sampler=order, num_workers=WORKERS, persistent_workers=True)
    times: dict[str, list[float]] = {"array": [], "bytes": [], "loader": []}
    for number in range(rounds + 1):
        order.batches = [index.tolist() for index in torch.randperm(len(paths)).split(batch)]
        if not number:  # the first round warms up, and shows that both sides give the same
            worst = max(
                float((a - b).abs().max()) for a, b in zip(from_array(net, images, order.batches), loader, strict=True)
            )
            print(f"largest difference between the two, in standard deviations: {worst:.1e}", flush=True)
            continue
        sides: dict[str, Iterable[Tensor]] = {
            "array": from_array(net, images, order.batches),
            "bytes": as_bytes(images, order.batches),
            "loader": loader,
        }
        for name in sides if number % 2 else reversed(sides):
            times[name].append(seconds(sides[name]))
    rate = {name: len(paths) / statistics.median(values) for name, values in times.items()}
    threads = torch.get_num_threads()
    print(f"{len(paths)} images at {SIZE} pixels, batches of {batch}, {threads} threads, {rounds} rounds")
    titles = {"loader": f"DataLoader, {WORKERS} workers", "array": "prepared array", "bytes": "its bytes"}
    for name, title in titles.items():
        print(f"  {title:21} {rate[name]:8.0f} images/s (median), ratio {rate[name] / rate['loader']:6.1f}")
    print(f"  preparing took {once:.1f} s, once: {once * rate['loader'] / len(paths):.1f} epochs of the DataLoader")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--images", type=int, default=1000, help="at most so many; default: 1000")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = args.folder or Path(temporary)
        if args.folder is None:
            draw(folder, min(args.images, 512))
        paths = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)[: args.images]
        if not paths:
            parser.error(f"{folder} holds no images")
        measure(paths, Path(temporary) / "prepared", args.batch, args.rounds)


if __name__ == "__main__":
    main()
