"""Rewards in programs that are reward models, or adapters on the policy's model."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ..plan import Plan
from ..rules.rewards import rewards_of
from ..spec import AdapterReward, Full, ModelReward
from .calls import Arg, Call, Places, nested
from .literals import python_literal
from .model_calls import base_call, weights_dtype

INDENT = 24
"""Columns before the arguments of a reward."""


def model_reward(reward: ModelReward, plan: Plan, places: Places) -> Call:
    """Return the call that makes the reward of a model of its own."""
    base = nested(base_call(_as_policy(reward, plan), places, INDENT + 4), INDENT + 4)
    dtype = python_literal(weights_dtype(plan.spec))
    return Call("rewards.ModelReward", (Arg("", base), Arg("dtype", dtype), *_weight(reward)))


def adapter_reward(reward: AdapterReward, plan: Plan, places: Places) -> Call:
    """Return the call that makes the reward of an adapter on the policy's model."""
    known = plan.facts.adapters.get(("objective", "reward", "path"))
    is_hub = known is not None and known.state == "hub"
    path = python_literal(reward.path) if is_hub else places.text(reward.path)
    return Call("rewards.AdapterReward", (Arg("", path),))


def _weight(reward: ModelReward) -> Iterator[Arg]:
    if reward.weight != 1:
        yield Arg("weight", python_literal(float(reward.weight)))


def _as_policy(reward: ModelReward, plan: Plan) -> Plan:
    """Return the plan of a policy that is the reward model: so it is loaded, but for what is the policy's alone."""
    whole: Any = plan.spec
    place = next(path for path, each in rewards_of(plan.spec) if each is reward)
    facts: Any = plan.facts
    adapters = {
        ("adapters", "paths", number): facts.adapters[(*place, "adapters", number)]
        for number in range(len(reward.adapters))
        if (*place, "adapters", number) in facts.adapters
    }
    own = {"path": reward.path, "revision": None, "init": "pretrained", "rope": None}
    off = {"shifted_attention": False, "mixture_of_depths": "off"}
    tokens: Any = {"add_tokens": (), "add_special_tokens": (), "described_tokens": {}}
    spec = attrs.evolve(
        whole,
        model=attrs.evolve(whole.model, **own, **off),
        adapters=attrs.evolve(
            whole.adapters, paths=reward.adapters, then="new", combine="merge", subfolder=None
        ),
        tokenizer=attrs.evolve(whole.tokenizer, **tokens, resize=False),
        quantization=reward.quantization,
        method=Full(type="full"),
    )
    model = facts.models[(*place, "path")]
    return attrs.evolve(plan, spec=spec, facts=attrs.evolve(facts, model=model, adapters=adapters))
