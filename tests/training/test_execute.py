from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from helpers.images import paint
from helpers.jobs import PROTOCOL, job

from bench.core.errors import Incompatible, UsageError
from bench.core.record import pe
from bench.core.spec import stream
from bench.core.store import Store
from bench.data.prepare import Transform
from bench.data.readers import folder
from bench.data.splits import ArraySplit, Sealed
from bench.models import backbones, memory, registry
from bench.models.method import Method
from bench.models.registry import load
from bench.models.tuned_model import TunedModel
from bench.models.view import ModelView
from bench.training import inference, provenance, setup
from bench.training.execute import execute, reason_of
from bench.training.setup import prepare_model


@pytest.fixture
def source(tmp_path: Path) -> folder.ImageFolder:
    return folder.divide(paint(tmp_path / "pets", {"cat": 20, "dog": 20}))


@pytest.mark.parametrize("name", ["linear_probe", "full", "mimi"])
def test_a_run_leaves_a_whole_record_and_its_predictions(name: str, source: folder.ImageFolder, tmp_path: Path) -> None:
    store, asked = Store(tmp_path / "out"), job(source, name)
    record = execute(asked, store)
    assert store.find(asked.spec) == record
    assert record.status == "done" and record.scores and record.cost
    files = np.load(store.path(asked.spec).with_suffix(".npz"), allow_pickle=False)
    assert record.scores.test == (files["labels"] == files["predictions"]).mean()
    assert record.scores.test_images == len(source.parts["test"]) == 8
    params = record.cost.params
    assert params.with_gradient == params.method + params.head
    assert (record.cost.merged == record.cost.unmerged) == (name != "mimi")
    assert (record.cost.merged_images_per_second is None) == (name == "mimi")
    start, batch = prepare_model(asked), asked.spec.protocol.batch_size  # before anything is pruned: at its largest
    assert record.cost.train_bytes == memory.training(start, 32, batch, moments=2)
    assert record.cost.inference_bytes is not None
    assert (record.cost.inference_bytes < memory.inference(start, 32)) == (name == "mimi")  # as it is deployed
    if name == "mimi":
        assert [sum(m.sizes.values()) for m in record.milestones] == [
            sum(record.milestones[0].sizes.values()) >> k for k in range(3)
        ]
        assert record.milestones[-1].score == record.scores.test
        assert (
            params.deployed
            == record.milestones[-1].params.deployed
            < params.method
            == record.milestones[0].params.deployed
        )
        costs = [m.unmerged.flops for m in record.milestones]
        assert costs == sorted(costs, reverse=True) and costs[0] > costs[-1] == record.cost.unmerged.flops


def test_what_is_kept_is_the_model_that_was_scored_whatever_is_measured_after_it(
    source: folder.ImageFolder, tmp_path: Path
) -> None:
    """The epoch that validation chooses is not the last one here: the rate is far too high."""
    chosen = replace(PROTOCOL, epochs=6, lr=0.3, choose="validation", train_on="train")
    asked = job(source, "bitfit")
    asked = replace(asked, spec=replace(asked.spec, protocol=chosen), keep_delta=True)
    store = Store(tmp_path / "out")
    record = execute(asked, store)
    vals = [epoch.val for epoch in record.epochs]
    assert vals.index(max(vals)) < len(vals) - 1  # type: ignore[type-var]
    net = prepare_model(asked)
    TunedModel(net.model, net, asked.method).load(store.path(asked.spec).with_suffix(".safetensors"))
    stored = np.load(store.path(asked.spec).with_suffix(".npz"), allow_pickle=False)
    images = np.stack([Transform(32)(source.open(name))[0] for name, _ in source.parts["test"]])
    logits = inference.predict(net, ArraySplit(images, stored["labels"].astype(np.int64)))
    assert (logits.argmax(1) == stored["predictions"]).all()


def test_the_same_spec_gives_the_same_numbers_and_another_seed_others(source: folder.ImageFolder) -> None:
    first, again, other = (execute(job(source, seed=seed)) for seed in (0, 0, 1))
    assert [e.loss for e in first.epochs] == [e.loss for e in again.epochs]
    assert [e.loss for e in first.epochs] != [e.loss for e in other.epochs]


def test_methods_at_one_seed_start_from_the_same_head(source: folder.ImageFolder) -> None:
    heads = [prepare_model(job(source, name)).head.weight for name in ("lora", "adapters", "full")]
    assert all((heads[0] == head).all() for head in heads[1:])
    assert (heads[0] != prepare_model(job(source, "lora", seed=1)).head.weight).any()
    specs = [job(source, name).spec for name in ("lora", "adapters")]
    assert stream(specs[0], "data") == stream(specs[1], "data")


