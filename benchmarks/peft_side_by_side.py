"""Our LoRA run beside the script that a user would write with timm, Hugging Face PEFT, ImageFolder and DataLoader.

    python benchmarks/peft_side_by_side.py [--size 32] [--epochs 3] [--rounds 3] [--threads 2]
    python benchmarks/peft_side_by_side.py --size 224 --epochs 1

Both start from the same JPEGs, FOLDER/train/<class>/*.jpg and FOLDER/test/<class>/*.jpg, drawn anew, and end with a
score on the test images; both are whole processes, measured from their start to their end: imports, decoding, training,
scoring, and on our side the counting of costs, the record, leaderboard and figures too. Both train LoRA of rank 8 on
the fused qkv and a new head, with AdamW, the same schedule and batches, from the same random weights' distribution.

    script      benchmarks/peft_script.py: decodes every image in every epoch, in two worker processes; float32
    ours        bench run, float32
    ours bf16   bench run --precision bf16: bfloat16 products, which the record says; the script could ask for them too

The three run in turn, in another order every round. Ratios are of a round, script / ours, and their median is printed,
of wall-clock seconds and of processor seconds, which a busy machine does not stretch. Sizes: 32 pixels are pocket_vit's
(the script builds the same ViT), 224 pixels ViT-Ti/16.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

HERE = Path(__file__).parent
CLASSES = 10
SETTINGS = {32: ("pocket_vit", "pocket@v1", 64), 224: ("vit_tiny_patch16_224", "vtab1k@v1", 256)}
"""By size: backbone, protocol, and how large the JPEGs are."""


def draw(folder: Path, images: dict[str, int], side: int) -> None:
    """Smooth noise with some grain, brighter class by class: about as slow to decode as photographs."""
    rng = np.random.default_rng(0)
    for split, count in images.items():
        for number in range(count):
            label = number % CLASSES
            clouds = Image.fromarray(rng.integers(0, 200, (side // 8, side // 8, 3), dtype=np.uint8))
            pixels = np.asarray(clouds.resize((side, side), Image.Resampling.BICUBIC)).astype(np.int16) + 5 * label
            grain = rng.normal(0, 6, pixels.shape).astype(np.int16)
            place = folder / split / f"class{label}"
            place.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.clip(pixels + grain, 0, 255).astype(np.uint8)).save(
                place / f"{number:05d}.jpg", quality=90
            )


def commands(args: argparse.Namespace, images: Path, out: Path) -> dict[str, list[str]]:
    backbone, protocol, _ = SETTINGS[args.size]
    run = [sys.executable, "-m", "bench", "run", "--method", "lora", "--set", "targets=qkv", "--data", str(images)]
    run += ["--backbone", backbone, "--weights", "random", "--protocol", protocol, "--epochs", str(args.epochs)]
    run += ["--seeds", "0", "--device", "cpu", "--threads", str(args.threads), "--data-root", str(out / "data")]
    run += ["--out", str(out / "results")]
    script = [sys.executable, str(HERE / "peft_script.py"), str(images), "--size", str(args.size)]
    script += ["--epochs", str(args.epochs), "--batch", {32: "20", 224: "64"}[args.size]]
    script += ["--lr", {32: "5e-3", 224: "1e-3"}[args.size], "--threads", str(args.threads)]
    return {"script": script, "ours": run, "ours bf16": [*run, "--precision", "bf16"]}


def measure(command: Sequence[str], threads: int) -> tuple[float, float, str]:
    """Wall-clock and processor seconds of a command and of its children, and what it printed."""
    before, start = resource.getrusage(resource.RUSAGE_CHILDREN), time.perf_counter()
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=HERE.parent,
        env=os.environ | {"OMP_NUM_THREADS": str(threads)},
    )
    wall, after = time.perf_counter() - start, resource.getrusage(resource.RUSAGE_CHILDREN)
    if done.returncode:
        sys.exit(f"{' '.join(command)}\n{done.stdout}{done.stderr}")
    return wall, after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


def accuracy(printed: str) -> str:
    """The first percentage that a command printed: the script's accuracy, or that of our run."""
    return next((word for word in printed.split() if word.endswith("%")), "?")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", type=int, default=32, choices=sorted(SETTINGS))
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--images", default="", metavar="TRAIN,TEST", help="default: 1000,1000; 200,200 at 224 pixels")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()
    train, test = map(int, (args.images or {32: "1000,1000", 224: "200,200"}[args.size]).split(","))
    print(f"{train} images to train on, {test} to test on, {args.size} pixels, {args.epochs} epochs, ", end="")
    print(f"{args.threads} threads, {args.rounds} rounds", flush=True)
    rows: dict[str, list[tuple[float, float]]] = {}
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder) / "images"
        draw(images, {"train": train, "test": test}, SETTINGS[args.size][2])
        for number in range(args.rounds):
            sides = list(commands(args, images, Path(folder) / f"round{number}").items())
            for name, command in sides[number % 3 :] + sides[: number % 3]:
                command = [part.replace("round", f"{name.replace(' ', '_')}-round") for part in command]
                wall, processor, printed = measure(command, args.threads)
                rows.setdefault(name, []).append((wall, processor))
                print(f"  round {number} {name:10} {wall:7.1f} s ({processor:6.1f} s of processor)", end="")
                print(f"  {accuracy(printed)}", flush=True)
    for name in ("script", "ours", "ours bf16"):
        wall, processor = (statistics.median(each) for each in zip(*rows[name], strict=True))
        print(f"{name:10} {wall:7.1f} s ({processor:6.1f} s of processor)", end="")
        if name != "script":
            pairs = list(zip(rows["script"], rows[name], strict=True))
            ratios = [statistics.median(theirs[i] / ours[i] for theirs, ours in pairs) for i in (0, 1)]
            print(f"   script / {name}: {ratios[0]:.2f} ({ratios[1]:.2f} of processor seconds)", end="")
        print()


if __name__ == "__main__":
    main()
