"""The objective in programs: its class in the runtime and its numbers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..plan import Plan
from ..spec import Cpo, Dpo, Grpo, Kto, Orpo, Ppo, Pretraining, RewardModel, Sft, SimPo
from .calls import Arg, Call, Places
from .literals import python_literal
from .online_calls import grpo_args, ppo_args
from .preference_calls import cpo_args, dpo_args, kto_args, orpo_args, simpo_args
from .sft_calls import sft_args

Args = Callable[[Any, Plan, Places], Iterator[Arg]]


def objective_call(plan: Plan, places: Places) -> Call:
    """Return the call that makes the objective; it stands as an argument of `training.fit`."""
    objective = plan.spec.objective
    name, args = OBJECTIVES[type(objective)]
    found = list(args(objective, plan, places))
    weight = plan.spec.model.moe_aux_loss
    if weight is not None:
        found.append(Arg("router_loss", python_literal(float(weight))))
    return Call(f"objectives.{name}", tuple(found))


def _none(objective: Any, plan: Plan, places: Places) -> Iterator[Arg]:
    return iter(())


def _reward_model(objective: RewardModel, plan: Plan, places: Places) -> Iterator[Arg]:
    if objective.center:
        yield Arg("center", python_literal(float(objective.center)))


OBJECTIVES: dict[type, tuple[str, Args]] = {
    Sft: ("Sft", sft_args),
    Pretraining: ("Pretraining", sft_args),
    RewardModel: ("RewardModel", _reward_model),
    Dpo: ("Dpo", dpo_args),
    Orpo: ("Orpo", orpo_args),
    SimPo: ("SimPo", simpo_args),
    Cpo: ("Cpo", cpo_args),
    Kto: ("Kto", kto_args),
    Ppo: ("Ppo", ppo_args),
    Grpo: ("Grpo", grpo_args),
}
"""The class of the runtime for each objective of the spec, and what it is told."""
