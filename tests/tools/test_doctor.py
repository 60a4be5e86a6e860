"""bench doctor: versions against those that the package asks for."""

from __future__ import annotations

import pytest

from bench.tools import doctor
from bench.tools.doctor import Finding

NEEDS = [
    "torch>=2.6",
    "numpy>=1.26",
    'submitit>=1.5; extra == "slurm"',
    'transformers>=5; extra == "cvt"',
    'ruff>=0.6; extra == "dev"',
]
INSTALLED = {"torch": "2.6.0+cpu", "numpy": "1.25.2", "submitit": "1.4"}


def installed(name: str) -> str:
    if name not in INSTALLED:
        raise doctor.PackageNotFoundError(name)
    return INSTALLED[name]


def test_what_is_too_old_or_missing_is_told_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "requires", lambda _: NEEDS)
    monkeypatch.setattr(doctor, "version", installed)
    numpy = "1.25.2 is too old: bench needs numpy>=1.26. pip install --upgrade 'numpy>=1.26'"
    submitit = "1.4 is too old: bench needs submitit>=1.5. pip install --upgrade 'submitit>=1.5'"
    findings = doctor.examine()
    assert findings[1:5] == [
        Finding("ok", "torch", "2.6.0+cpu"),
        Finding("problem", "numpy", numpy),
        Finding("note", "submitit", submitit),
        Finding("note", "transformers", "is not installed. pip install 'transformers>=5'"),
    ]
    assert not [finding for finding in findings if finding.topic == "ruff"]


def test_a_clone_that_is_not_installed_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(name: str) -> list[str]:
        raise doctor.PackageNotFoundError(name)

    monkeypatch.setattr(doctor, "requires", unknown)
    assert [(finding.level, finding.topic) for finding in doctor.examine()[1:2]] == [("note", "petbench")]
