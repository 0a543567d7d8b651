"""Where rewards come from."""

from __future__ import annotations

from collections.abc import Iterator
from urllib.parse import urlsplit

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..facts.named import function_rewards
from ..names import nearest
from ..spec import AdapterReward, ApiReward, Freeze, Full, Grpo, Lisa, LnTuning, Ppo, Spec
from .common import VIRTUAL
from .generators import GENERATOR, generator_of
from .look import listed
from .rule import Rule

PADDING = 512
"""Rows that embeddings of one tokenizer may differ by."""

OTHER_METHODS = (Full, Freeze, Lisa, LnTuning, *VIRTUAL)
"""Methods that put no adapter into the model, or none that can be exchanged for a reward's."""


def rewards_of(spec: Spec) -> Iterator[tuple[SpecPath, object]]:
    """Yield every reward with its place."""
    if isinstance(spec.objective, Ppo):
        yield ("objective", "reward"), spec.objective.reward
    elif isinstance(spec.objective, Grpo):
        for index, reward in enumerate(spec.objective.rewards):
            yield ("objective", "rewards", index), reward


def check_adapter(spec: Spec) -> Iterator[Diagnostic]:
    """The reward is an adapter on the policy's model, but the policy is trained without one.

    The model is loaded once and works with either adapter. Where its own weights are trained, the reward adapter
    would sit on other weights than it was trained on; Unsloth cannot exchange adapters at all.

    Fails:
    ```toml
    [method]
    type = "full"
    [objective]
    type = "ppo"
    reward = { type = "adapter", path = "team/reward" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    [objective]
    type = "ppo"
    reward = { type = "adapter", path = "team/reward" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    objective = spec.objective
    if not isinstance(objective, Ppo) or not isinstance(objective.reward, AdapterReward):
        return
    place = ("objective", "reward", "type")
    if isinstance(spec.method, OTHER_METHODS):
        yield error(
            "O110",
            f"a reward adapter needs a policy that is an adapter, `{spec.method.type}` is none",
            place,
            labels=(Label(("method", "type"), "no adapter"),),
            helps=('train with `type = "lora"`, or give a reward `model`',),
        )
    if spec.kernels.unsloth:
        yield error(
            "O110",
            "a reward adapter does not go with Unsloth, which cannot exchange adapters",
            place,
            labels=(Label(("kernels", "unsloth"), "switched on here"),),
            helps=("leave `unsloth` out, or give a reward `model`",),
        )


def check_url(spec: Spec) -> Iterator[Diagnostic]:
    """The address of a server is none that can be asked.

    Fails:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "api", url = "localhost:8000/score" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "api", url = "http://localhost:8000/score" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    addresses = [
        (path, reward.url, "http://localhost:8000/score")
        for path, reward in rewards_of(spec)
        if isinstance(reward, ApiReward)
    ]
    if (server := generator_of(spec)) is not None:
        addresses.append((GENERATOR, server.url, "http://localhost:8000"))
    for path, url, such in addresses:
        if not _is_address(url):
            yield error(
                "O111",
                "`url` is no address that starts with `http://` or `https://`",
                (*path, "url"),
                helps=(f"write the whole address, such as `{such}`",),
            )


def _is_address(url: str) -> bool:
    scheme, separator, rest = url.partition("://")
    host = rest.partition("/")[0]
    if not (scheme in ("http", "https") and separator and host):
        return False
    try:
        # A port that is no number, or none of a port.
        urlsplit(url).port  # noqa: B018
    except ValueError:
        return False
    return not any(character.isspace() for character in url)


def check_function(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A reward function cannot be found.

    The file is parsed and never run here. It must define the function at its top.

    Fails:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "function", path = "rewards.py", name = "rewards" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "ppo"
    reward = { type = "function", path = "rewards.py", name = "reward" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    for path, reward in function_rewards(spec).items():
        fact = facts.functions.get(path)
        if fact is None:
            continue
        texts = {
            "missing": f"there is no file `{reward.path}`",
            "unreadable": f"`{reward.path}` cannot be read: {fact.problem}",
            "not-python": f"`{reward.path}` is no Python: {fact.problem}",
        }
        if fact.state in texts:
            yield error("O112", texts[fact.state], (*path, "path"))
        elif reward.name not in fact.names:
            near = nearest(reward.name, fact.names)
            yield error(
                "O112",
                f"`{reward.path}` defines no `{reward.name}`",
                (*path, "name"),
                notes=(f"it defines {listed(fact.names[:20]) or 'nothing'}",),
                helps=(f"a similar name is `{near}`",) if near is not None else (),
            )


def check_rewards(spec: Spec) -> Iterator[Diagnostic]:
    """There is no reward to learn from.

    Fails:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = []
    [data]
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
    if isinstance(spec.objective, Grpo) and not spec.objective.rewards:
        yield error(
            "O113",
            "`objective.rewards` is empty: there is nothing to learn from",
            ("objective", "rewards"),
        )


def check_vocabulary(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A model beside the policy has another vocabulary.

    A reference gives probabilities of the policy's own tokens, so its vocabulary must be the same. A reward model
    with another tokenizer reads the answers as text, without the marks of the policy's chat template: that works, but
    may not be what it was trained on.

    Fails:
    ```toml
    [objective]
    type = "dpo"
    reference = { type = "model", path = "other-words" }
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "dpo"
    reference = { type = "model", path = "model" }
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    """
    own = facts.model.text_config.get("vocab_size")
    for path, model in facts.models.items():
        other = model.text_config.get("vocab_size")
        # Embeddings of one family are padded to different sizes; other tokenizers differ by more.
        if type(own) is not int or type(other) is not int or abs(own - other) <= PADDING:
            continue
        words = f"the model has a vocabulary of {other:,}, the policy one of {own:,}"
        is_reward = path[1] in ("reward", "rewards")
        find, more = (warning, ": it reads answers as plain text") if is_reward else (error, "")
        yield find(
            "O114",
            f"{words}{more}",
            path,
            labels=(Label(("model", "path"), "the policy"),),
            helps=("name a model with the same tokenizer",),
        )


RULES = (
    Rule("O110", "reward adapter without an adapter", pure=check_adapter),
    Rule("O111", "no address", pure=check_url),
    Rule("O112", "reward function missing", factual=check_function),
    Rule("O113", "no reward", pure=check_rewards),
    Rule("O114", "another vocabulary", factual=check_vocabulary),
)
