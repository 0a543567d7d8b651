"""Facts about models beside the trained one: references and reward models."""

from __future__ import annotations

from pathlib import Path

from ..diagnostics import SpecPath
from ..spec import Grpo, ModelReference, ModelReward, Spec
from .model import ModelFacts, read_model


def read_models(base: Path, spec: Spec) -> dict[SpecPath, ModelFacts]:
    """Return the facts of every such model by the path of the setting that names it."""
    return {place: read_model(base, path) for place, path in named_models(spec)}


def named_models(spec: Spec) -> list[tuple[SpecPath, str]]:
    """Return path of the setting and path of the model for each of them."""
    objective = spec.objective
    parts: list[tuple[SpecPath, object]] = [
        (("objective", name), getattr(objective, name, None)) for name in ("reference", "reward")
    ]
    parts.append((("objective", "loss", "reference"), _anchor(objective)))
    if isinstance(objective, Grpo):
        parts += [(("objective", "rewards", i), part) for i, part in enumerate(objective.rewards)]
    return [
        ((*place, "path"), part.path)
        for place, part in parts
        if isinstance(part, ModelReference | ModelReward)
    ]


def named_references(spec: Spec) -> list[tuple[SpecPath, ModelReference]]:
    """Return path and setting of each model that the policy is compared with."""
    objective = spec.objective
    places: list[tuple[SpecPath, object]] = [
        (("objective", "reference"), getattr(objective, "reference", None)),
        (("objective", "loss", "reference"), _anchor(objective)),
    ]
    return [(place, part) for place, part in places if isinstance(part, ModelReference)]


def _anchor(objective: object) -> object:
    return getattr(getattr(objective, "loss", None), "reference", None)
