from __future__ import annotations

from pathlib import Path

import pytest

from bench.cli.main import main
from bench.core.errors import UsageError
from bench.data.root import default_data_root


def test_the_default_is_the_environments_or_in_the_users_cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("BENCH_DATA", str(tmp_path / "named"))
    assert default_data_root() == tmp_path / "named"
    monkeypatch.setenv("BENCH_DATA", "")  # an empty value is none
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    assert default_data_root() == tmp_path / "cache/petbench"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert default_data_root() == tmp_path / ".cache/petbench"


@pytest.fixture
def no_home(monkeypatch: pytest.MonkeyPatch) -> None:
    def home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    for name in ("BENCH_DATA", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", home)


@pytest.mark.usefixtures("no_home")
def test_a_user_without_a_home_is_told_in_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="no home folder .* --data-root DIR, or set BENCH_DATA"):
        default_data_root()
    assert main(["data", "status", "pocket"]) == 2 and "no home folder" in capsys.readouterr().err
    assert main(["doctor"]) == 2 and "no home folder" in capsys.readouterr().out
    assert main(["data", "status", "pocket", "--data-root", str(tmp_path)]) == 0
    assert main(["doctor", "--data-root", str(tmp_path)]) == 0
