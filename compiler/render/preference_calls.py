"""Objectives on preferences in programs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ..plan import Plan
from ..spec import Cpo, Dpo, Kto, Orpo, RobustLoss, SigmoidLoss, SimPo
from .calls import Arg, Call, Places
from .literals import python_literal
from .reference_calls import reference_args


def dpo_args(objective: Dpo, plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield what DPO is told."""
    loss = objective.loss
    if not isinstance(loss, SigmoidLoss):
        yield Arg("loss", python_literal(loss.type))
    if isinstance(loss, SigmoidLoss | RobustLoss):
        # The runtime takes none for granted.
        yield from _numbers(loss, {"label_smoothing": 0.0})
    yield from _beta(objective)
    yield from _numbers(objective, {"sft_weight": 0.0, "bco_weight": 0.0, "ld_alpha": None})
    yield from reference_args(plan, places)


def orpo_args(objective: Orpo, plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield what ORPO is told."""
    yield from _beta(objective)
    yield from _numbers(objective, {"sft_weight": 0.0})


def simpo_args(objective: SimPo, plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield what SimPO is told."""
    yield from _beta(objective)
    yield Arg("gamma", python_literal(float(objective.gamma)))
    yield from _numbers(objective, {"label_smoothing": 0.0, "sft_weight": 0.0})


def cpo_args(objective: Cpo, plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield what CPO is told."""
    yield from _beta(objective)
    yield from _numbers(objective, {"label_smoothing": 0.0, "sft_weight": 1.0})


def kto_args(objective: Kto, plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield what KTO is told."""
    yield from _beta(objective)
    weights = {"desirable_weight": 1.0, "undesirable_weight": 1.0, "sft_weight": 0.0}
    yield from _numbers(objective, weights)
    yield from reference_args(plan, places)


def mismatch_calls(plan: Plan) -> dict[str, Call]:
    """Return for the names of samples the calls that put the answers of KTO behind other prompts as well."""
    spec = plan.spec
    if not isinstance(spec.objective, Kto):
        return {}
    seed = spec.training.seed if spec.data.seed is None else spec.data.seed
    length = Arg("max_length", python_literal(spec.data.max_length))
    return {
        name: Call("data.mismatch", (Arg("", name), length, Arg("seed", python_literal(seed))))
        for name in ("train", "evaluation")
    }


def _beta(objective: Any) -> Iterator[Arg]:
    yield Arg("beta", python_literal(float(objective.beta)))


def _numbers(table: Any, defaults: Mapping[str, float | None]) -> Iterator[Arg]:
    """Yield the numbers that differ from what the runtime takes for granted."""
    for name, default in defaults.items():
        value = getattr(table, name)
        if value != default:
            yield Arg(name, python_literal(float(value)))
