"""What is said to a cluster: a TOML file, and options over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.errors import UsageError
from bench.execution import resources
from bench.execution.plan import ResourceOverride, Slurm

WHOLE = """
[slurm]
partition = "gpu"
gpus = 1
memory = 16
timeout = 120
setup = ["module load python", "export X=1"]
sbatch = { nice = "5" }

[[resources]]
backbone = "vit_large*"
memory = 40
minutes = 240

[[resources]]
method = "full"
gpus = 2
"""


def test_a_file_says_what_a_cluster_needs(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(WHOLE)
    found = resources.read(path)
    assert found.slurm == Slurm(
        partition="gpu",
        gpus=1,
        memory=16.0,
        timeout=120,
        setup=("module load python", "export X=1"),
        sbatch={"nice": "5"},
    )
    assert found.resources == (
        ResourceOverride(backbone="vit_large*", memory=40.0, minutes=240),
        ResourceOverride(method="full", gpus=2),
    )
    assert resources.read(None) == resources.Config()


def test_all_faults_of_a_file_are_told_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[slurm]\npartitoin = "gpu"\ngpus = "one"\ntimeout = 1.5\n[[resources]]\nmethd = "full"\n[slrm]\n')
    with pytest.raises(UsageError) as error:
        resources.read(path)
    told = str(error.value)
    for fault in (
        str(path),
        "unknown key 'slurm.partitoin' (did you mean 'partition'?)",
        "slurm.gpus = 'one' is not a whole number or absent",
        "slurm.timeout = 1.5 is not a whole number",
        "unknown key 'resources[0].methd' (did you mean 'method'?)",
        "unknown key 'slrm' (did you mean 'slurm'?)",
    ):
        assert fault in told
    assert len(told.splitlines()) == 1


def test_a_file_that_is_no_toml_or_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone.toml cannot be read: No such file or directory\."):
        resources.read(tmp_path / "gone.toml")
    with pytest.raises(UsageError, match="cannot be read"):
        resources.read(tmp_path)
    (tmp_path / "x.toml").write_bytes(b"[slurm\n")
    with pytest.raises(UsageError, match="is not TOML"):
        resources.read(tmp_path / "x.toml")
    (tmp_path / "x.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(UsageError, match="is not TOML"):
        resources.read(tmp_path / "x.toml")


def test_options_stand_over_the_file() -> None:
    file = Slurm(partition="cpu", timeout=10, setup=("a",), sbatch={"nice": "5"})
    told = "partition=gpu,gpus=2,memory=1.5,array-parallelism=9,signal_delay=30,setup=b=c,sbatch.mail-type=END,sbatch.nice=7"
    assert resources.with_options(file, told) == Slurm(
        partition="gpu",
        gpus=2,
        memory=1.5,
        timeout=10,
        array_parallelism=9,
        signal_delay=30,
        setup=("a", "b=c"),
        sbatch={"nice": "7", "mail-type": "END"},
    )
    assert resources.with_options(file, "") == file
    assert resources.with_options(file, "memory=2").memory == 2.0
    assert resources.with_options(file, "partition=7").partition == "7"  # a name, whatever it looks like


def test_all_faults_of_options_are_told_at_once() -> None:
    with pytest.raises(UsageError) as error:
        resources.with_options(Slurm(), "partiton=gpu,gpus=two,array-paralelism=3,account")
    assert str(error.value) == (
        "--slurm: 'account' is not KEY=VALUE, like partition=gpu; "
        "unknown key 'partiton' (did you mean 'partition'?); "
        "unknown key 'array_paralelism' (did you mean 'array_parallelism'?); "
        "gpus = 'two' is not a whole number or absent."
    )


@pytest.mark.parametrize(
    "told", ["timeout=0", "array-parallelism=0", "gpus=-1", "cpus=0", "memory=0", "signal-delay=-1"]
)
def test_numbers_that_make_no_sense_are_refused_before_anything_is_submitted(told: str) -> None:
    with pytest.raises(UsageError, match=r"^--slurm: \w+ must be (at least \d|more than 0)\.$"):
        resources.with_options(Slurm(), told)


def test_rules_whose_numbers_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text("[[resources]]\nminutes = 0\ncpus = 0\n")
    with pytest.raises(UsageError, match="cpus must be at least 1; minutes must be at least 1"):
        resources.read(path)
