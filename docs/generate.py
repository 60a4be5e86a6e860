"""Writes docs/methods.md from the files of methods/: python docs/generate.py. A test holds the two together."""

from __future__ import annotations

from pathlib import Path

from bench import registry, untrained
from bench.errors import Incompatible
from bench.method import build

PAGE = Path(__file__).parent / "methods.md"
BACKBONES = {"ViT-B/16": "vit_base_patch16_224", "Swin-T": "swin_tiny_patch4_window7_224"}

HEAD = """# Methods

Written by `python docs/generate.py` from the files of `methods/`; `bench list methods` shows the same in short, and
[writing-a-method.md](writing-a-method.md) tells how to add one. The head is trained with every method and never counted
as the method's. `bench check NAME` proves what is said here on a backbone of your choice.

**sigma.** The MiMi paper defines sigma = M / N, width over hidden neurons. Its published counts labelled sigma = 32 on
Swin divide the MLP's hidden width, 4 M: `basis=mlp sigma=32`, the same network as our default `basis=dim sigma=8`.

"""


def page() -> str:
    entries = registry.entries()
    table = ["| method | family | backbones | merges | trains on ViT-B/16 | on Swin-T |", "|---|---|---|---|---:|---:|"]
    parts = []
    for name, entry in entries.items():
        counts = {label: trained(name, backbone) for label, backbone in BACKBONES.items()}
        merges = "yes" if entry.merges else "no"
        shown = [f"{count:,}" if count is not None else "refused" for count in counts.values()]
        table.append(
            f"| [`{name}`](#{name}) | {entry.family} | {' '.join(entry.supports)} | {merges} | {' | '.join(shown)} |"
        )
        parts.append(section(entry, shown))
    return HEAD + "\n".join(table) + "\n\n" + "\n".join(parts)


def trained(name: str, backbone: str) -> int | None:
    """Trained parameters at the default settings, head not counted; None where the method refuses the backbone."""
    try:
        return untrained.count_params(build(registry.load(name), {}, name), backbone, 10).method
    except Incompatible:
        return None


def section(entry: registry.Entry, shown: list[str]) -> str:
    cls = registry.load(entry.name)
    start = "the backbone, exactly" if cls.identity_at_start else "near the backbone, not at it"
    facts = [
        ("paper", entry.paper or "folklore"),
        ("hyper-parameters", f"`{entry.defaults}`" if entry.defaults else "none"),
        ("backbones", ", ".join(entry.supports)),
        ("starts as", start),
        ("merges into the backbone", "yes, exactly" if entry.merges else "no"),
        ("trained parameters", f"ViT-B/16 {shown[0]}, Swin-T {shown[1]}"),
    ]
    if entry.aliases:
        facts.append(("also called", ", ".join(entry.aliases)))
    title, _, body = entry.doc.partition("\n")
    return "\n".join(
        [f"## {entry.name}", "", title, body.rstrip(), "", *(f"- {key}: {value}" for key, value in facts), ""]
    )


if __name__ == "__main__":
    PAGE.write_text(page())
