"""Servers that answer in place of the policy: what they can be given."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..spec import Grpo, Lora, Ppo, Spec, VllmGenerator
from .common import METHOD_TYPE, WHOLE
from .references import CHANGES_WEIGHTS
from .rule import Rule

GENERATOR: SpecPath = ("objective", "generator")


def generator_of(spec: Spec) -> VllmGenerator | None:
    """Return the server that answers, None where the policy does or nothing is generated."""
    if not isinstance(spec.objective, Ppo | Grpo):
        return None
    found = spec.objective.generator
    return found if isinstance(found, VllmGenerator) else None


def check_policy(spec: Spec) -> Iterator[Diagnostic]:
    """A vLLM server cannot be given what this method trains, and would answer as another model.

    It loads adapters of LoRA as PEFT writes them by default, on the base that it was started with, or whole weights.
    It knows no DoRA, biases, ranks by pattern and other trained modules; where the start of an adapter changes the
    base, or earlier adapters are merged into it, the server's base is another one.

    Fails:
    ```toml
    [method]
    type = "lora"
    dora = true
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    generator = { type = "vllm", url = "http://localhost:8000" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    rank_stabilized = true
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    generator = { type = "vllm", url = "http://localhost:8000" }
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    if generator_of(spec) is None:
        return
    for path, words, help in _in_the_way(spec):
        yield error(
            "O117",
            f"a vLLM server does not take {words}",
            path,
            labels=(Label((*GENERATOR, "type"), "answers in place of the policy"),),
            helps=(help,),
        )


def _in_the_way(spec: Spec) -> Iterator[tuple[SpecPath, str, str]]:
    method, itself = spec.method, "or leave `generator` out: then the policy answers itself"
    if not spec.generation.kv_cache:
        yield ("generation", "kv_cache"), "generation without its cache", f"leave it out, {itself}"
    if isinstance(method, WHOLE):
        return
    if not isinstance(method, Lora):
        plain = f'use `type = "lora"` or train whole weights, {itself}'
        yield METHOD_TYPE, f"an adapter of `{method.type}`", plain
        return
    found = {
        "dora": ("DoRA", method.dora),
        "bias": ("trained biases", method.bias != "none"),
        "full_modules": ("modules trained beside the adapter", bool(method.full_modules)),
        "trainable_tokens": ("tokens trained beside the adapter", bool(method.trainable_tokens)),
        "parameters": ("adapters on parameters of experts", bool(method.parameters)),
        "rank_pattern": ("ranks by pattern", bool(method.rank_pattern)),
        "alpha_pattern": ("scales by pattern", bool(method.alpha_pattern)),
        "init": ("a start that changes the base", isinstance(method.init, CHANGES_WEIGHTS)),
    }
    for name, (words, is_there) in found.items():
        if is_there:
            yield ("method", name), words, f"leave it out, {itself}"
    paths = spec.adapters.paths
    if paths and (len(paths) > 1 or spec.adapters.then == "new"):
        words = "an adapter on a base into which others were merged"
        yield ("adapters", "paths"), words, f"export the merged model first, {itself}"


RULES = (Rule("O117", "no policy for a server", pure=check_policy),)
