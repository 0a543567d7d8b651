"""PPO and GRPO in programs: their rewards, how answers are drawn, and their numbers."""

from __future__ import annotations

from collections.abc import Iterator

from ..plan import Plan
from ..spec import Grpo, Ppo, VllmGenerator
from .calls import Arg, Call, Places, inline
from .literals import python_literal
from .reference_calls import reference_args
from .reward_calls import reward_calls


def grpo_args(objective: Grpo, plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield what GRPO is told."""
    yield Arg("rewards", reward_calls(objective.rewards, plan, places))
    yield from _sampling(plan)
    prompts = plan.batch.total // objective.group_size
    reason = f"a step takes {plan.batch.total:,} answers, {objective.group_size:,} to each of {prompts:,} prompts"
    yield Arg("group_size", python_literal(objective.group_size), reason)
    yield Arg("loss", python_literal(objective.loss))
    yield Arg("clip_low", python_literal(float(objective.clip_low)))
    yield Arg("clip_high", python_literal(float(objective.clip_high)))
    if objective.updates != 1:
        yield Arg("updates", python_literal(objective.updates))
    if objective.beta:
        yield Arg("beta", python_literal(float(objective.beta)))
    yield from _generator(objective)
    yield from reference_args(plan, places)


def ppo_args(objective: Ppo, plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield what PPO is told."""
    yield Arg("rewards", reward_calls((objective.reward,), plan, places))
    yield from _sampling(plan)
    answers = plan.batch.total * objective.buffer_batches
    reason = f"{answers:,} answers are made at once, for {objective.buffer_batches * objective.epochs:,} steps"
    yield Arg("buffer_batches", python_literal(objective.buffer_batches), reason)
    yield Arg("epochs", python_literal(objective.epochs))
    names = ("kl_start", "kl_target", "clip", "value_clip", "value_weight", "discount")
    for name in (*names, "gae_lambda"):
        yield Arg(name, python_literal(float(getattr(objective, name))))
    for name in ("whiten_rewards", "normalize_scores"):
        if getattr(objective, name):
            yield Arg(name, "True")
    yield from _generator(objective)
    yield from reference_args(plan, places)


def _generator(objective: Grpo | Ppo) -> Iterator[Arg]:
    """Yield what answers, where that is not the policy itself."""
    server = objective.generator
    if not isinstance(server, VllmGenerator):
        return
    args = [
        Arg("", python_literal(server.url)),
        Arg("connections", python_literal(server.connections)),
        Arg("timeout_s", python_literal(float(server.timeout_s))),
        Arg("retries", python_literal(server.retries)),
    ]
    if server.token_env is not None:
        args.append(Arg("token_env", python_literal(server.token_env)))
    yield Arg("generator", inline(Call("objectives.VllmServer", tuple(args)), 20))


def _sampling(plan: Plan) -> Iterator[Arg]:
    generation = plan.spec.generation
    args = [Arg("max_new_tokens", python_literal(generation.max_new_tokens))]
    args.append(Arg("temperature", python_literal(float(generation.temperature))))
    if generation.top_p != 1:
        args.append(Arg("top_p", python_literal(float(generation.top_p))))
    if generation.top_k:
        args.append(Arg("top_k", python_literal(generation.top_k)))
    if generation.repetition_penalty != 1:
        penalty = python_literal(float(generation.repetition_penalty))
        args.append(Arg("repetition_penalty", penalty))
    if not generation.kv_cache:
        args.append(Arg("kv_cache", "False"))
    yield Arg("sampling", inline(Call("objectives.Sampling", tuple(args)), 20))
