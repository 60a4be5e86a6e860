"""Bundles, resources_for, estimates, and a plan that any process builds its jobs from."""

from __future__ import annotations

import dataclasses
import math
import os
from pathlib import Path

import pytest
from helpers.images import paint
from helpers.plans import SMALL, job, plan_of
from helpers.specs import PROTOCOL, SPEC
from helpers.stored import DONE, FAILED
from safetensors.torch import save_file

from bench.core import configs
from bench.core.errors import BadData, UsageError
from bench.core.spec import RunSpec
from bench.core.store import Store
from bench.data.readers import folder
from bench.data.root import default_data_root
from bench.execution import estimate, executors, grid
from bench.execution import plan as planning
from bench.execution.bundles import bundled
from bench.execution.estimate import History
from bench.execution.plan import Plan
from bench.execution.request import MethodChoice, RunRequest
from bench.execution.resources import ResourceOverride, Resources, resources_for
from bench.models import backbones
from bench.models.method import build
from bench.models.registry import load
from bench.training import job as jobs

LARGE = Resources(gpus=1, cpus=8, memory=40.0)


# bundles -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("costs", "seconds", "sizes"),
    [
        ([10.0] * 12, 30.0, [3, 3, 3, 3]),  # as many in each as fit
        ([10.0] * 12, 1e9, [12]),
        ([10.0] * 12, 1.0, [1] * 12),  # a run is not divided
        ([10.0] * 10 + [100.0], 100.0, [10, 1]),  # the long one alone, the short ones together
        ([], 60.0, []),
    ],
)
def test_bundles_of_a_wanted_length(costs: list[float], seconds: float, sizes: list[int]) -> None:
    found = bundled([(cost, SMALL) for cost in costs], seconds)
    assert sorted((len(bundle.runs) for bundle in found), reverse=True) == sizes


def test_every_run_is_in_one_bundle_with_its_own_needs_and_bundles_cost_alike() -> None:
    costs = [(1.0 + 7 * index % 13, LARGE if index % 3 == 0 else SMALL) for index in range(50)]
    found = bundled(costs, 40.0)
    assert sorted(index for bundle in found for index in bundle.runs) == list(range(50))
    for bundle in found:
        assert {costs[index][1] for index in bundle.runs} == {bundle.resources}
        assert bundle.seconds == pytest.approx(sum(costs[index][0] for index in bundle.runs))
    for need in (SMALL, LARGE):
        loads = [bundle.seconds for bundle in found if bundle.resources == need]
        assert len(loads) == math.ceil(sum(cost for cost, own in costs if own == need) / 40.0)
        assert max(loads) - min(loads) <= 13.0  # the longest run
    assert [b.seconds for b in found] == sorted((b.seconds for b in found), reverse=True)  # the costliest starts first


def test_every_rule_that_fits_changes_the_usual_needs_the_last_one_last() -> None:
    overrides = [
        ResourceOverride(backbone="vit_large*", memory=40.0, minutes=240),
        ResourceOverride(method="full", gpus=2),
        ResourceOverride(suite="vtab", minutes=90),
    ]
    defaults = Resources(gpus=1, cpus=4, memory=None, minutes=60)
    assert resources_for(SPEC, defaults, overrides) == defaults
    large = dataclasses.replace(SPEC, method="full", backbone="vit_large_patch16_224", dataset="vtab/svhn")
    assert resources_for(large, defaults, overrides) == Resources(gpus=2, cpus=4, memory=40.0, minutes=90)
    assert resources_for(large, defaults, overrides[::-1]).minutes == 240
    assert resources_for(large, defaults, [ResourceOverride(gpus=0)]).gpus == 0  # none is a number too


def test_what_a_task_gets_where_nothing_is_said() -> None:
    assert executors.get("slurm").defaults(cuda=False) == Resources(gpus=0, cpus=1, minutes=60)
    assert executors.get("slurm").defaults(cuda=True) == Resources(gpus=1, cpus=4, minutes=60)
    asked = {"gpus": 0, "cpus": 2, "memory": 3.5, "timeout": 5}
    assert executors.get("slurm", asked).defaults(cuda=True) == Resources(0, 2, 3.5, 5)


# estimates -----------------------------------------------------------------------------------------------------------


