from __future__ import annotations

from pathlib import Path

import pytest

from bench.core import configs
from bench.core.errors import UsageError
from bench.data.readers import photos, pocket

GENERATED = {"pocket": pocket, "photos": photos}


def test_every_card_is_whole_and_names_a_known_protocol() -> None:
    for name in configs.suite_names():
        suite = configs.suite(name)
        assert suite.card.name == name
        assert configs.protocol(suite.card.protocol).name == suite.card.protocol
        for dataset in suite.datasets:
            assert dataset.license and dataset.citation
            assert len(dataset.fingerprint) == (64 if name in ("pocket", "pocket2") else 0)
            assert configs.dataset(dataset.name) is dataset


@pytest.mark.parametrize(
    "name",
    [card.name for suite in ("pocket", "pocket2") for card in configs.suite(suite).datasets],
)
def test_the_pocket_cards_tell_what_is_generated(name: str) -> None:
    card = configs.dataset(name)
    kind, _, key = card.source.partition(":")
    splits = GENERATED[kind].make(key)
    assert card.fingerprint == pocket.fingerprint(splits)
    assert (card.sizes.train, card.sizes.val, card.sizes.test) == tuple(
        len(splits[p][1]) for p in ("train", "val", "test")
    )
    assert card.classes == len(GENERATED[kind].CLASSES[key])


def test_all_faults_of_a_card_are_told_at_once(tmp_path: Path) -> None:
    text = (configs.folder() / "pocket.toml").read_text()
    text = text.replace('headline = "mean_groups"', 'headline = "best"').replace("classes = 10", 'clases = "ten"', 1)
    path = tmp_path / "broken.toml"
    path.write_text(text)
    with pytest.raises(UsageError) as error:
        configs.read_suite(path)
    message = str(error.value)
    assert "broken.toml" in message
    assert "suite.headline = 'best' is not one of mean_datasets, mean_groups" in message
    assert "unknown key 'datasets.digits.clases' (did you mean 'classes'?)" in message
    assert "missing key 'datasets.digits.classes'" in message


def test_unknown_names_come_with_a_suggestion() -> None:
    with pytest.raises(UsageError, match="No suite is called 'poket'. Did you mean 'pocket'"):
        configs.suite("poket")
    with pytest.raises(UsageError, match="Did you mean 'pocket/digits'"):
        configs.dataset("pocket/digit")
    with pytest.raises(UsageError, match="No protocol is called"):
        configs.protocol("vtab")
