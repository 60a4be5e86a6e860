"""Where a method sits: the parts of a block as text, with what its hooks do beside each.

Read off the model itself: every hook that an added module has, and every parameter of the backbone that trains.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from bench.models import hooks
from bench.models.prompts import Insert
from bench.models.view import AddedModule, Block, ModelView

Marks = dict[str, list[str]]
"""What stands beside the parts of a block, by the part's name."""

# the parts of a block from the tokens that enter it to those that leave it
BLOCK = (
    ("in", "│"),
    ("", "├───────┐"),
    ("norm1", "│     norm1"),
    ("q k v", "│     q k v"),
    ("attention", "│   attention"),
    ("proj", "│      proj"),
    ("out of attention", "│       │"),
    ("sum 1", "+───────┘"),
    ("", "├───────┐"),
    ("norm2", "│     norm2"),
    ("fc1", "│      fc1"),
    ("fc2", "│      fc2"),
    ("out of MLP", "│       │"),
    ("sum 2", "+───────┘"),
    ("out", "│"),
)
WIDTH = 16  # of the column of parts


def draw(net: ModelView) -> str:
    """One picture for each kind of block, and a line for what is outside of blocks. Of pre-norm backbones."""
    inside, outside = marks(net)
    kinds: list[tuple[list[int], Marks]] = []
    for block in net.blocks:
        known = next((indices for indices, found in kinds if found == inside[block.index]), None)
        if known is None:
            kinds.append(([block.index], inside[block.index]))
        else:
            known.append(block.index)
    parts = [f"outside of blocks: {line}" for line in outside]
    for indices, found in kinds:
        parts.append(f"{_named(indices)} of {len(net.blocks)}" + (":" if found else ": nothing"))
        if found:
            parts += ["", *_picture(found), ""]
    return "\n".join(parts).rstrip() + "\n"


def marks(net: ModelView) -> tuple[dict[int, Marks], list[str]]:
    """What stands beside the parts of each block, and what is outside of all of them."""
    inside: dict[int, Marks] = {block.index: {} for block in net.blocks}
    outside: list[str] = []

    def put(path: str, before: bool, hook: Any, text: str) -> None:
        block = next((b for b in net.blocks if path == b.path or path.startswith(f"{b.path}.")), None)
        lines = outside if block is None else inside[block.index].setdefault(_part(block, path, before, hook), [])
        line = text if block else f"{path or 'tokens'}: {text}"
        if line not in lines:
            lines.append(line)

    seen = set[tuple[int, int]]()  # prompts have all their hooks together
    for name, added in net.added_modules.items():
        for key, path, before, hook in _hooks(net, added):
            if key not in seen:
                put(path, before, hook, _text(net, name, added, path, hook))
            seen.add(key)
    trained: dict[str, list[str]] = {}
    for name, parameter in net.backbone_parameters():
        if parameter.requires_grad:
            trained.setdefault(name.rpartition(".")[0], []).append(name.rpartition(".")[2])
    for path, names in trained.items():
        put(path, False, None, f"trained in place: {', '.join(names)}")
    return inside, outside


def _hooks(net: ModelView, added: AddedModule) -> Iterator[tuple[tuple[int, int], str, bool, Any]]:
    """Identity, path of the module, whether in front of it, and the hook itself, of each that is torch's."""
    where: dict[int, tuple[str, bool]] = {}
    for path, module in net.model.named_modules():
        where[id(module._forward_hooks)] = (path, False)
        where[id(module._forward_pre_hooks)] = (path, True)
    found: list[Any] = [handle for handle in added.handles if hasattr(handle, "hooks_dict_ref")]
    adds_to_sum = any(isinstance(handle.hooks_dict_ref()[handle.id], hooks.AddToSum) for handle in found)
    for handle in found:
        table = handle.hooks_dict_ref()
        hook = table[handle.id]
        if not (adds_to_sum and isinstance(hook, hooks.Send | hooks.SendBefore)):  # what is sent is a part of the sum
            path, before = where[id(table)]
            yield (id(table), handle.id), path, before, hook


def _part(block: Block, path: str, before: bool, hook: Any) -> str:
    """The part of a block that a hook on the module at this path is drawn beside."""
    if path == block.path:
        return "in" if before else "out"
    if path == block.attn.exit.path:
        return "sum 1" if isinstance(hook, hooks.AddToSum) else "out of attention"
    if path == block.mlp.exit.path:
        return "sum 2" if isinstance(hook, hooks.AddToSum) else "out of MLP"
    by_path = {block.norm[name].path: name for name in ("norm1", "norm2")}
    by_path |= {block.linear[name].path: name for name in ("proj", "fc1", "fc2")}
    by_path |= {block.linear[name].path: "q k v" for name in ("qkv", "q", "k", "v") if name in block.linear}
    if path in by_path:
        return by_path[path]
    return "attention" if path.startswith(block.attn.op) else "out of MLP" if path.startswith(block.mlp.op) else "out"


def _text(net: ModelView, name: str, added: AddedModule, path: str, hook: Any) -> str:
    kind, label = type(net.pet[name]).__name__, added.slot.label.rpartition(".")[2]
    at = f"{label}: " if label in ("q", "k", "v") and path == added.slot.path else ""  # a third of what is there
    if isinstance(hook, Insert):
        return f"{type(hook.m).__name__}: tokens enter" + ", in place of the last block's" * bool(hook.there)
    if isinstance(hook, hooks.Add):
        return f"{at}{kind}: y + m({'x' if hook.reads == 'input' else 'y'})"
    says = {
        hooks.Then: "m(y)",
        hooks.Before: "m(x) in place of x",
        hooks.Send: "reads " + ("x" if getattr(hook, "of", "") == "input" else "y"),
        hooks.SendBefore: "reads x",
        hooks.Receive: "is added",
        hooks.ReceiveBefore: "is added to x",
        hooks.AddToSum: "z + m(z)",
        hooks.AddToLogits: "is added to the logits",
        hooks.BeforeHead: "m(x, ...) in place of x",
        hooks.BesideHead: "y + m(x, ...)",
    }
    return f"{at}{kind}: {says[type(hook)]}"


def _picture(found: Marks) -> Iterator[str]:
    for part, line in BLOCK:
        for index, text in enumerate(found.get(part, [""]) if part else [""]):
            shown = line if index == 0 else "│" if part in ("in", "out") else "│       │"
            yield f"    {shown:<{WIDTH}}{text}".rstrip()


def _named(indices: list[int]) -> str:
    """Blocks, counted from 1: "blocks 1 to 3, 6"."""
    runs: list[list[int]] = []
    for index in indices:
        if runs and runs[-1][-1] == index - 1:
            runs[-1].append(index)
        else:
            runs.append([index])
    told = ", ".join(str(run[0] + 1) if len(run) == 1 else f"{run[0] + 1} to {run[-1] + 1}" for run in runs)
    return f"block{'s' if len(indices) > 1 else ''} {told}"
