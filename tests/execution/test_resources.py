"""What is said to a cluster: a TOML file, and options over it."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench.core.errors import UsageError
from bench.execution import executors
from bench.execution.executors.slurm import Options
from bench.execution.planner import executor_of
from bench.execution.request import Launch
from bench.execution.resources import Config, ResourceOverride, make_options, read_config

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


def options(text: str, config: Path | None = None) -> Options:
    """Of `--slurm TEXT`, over a configuration file."""
    launch = Launch("slurm", executors.read_options("slurm", text), config=str(config) if config else None)
    return make_options(Options, executor_of(launch)[2], "--slurm")


def test_a_file_says_what_a_cluster_needs(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text(WHOLE)
    assert read_config(path, executors.names()).resources == (
        ResourceOverride(backbone="vit_large*", memory=40.0, minutes=240),
        ResourceOverride(method="full", gpus=2),
    )
    assert options("", path) == Options(
        partition="gpu",
        gpus=1,
        memory=16.0,
        timeout=120,
        setup=("module load python", "export X=1"),
        sbatch={"nice": "5"},
    )
    assert read_config(None, executors.names()) == Config()


def test_all_faults_of_a_file_are_named_at_once(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[slurm]\npartitoin = "gpu"\ngpus = "one"\ntimeout = 1.5\n')
    with pytest.raises(UsageError) as error:
        options("", path)
    for fault in (
        "unknown key 'partitoin' (did you mean 'partition'?)",
        "gpus = 'one' is not a whole number or absent",
        "timeout = 1.5 is not a whole number",
    ):
        assert fault in str(error.value)
    path.write_text('[[resources]]\nmethd = "full"\n[slrm]\nx = 1\n')
    with pytest.raises(UsageError) as error:
        options("", path)
    assert "unknown key 'resources[0].methd' (did you mean 'method'?)" in str(error.value)
    assert "unknown key 'slrm'" in str(error.value) and str(path) in str(error.value)
    assert len(str(error.value).splitlines()) == 1


def test_a_file_that_is_no_toml_or_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"gone.toml cannot be read: No such file or directory\."):
        read_config(tmp_path / "gone.toml", executors.names())
    with pytest.raises(UsageError, match="is not a plain file"):
        read_config(tmp_path, executors.names())
    for text in (b"[slurm\n", b"\xff\xfe", b"x = " + b"[" * 5000):
        (tmp_path / "x.toml").write_bytes(text)
        with pytest.raises(UsageError, match="is not (TOML|UTF-8)"):
            read_config(tmp_path / "x.toml", executors.names())


def test_options_stand_over_the_file(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text('[slurm]\npartition = "cpu"\ntimeout = 10\nsetup = ["a"]\nsbatch = { nice = "5" }\n')
    text = "partition=gpu,gpus=2,memory=1.5,array-parallelism=9,signal_delay=30,setup=b=c"
    assert options(f"{text},sbatch.mail-type=END,sbatch.nice=7", path) == Options(
        partition="gpu",
        gpus=2,
        memory=1.5,
        timeout=10,
        array_parallelism=9,
        signal_delay=30,
        setup=("a", "b=c"),
        sbatch={"nice": "7", "mail-type": "END"},
    )
    assert options("memory=2").memory == 2.0
    assert options("partition=7").partition == "7"  # a name, whatever it looks like


def test_all_faults_of_options_are_named_at_once() -> None:
    with pytest.raises(UsageError, match=r"^--slurm: 'account' is not KEY=VALUE, like partition=gpu\.$"):
        options("partiton=gpu,account")
    with pytest.raises(UsageError) as error:
        options("partiton=gpu,gpus=two,array-paralelism=3")
    assert str(error.value) == (
        "--slurm: unknown key 'partiton' (did you mean 'partition'?); "
        "unknown key 'array_paralelism' (did you mean 'array_parallelism'?); "
        "gpus = 'two' is not a whole number or absent."
    )


@pytest.mark.parametrize(
    "text", ["timeout=0", "array-parallelism=0", "gpus=-1", "cpus=0", "memory=0", "signal-delay=-1"]
)
def test_numbers_that_make_no_sense_are_refused_before_anything_is_submitted(text: str) -> None:
    with pytest.raises(UsageError, match=r"^--slurm: \w+ must be (at least \d|more than 0)\.$"):
        options(text)


def test_overrides_whose_numbers_make_no_sense_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "cluster.toml"
    path.write_text("[[resources]]\nminutes = 0\ncpus = 0\n")
    with pytest.raises(UsageError, match="cpus must be at least 1; minutes must be at least 1"):
        read_config(path, executors.names())


def test_an_executor_that_does_not_exist_is_named() -> None:
    with pytest.raises(UsageError, match=r"No executor is called 'slrum'. Did you mean 'slurm'\?"):
        executors.get("slrum")
