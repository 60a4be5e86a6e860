"""What a grid says about the machine that it is asked on."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.execution import grid
from bench.execution.request import MethodChoice, make_request


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