def test_an_estimate_is_the_median_of_the_runs_most_alike() -> None:
    def of(**change: str) -> float | None:
        return past.seconds(dataclasses.replace(SPEC, **change))  # type: ignore[arg-type]

    own, other = ("lora", "pocket_vit"), ("full", "pocket_vit")
    past = History(
        [
            *[(*own, "pocket/digits", "p@v1", seconds) for seconds in (1.0, 3.0, 50.0)],
            *[(*own, "pocket/count", "p@v1", seconds) for seconds in (10.0, 20.0)],
            (*other, "pocket/digits", "p@v1", 99.0),
            (*other, "vtab/svhn", "p@v1", 1000.0),
        ]
    )
    assert of() == 3.0  # the same method and dataset, outliers or not
    assert of(dataset="pocket/location") == 10.0  # the method on its suite: 1, 3, 10, 20, 50
    assert of(method="mimi") == 26.5  # other methods on the dataset: 1, 3, 50, 99
    assert of(method="mimi", dataset="pocket/location") == 15.0  # on the suite
    assert of(method="mimi", dataset="elevater/dtd") == 20.0  # anywhere
    assert of(backbone="pocket_swin") is None
    assert past.seconds(dataclasses.replace(SPEC, protocol=dataclasses.replace(PROTOCOL, name="q@v1"))) is None


def test_the_history_of_a_results_folder_is_that_of_its_finished_records(tmp_path: Path) -> None:
    assert estimate.history(tmp_path, print).seconds(SPEC) is None
    Store(tmp_path).write(FAILED)
    assert estimate.history(tmp_path, print).seconds(SPEC) is None
    Store(tmp_path).write(DONE)
    assert estimate.history(tmp_path, print).seconds(SPEC) == DONE.provenance.seconds


def guessed(method: str = "lora", backbone: str = "pocket_vit", device: str = "cpu", **protocol: object) -> float:
    asked = dataclasses.replace(configs.protocol("pocket@v1"), **protocol)  # type: ignore[arg-type]
    card = configs.dataset("pocket/digits")
    job = jobs.make_job(
        method, build(load(method), {}, method), backbone, card, asked, 0, data_root=default_data_root(), device=device
    )
    return estimate.seconds(job, 2)


def test_a_first_guess_follows_the_arithmetic() -> None:
    arithmetic = estimate._forward("pocket_vit", None) * (3 * 1000 * 3 + 797) / (2 * estimate.SPEED["cpu"])
    assert guessed() == pytest.approx(estimate.START + arithmetic)
    assert guessed(epochs=30) - estimate.START > 9 * (guessed() - estimate.START)
    assert guessed(train_on="train") < guessed()
    assert guessed(shots=5) < guessed() / 2
    assert guessed(search_lr=(1e-3, 1e-2), search_weight_decay=(0.0, 1e-4)) - estimate.START > 4 * arithmetic
    assert guessed("mimi", epochs_of="phase") - estimate.START > 2.8 * arithmetic  # three cycles
    assert guessed(device="cuda") < guessed()
    assert guessed(backbone="resnet18") == estimate.UNKNOWN


# a plan on disk ------------------------------------------------------------------------------------------------------


def test_a_plan_survives_its_file(tmp_path: Path) -> None:
    plan = dataclasses.replace(
        plan_of(job(), limit=5, folders={"folder/x": "/x"}, plugins=("/a.py",)),
        executor="slurm",
        options={"partition": "p", "memory": 2.5, "setup": ["module load x"], "sbatch": {"nice": "5"}},
        threads=2,
    )
    path = planning.write(plan, tmp_path)
    assert planning.read(path) == plan and planning.read(path).id == plan.id
    assert planning.every(tmp_path) == {path: plan}
    assert dataclasses.replace(plan, threads=1).id != plan.id
    part = plan.of_runs([], [])
    assert (part.runs, part.cards, part.options) == ((), {}, plan.options)
    planning.remove(path.parent)
    assert planning.every(tmp_path) == {}


def test_a_file_that_is_no_plan_is_named(tmp_path: Path) -> None:
    path = planning.write(plan_of(job()), tmp_path)
    text = path.read_text()
    for damage, told in (
        ("{", "is not a plan"),
        ("[]", "not a table"),
        (text.replace('"options"', '"optoins"'), "'optoins'"),
    ):
        path.write_text(damage)
        with pytest.raises(UsageError, match=told) as error:
            planning.read(path)
        assert str(path) in str(error.value)
    with pytest.raises(UsageError, match="There is no plan"):
        planning.read(tmp_path / "gone.json")


def rebuilt(plan: Plan) -> RunSpec:
    return planning.job_builder(plan)(0).spec


def test_a_job_is_built_anew_for_drawn_data_and_a_weight_file(tmp_path: Path) -> None:
    assert rebuilt(plan_of(job())) == job().spec
    weights = tmp_path / "w.safetensors"
    save_file(backbones.create("pocket_vit", classes=2, weights="random").state_dict(), weights)
    own = job(weights=str(weights))
    again = planning.job_builder(plan_of(own, weights=str(weights)))(0)
    assert again.spec == own.spec and again.weights_file == weights
    weights.unlink()
    with pytest.raises(UsageError, match="nor a file"):
        rebuilt(plan_of(own, weights=str(weights)))


