"""What an optimizer really is: its class and its groups, for the log and the report."""

from __future__ import annotations

from typing import Any

from .base import Layerwise


def description(optimizer: Any) -> dict[str, Any]:
    """Return the class, those inside where it is made of several, and each group with its numbers."""
    parts = getattr(optimizer, "parts", ())
    inside = sorted({_name(part) for part in parts})
    groups = optimizer.param_groups
    if isinstance(optimizer, Layerwise):
        # A group a parameter: those that are alike are told as one.
        return {"class": _name(optimizer), "inside": inside, "groups": _merged(groups)}
    found: dict[str, Any] = {"class": _name(optimizer), "groups": [_group(g) for g in groups]}
    return {**found, "inside": inside} if inside else found


def in_words(found: dict[str, Any]) -> str:
    """Return a description as a line."""
    name = found["class"].removeprefix("tunec.runtime.training.optimizers.")
    if "inside" in found:
        name += f" of {' and '.join(found['inside'])}"
    groups = "; ".join(
        f"{group['parameters']:,} parameters, rate {group['learning_rate']:g}"
        + (f", decay {group['weight_decay']:g}" if group["weight_decay"] else ", no decay")
        + (f", rank {group['rank']}" if "rank" in group else "")
        + (f", matching `{group['pattern']}`" if "pattern" in group else "")
        for group in found["groups"]
    )
    return f"{name}: {groups}"


def _name(value: Any) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__.rpartition('.')[2]}"


def _group(group: dict[str, Any]) -> dict[str, Any]:
    size = sum(getattr(p, "ds_numel", p.numel()) for p in group["params"])
    told = {
        "parameters": size,
        "learning_rate": float(group.get("initial_lr", group["lr"])),
        "weight_decay": group.get("weight_decay", 0.0),
    }
    return {**told, **{name: group[name] for name in ("rank", "pattern") if name in group}}


def _merged(groups: list[dict[str, Any]]) -> list[dict[str, Any]]:
    merged: dict[tuple[Any, ...], dict[str, Any]] = {}
    for told in map(_group, groups):
        size = told.pop("parameters")
        kept = merged.setdefault(tuple(told.items()), {"parameters": 0, **told})
        kept["parameters"] += size
    return list(merged.values())
