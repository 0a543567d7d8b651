"""Rewards in programs: what scores the answers of a policy."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from ..plan import Plan
from ..spec import AdapterReward, ApiReward, FunctionReward, ModelReward
from .calls import Arg, Call, Places, inline
from .literals import python_literal
from .reward_model_calls import adapter_reward, model_reward


def reward_calls(rewards: tuple[Any, ...], plan: Plan, places: Places) -> str:
    """Return a list of rewards as Python text, its lines 20 columns deep."""
    lines = [
        f"{' ' * 20}{inline(REWARDS[type(reward)](reward, plan, places), 24)},\n"
        for reward in rewards
    ]
    return f"[\n{''.join(lines)}{' ' * 16}]"


def _function(reward: FunctionReward, plan: Plan, places: Places) -> Call:
    args = [Arg("", places.text(reward.path))]
    if reward.name != "reward":
        args.append(Arg("name", python_literal(reward.name)))
    return Call("rewards.FunctionReward", (*args, *weight_args(reward)))


def _api(reward: ApiReward, plan: Plan, places: Places) -> Call:
    args = [
        Arg("", python_literal(reward.url)),
        Arg("timeout_s", python_literal(float(reward.timeout_s))),
        Arg("retries", python_literal(reward.retries)),
    ]
    if reward.token_env is not None:
        args.append(Arg("token_env", python_literal(reward.token_env)))
    return Call("rewards.ApiReward", (*args, *weight_args(reward)))


def weight_args(reward: Any) -> Iterator[Arg]:
    """Yield the weight of a reward among several, where it is not 1."""
    if reward.weight != 1:
        yield Arg("weight", python_literal(float(reward.weight)))


REWARDS: dict[type, Callable[[Any, Plan, Places], Call]] = {
    FunctionReward: _function,
    ApiReward: _api,
    ModelReward: model_reward,
    AdapterReward: adapter_reward,
}
"""The call that makes each reward of the spec."""