def test_a_changed_weight_file_is_refused(tmp_path: Path) -> None:
    weights = tmp_path / "w.safetensors"
    weights.write_bytes(b"one")
    plan = plan_of(job(weights=str(weights)), weights=str(weights))
    weights.write_bytes(b"two")
    jobs.file_digest.cache_clear()  # as in another process
    with pytest.raises(UsageError, match=r"^lora on pocket/digits, seed 0, has changed since it was planned .*\.$"):
        rebuilt(plan)


def test_a_job_is_built_anew_for_a_folder_until_it_changes(tmp_path: Path) -> None:
    pets = paint(tmp_path / "pets", {"cat": 10, "dog": 10})
    source = folder.divide(pets, limit=8)
    own = jobs.make_job(
        "lora",
        job().method,
        "pocket_swin",
        folder.card(source, 8),
        configs.protocol("pocket@v1"),
        0,
        data_root=default_data_root(),
        source=source,
    )
    plan = plan_of(own, folders={own.spec.dataset: str(pets)}, limit=8)
    again = planning.job_builder(plan)(0)
    assert again.spec == own.spec and again.source == source
    first, second = (pets / source.parts["test"][place][0] for place in (0, 1))
    first.write_bytes(second.read_bytes())
    with pytest.raises(BadData, match="have changed since this was planned: run 'bench run' again"):
        rebuilt(plan)


def test_a_job_is_built_anew_for_a_plugin_until_its_defaults_change(tmp_path: Path) -> None:
    plugin = tmp_path / "own_plan_method.py"
    text = (Path(__file__).parents[2] / "README.md").read_text().split("```python\n")[1].split("```")[0]
    plugin.write_text(text)
    own = job(build(load("own_plan_method", [plugin]), {}, "own_plan_method"), "own_plan_method")
    plan = plan_of(own, plugins=(str(plugin),))
    assert rebuilt(plan) == own.spec
    plugin.write_text(text.replace('family = "scale and shift"', 'version = 2\n    family = "scale and shift"'))
    _forget("petbench_plugin_own_plan_method")
    with pytest.raises(UsageError, match=r"own_plan_method on .* has changed since it was planned"):
        rebuilt(plan)
    plugin.unlink()
    _forget("petbench_plugin_own_plan_method")
    with pytest.raises(UsageError, match="No plugin file"):
        rebuilt(plan)


def _forget(module: str) -> None:
    """As in another process."""
    import sys

    sys.modules.pop(module, None)


def test_the_data_root_of_a_plan_goes_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BENCH_DATA", "elsewhere")
    assert planning.job_builder(plan_of(job(), data_root=str(tmp_path)))(0).data_root == tmp_path
    assert planning.job_builder(plan_of(job()))(0).data_root == Path("elsewhere")
    assert os.environ["BENCH_DATA"] == "elsewhere"


# learning rates --------------------------------------------------------------------------------------------------------


def requested(**changes: object) -> tuple[jobs.Job, ...]:
    values: dict[str, object] = {"methods": (MethodChoice("lora"), MethodChoice("full")), "seeds": (0,)}
    request = RunRequest(**{**values, "datasets": ("pocket/digits",), **changes})  # type: ignore[arg-type]
    return grid.make(request, "cpu", lambda _: None, prepare=False).jobs


def test_another_rate_is_part_of_the_protocol_and_of_its_name() -> None:
    assert {(j.spec.protocol.name, j.spec.protocol.lr) for j in requested(lr=0.01)} == {("pocket@v1+lr=0.01", 0.01)}
    assert {j.spec.digest for j in requested(lr=5e-3)} == {j.spec.digest for j in requested()}  # the protocol's own


@pytest.mark.parametrize("lr", [0.0, -1.0, math.inf, math.nan])
def test_a_rate_that_is_no_rate_is_refused(lr: float) -> None:
    with pytest.raises(ValueError, match="must be a positive number"):
        requested(lr=lr)


def test_a_tuned_protocol_takes_the_rate_of_each_method_and_refuses_one_without(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    chosen = {"pocket@v2": {"pocket_vit": {"lora": 8e-3, "full": 5e-4}, "pocket_swin": {"lora": 2e-3}}}
    monkeypatch.setattr(configs, "rates", lambda: chosen)
    made = requested(protocol="pocket@v2-tuned", backbones=("pocket_vit",))
    assert {j.spec.method: j.spec.protocol.lr for j in made} == {"lora": 8e-3, "full": 5e-4}
    assert {j.spec.protocol.name for j in made} == {"pocket@v2-tuned"}
    with pytest.raises(UsageError, match="No learning rate was chosen for full on pocket_swin by pocket@v2"):
        requested(protocol="pocket@v2-tuned", backbones=("pocket_vit", "pocket_swin"))
    with pytest.raises(UsageError, match="pocket@v2-tuned has a learning rate for each method"):
        requested(protocol="pocket@v2-tuned", backbones=("pocket_vit",), lr=8e-3)
