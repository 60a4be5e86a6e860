"""What a grid says about the machine that it is asked on."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from bench.core import configs
from bench.core.errors import UsageError
from bench.data.sources import Missing
from bench.execution import grid
from bench.execution.request import MethodChoice, make_request
from bench.models import texts


@pytest.mark.parametrize(
    ("text", "known"),
    [
        ("processor\t: 0\nflags\t\t: fpu avx2 avx512f avx512_bf16 amx_tile\n", True),
        ("flags\t\t: fpu avx2 amx_bf16\n", True),
        ("flags\t\t: fpu avx2 avx512f avx512_vnni\n", False),
        ("flags\t\t: fpu avx2\n", False),
        ("Features\t: fp asimd bf16\n", True),  # no x86: nothing is known
        (None, True),
    ],
)
def test_a_processor_without_bfloat16_is_known_by_its_flags(text: str | None, known: bool, tmp_path: Path) -> None:
    path = tmp_path / "cpuinfo"
    if text is not None:
        path.write_text(text, encoding="utf-8")
    assert grid.computes_in_bf16(path) == known


@pytest.mark.parametrize(
    ("precision", "device", "able", "warned"),
    [("bf16", "cpu", False, 1), ("bf16", "cpu", True, 0), ("fp32", "cpu", False, 0), ("bf16", "cuda", False, 0)],
)
def test_bf16_on_a_processor_without_it_is_warned_of(
    precision: str, device: str, able: bool, warned: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(grid, "computes_in_bf16", lambda: able)
    lines: list[str] = []
    request = make_request(
        methods=(MethodChoice("lora"),), datasets=("pocket/digits",), precision=precision, seeds=(0,)
    )
    made = grid.make(request, device, lines.append, prepare=False)
    assert [job.spec.protocol.precision for job in made.jobs] == [precision]
    assert len(lines) == warned and all("no instructions for bfloat16" in line for line in lines)


def test_texts_that_are_missing_are_told_before_anything_is_decoded(tmp_path: Path) -> None:
    names = ("pocket/digits", "pocket/count")
    request = make_request(
        methods=(MethodChoice("linear_probe"),),
        datasets=names,
        backbones=("pocket_vit",),
        protocol="elevater-5shot@v2",
        seeds=(0,),
        data_root=str(tmp_path),
    )
    with pytest.raises(UsageError) as told:
        grid.make(request, "cpu", print)
    assert "bench data texts --dataset pocket/digits --backbone pocket_vit" in str(told.value)
    assert str(told.value).count("\n") == 0 and "So it is with 1 more: --dataset takes a suite" in str(told.value)
    assert not list(tmp_path.iterdir())
    for name in names:
        classes = configs.dataset(name).classes
        said = texts.Texts(tuple(map(str, range(classes))), ("{}",))
        texts.write(texts.place(tmp_path, name, "pocket_vit"), torch.eye(classes), said, "a test")
    assert [job.card.name for job in grid.make(request, "cpu", print).jobs] == list(names)


def test_data_that_are_missing_are_told_before_their_texts(tmp_path: Path) -> None:
    request = make_request(
        methods=(MethodChoice("linear_probe"),), datasets=("elevater/mnist",), seeds=(0,), data_root=str(tmp_path)
    )
    with pytest.raises(Missing):
        grid.make(dataclasses.replace(request, protocol="elevater-5shot@v2"), "cpu", print)