@dataclass(frozen=True)
class Broken(Method):
    how: str = "raise"

    def attach(self, net: ModelView) -> None:
        if self.how == "raise":
            raise RuntimeError("a bug of the plugin")
        if self.how == "refuse":
            raise Incompatible("needs a class token")
        if self.how == "mute":
            raise Incompatible
        raise UsageError("the question is wrong")


def test_a_failure_is_a_record_with_its_traceback(source: folder.ImageFolder, tmp_path: Path) -> None:
    store, asked = Store(tmp_path / "out"), job(source, "broken", method=Broken())
    record = execute(asked, store)
    assert (record.status, record.reason) == ("failed", "RuntimeError: a bug of the plugin")
    assert record.scores is None and record.cost is None
    log = store.path(asked.spec).with_name(str(record.log))
    assert "in attach" in log.read_text()


def test_a_finished_run_is_returned_as_it_stands(source: folder.ImageFolder, tmp_path: Path) -> None:
    store, asked = Store(tmp_path / "out"), job(source, "linear_probe")
    first = execute(asked, store)
    stamps = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}
    assert execute(asked, store) == first
    assert stamps == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("*.*")}


def test_a_refusal_is_a_skipped_record_and_a_wrong_question_is_raised(
    source: folder.ImageFolder, tmp_path: Path
) -> None:
    store = Store(tmp_path / "out")
    record = execute(job(source, "broken", method=Broken("refuse")), store)
    assert (record.status, record.reason) == ("skipped", "needs a class token")
    with pytest.raises(UsageError, match="the question is wrong"):
        execute(job(source, "broken", method=Broken("usage")), store)


def test_a_test_split_opened_during_training_fails_the_run(
    source: folder.ImageFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The planted fault: a loop that peeks at the test split after its first epoch."""
    kept: list[Sealed] = []
    load_splits = setup.ready.load

    def spy(*args: object) -> object:
        splits = load_splits(*args)  # type: ignore[arg-type]
        kept.append(splits.test)
        return splits

    monkeypatch.setattr(setup.ready, "load", spy)

    def peek(_: object) -> ArraySplit:
        return kept[0].open(None)

    record = execute(job(source), on_progress=peek)
    assert record.status == "failed"
    assert "before training had ended" in str(record.reason)


def test_the_weights_digest_is_the_backbones_whatever_the_method(source: folder.ImageFolder) -> None:
    digests = {
        backbones.weights_digest(prepare_model(job(source, name)).model) for name in ("linear_probe", "lora", "mimi")
    }
    assert len(digests) == 1


def test_the_source_digest_of_a_method_covers_the_layers_it_imports() -> None:
    own, shared = registry.source_digest(load("lora")), registry.source_digest(load("adapters"))
    folder_of_methods = registry.entries()["lora"].path.parent

    def digest(*names: str) -> str:
        return registry.code_digest((folder_of_methods / f"{name}.py").read_text() for name in names)

    assert own == digest("lora", "_lowrank") != digest("lora")
    assert shared == digest("adapters", "_bottleneck")


def test_the_source_digest_is_that_of_the_code_not_of_its_words() -> None:
    code = '"""A."""\nclass M(Method):\n    family = "x"\n\n    def f(self):\n        """B."""\n        return 1\n'
    digest = registry.code_digest
    same = code.replace("A.", "C.").replace('"x"', '"y"').replace("B.", "D.") + "# E\n"
    assert digest([code]) == digest([same]) != digest([code.replace("return 1", "return 2")])


def test_an_error_without_a_message_has_the_name_of_its_class_for_a_reason(source: folder.ImageFolder) -> None:
    record = execute(job(source, "broken", method=Broken("mute")))
    assert (record.status, record.reason) == ("skipped", "Incompatible")
    assert reason_of(RuntimeError("")) == "RuntimeError" and reason_of(RuntimeError("x")) == "RuntimeError: x"


def test_a_record_names_the_harness_and_the_performance_efficiency(source: folder.ImageFolder) -> None:
    record = execute(job(source, "linear_probe"))
    assert record.scores and record.cost
    params = record.cost.params
    assert record.scores.pe == pe(record.scores.test, params.deployed + params.head)
    assert record.provenance.harness_sha256 == provenance.harness_digest()


def test_the_harness_digest_follows_code_and_not_its_comments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = Path(provenance.__file__).parents[1]
    for name in ("core", "data", "models", "training"):
        shutil.copytree(package / name, tmp_path / "bench" / name)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "bench" / "training" / "provenance.py"))
    digest = provenance.harness_digest.__wrapped__
    now = digest()
    assert now == provenance.harness_digest()
    loop, label = tmp_path / "bench" / "training" / "loop.py", tmp_path / "bench" / "report.py"
    loop.write_text(loop.read_text() + "# a comment\n")
    label.write_text("x = 1\n")
    assert digest() == now
    loop.write_text(loop.read_text().replace("logits, labels, protocol", "logits, labels.roll(1), protocol", 1))
    assert digest() != now
