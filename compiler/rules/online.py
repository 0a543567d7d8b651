"""Answers that are generated while a policy is trained: how they are drawn, and where they fit."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import ApiReward, Grpo, Ppo, Spec, VllmGenerator
from .generators import GENERATOR, generator_of
from .look import note
from .rewards import rewards_of
from .rule import Rule

TYPE: SpecPath = ("objective", "type")


def check_drawn(spec: Spec) -> Iterator[Diagnostic]:
    """The same prompt always gets the same answer, so nothing can be found out.

    PPO and GRPO learn from the differences between answers that are drawn at random. At a temperature of 0, and
    without drawing, the likeliest token is always taken; the probabilities that the losses compare are those at the
    same temperature.

    Fails:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    [generation]
    temperature = 0
    ```
    Passes:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    [generation]
    temperature = 1.0
    ```
    """
    if not isinstance(spec.objective, Ppo | Grpo):
        return
    generation = spec.generation
    settings = {"sample": not generation.sample, "temperature": generation.temperature == 0}
    for name, is_fixed in settings.items():
        if is_fixed:
            yield error(
                "O107",
                f"`{spec.objective.type}` learns from answers that differ, these are always the likeliest",
                ("generation", name),
                label="nothing is drawn",
                labels=(Label(TYPE, "compares answers"),),
                helps=("use `sample = true` and a `temperature` such as 1.0",),
            )


def check_generating(spec: Spec) -> Iterator[Diagnostic]:
    """A setting works on whole texts or on streams, and answers are generated from prepared prompts.

    Prompts are answered in an order that is fixed from the start, with the answers they are compared with: a stream
    has neither. Mixture-of-depths chooses tokens by looking at the whole text, and an answer is made token by token.

    Fails:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    streaming = true
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    if not isinstance(spec.objective, Ppo | Grpo):
        return
    found: list[tuple[SpecPath, str]] = []
    if spec.data.streaming:
        found.append((("data", "streaming"), "streams"))
    if spec.model.mixture_of_depths != "off":
        found.append((("model", "mixture_of_depths"), "mixture-of-depths"))
    for path, words in found:
        yield error(
            "O108",
            f"`{spec.objective.type}` does not go with {words}",
            path,
            labels=(Label(TYPE, "generates its answers"),),
        )


def check_room(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The longest prompt and the longest answer together have more tokens than the model has positions.

    Beyond them a model writes nonsense, or fails.

    Fails:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    max_length = 400
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    [generation]
    max_new_tokens = 200
    ```
    Passes:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    max_length = 300
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    [generation]
    max_new_tokens = 200
    ```
    """
    limit = facts.model.number("max_position_embeddings")
    if not isinstance(spec.objective, Ppo | Grpo) or limit is None or spec.model.rope is not None:
        return
    prompt, answer = spec.data.max_length, spec.generation.max_new_tokens
    if prompt + answer > limit:
        yield warning(
            "O109",
            f"prompts of {prompt:,} tokens with answers of {answer:,} are longer than the model's {limit:,} positions",
            ("generation", "max_new_tokens"),
            labels=(Label(("data", "max_length"), "tokens of a prompt"),),
            helps=(f"together they may have {limit:,} tokens",),
        )


def check_patience(spec: Spec) -> Iterator[Diagnostic]:
    """A server may be asked for longer than the processes wait for each other.

    Processes wait for the one that asks. What it takes at the most is the time for each attempt and the pauses
    between them: 1, 2, 4, ... seconds, 30 at the most.

    Fails:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "api", url = "http://localhost:8000/score", timeout_s = 600 }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    [launch]
    processes = 2
    ```
    Passes:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "api", url = "http://localhost:8000/score", timeout_s = 60 }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    [launch]
    processes = 2
    ```
    """
    servers: list[tuple[str, SpecPath, ApiReward | VllmGenerator]] = [
        ("reward", path, reward)
        for path, reward in rewards_of(spec)
        if isinstance(reward, ApiReward)
    ]
    if (generator := generator_of(spec)) is not None:
        servers.append(("vLLM", GENERATOR, generator))
    for name, path, server in servers:
        if not 0 <= server.retries < 10**6:
            continue
        pauses = sum(min(2**n, 30) for n in range(min(server.retries, 6)))
        pauses += 30 * max(server.retries - 6, 0)
        longest = server.timeout_s * (server.retries + 1) + pauses
        if longest > spec.deepspeed.timeout_s:
            yield warning(
                "O115",
                f"the {name} server may be asked for {longest:,.0f} s, processes wait {spec.deepspeed.timeout_s:,} s for each other",
                (*path, "timeout_s"),
                helps=("lower `timeout_s` or `retries`, or raise `deepspeed.timeout_s`",),
            )


def check_truncated(spec: Spec) -> Iterator[Diagnostic]:
    """Answers are drawn from the likeliest tokens alone, while the losses see the probabilities of all.

    The ratios that PPO and GRPO clip are then not quite those of the policy that answered. Many train this way; to
    draw from the policy itself, use `top_p = 1` and no `top_k`.

    Fails:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    [generation]
    max_new_tokens = 64
    top_k = 50
    ```
    Passes:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    [generation]
    max_new_tokens = 64
    top_p = 1.0
    ```
    """
    generation = spec.generation
    if not isinstance(spec.objective, Ppo | Grpo):
        return
    for name, value in (("top_p", generation.top_p), ("top_k", generation.top_k)):
        if (name == "top_p" and value != 1) or (name == "top_k" and value):
            yield note(
                "O116",
                f"answers are drawn from the likeliest tokens alone (`{name} = {value:g}`), the loss sees all tokens",
                ("generation", name),
                labels=(Label(TYPE, "compares probabilities of all tokens"),),
                helps=("use `top_p = 1` without `top_k` to draw from the policy itself",),
            )


RULES = (
    Rule("O107", "answers that cannot differ", pure=check_drawn),
    Rule("O108", "generation from a stream", pure=check_generating),
    Rule("O109", "no room for answers", factual=check_room),
    Rule("O115", "patience with a server", pure=check_patience),
    Rule("O116", "answers from the likeliest tokens", pure=check_truncated),
)
