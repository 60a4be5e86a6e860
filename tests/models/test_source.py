"""What a list says of a method is what its class is, and its digest covers every file that it is made of."""

from __future__ import annotations

import dataclasses
import sys
from pathlib import Path

import pytest

from bench.core.errors import UsageError
from bench.models import registry, source

INHERITS = '''"""LoRA with another rank."""

from dataclasses import dataclass

from methods.lora import LoRA


@dataclass(frozen=True)
class MyLoRA(LoRA):
    rank: int = 2
    extra: float = 1.0
'''


@pytest.mark.parametrize("name", registry.entries())
def test_every_method_is_what_its_source_says(name: str) -> None:
    entry, cls = registry.entries()[name], registry.load(name)
    assert (entry.family, entry.paper, entry.merges) == (cls.family, cls.paper, cls.merges)
    assert entry.fields == tuple(field.name for field in dataclasses.fields(cls))


def test_what_is_inherited_is_listed(tmp_path: Path) -> None:
    plugin = tmp_path / "my_lora_a.py"
    plugin.write_text(INHERITS)
    entry, parent = registry.entries([plugin])["my_lora_a"], registry.entries()["lora"]
    assert (entry.family, entry.merges, entry.supports) == ("low-rank", True, parent.supports)
    assert entry.fields == (*parent.fields, "extra") and "rank=2" in entry.defaults.split()
    assert registry.load("my_lora_a", [plugin]).family == "low-rank"


def test_a_class_that_is_not_what_its_source_says_is_refused(tmp_path: Path) -> None:
    plugin = tmp_path / "my_lora_b.py"
    plugin.write_text(INHERITS + '    family = "adap" + "ters"\n')
    with pytest.raises(UsageError, match=r"its source says family = 'low-rank', the class has 'adapters'"):
        registry.load("my_lora_b", [plugin])


def test_a_digest_covers_what_is_imported_from_elsewhere(tmp_path: Path) -> None:
    plugin, beside = tmp_path / "my_lora_c.py", tmp_path / "beside_c.py"
    beside.write_text("SCALE = 1\n")
    plugin.write_text(INHERITS.replace("from methods", "from beside_c import SCALE as SCALE\nfrom methods"))
    names = {path.name for path in source.imported(plugin)}
    assert {"my_lora_c.py", "beside_c.py", "lora.py", "_lowrank.py"} <= names
    assert not any("torch" in path.parts for path in source.imported(plugin))
    before = registry.code_digest(path.read_text() for path in source.imported(plugin))
    beside.write_text("SCALE = 2\n")
    assert registry.code_digest(path.read_text() for path in source.imported(plugin)) != before


def test_the_digest_of_a_loaded_method_is_over_all_of_them(tmp_path: Path) -> None:
    plugin = tmp_path / "my_lora_d.py"
    plugin.write_text(INHERITS)
    cls = registry.load("my_lora_d", [plugin])
    texts = [path.read_text() for path in source.imported(plugin)]
    assert len(texts) >= 3 and registry.source_digest(cls) == registry.code_digest(texts)
    assert "petbench_plugin_my_lora_d" in sys.modules
