"""The method against the model it adapts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from ..diagnostics import Diagnostic, SpecPath, error, warning
from ..facts import Facts
from ..facts.model import TensorFacts
from ..spec import Lora, Spec
from .rule import Rule


def check_targets(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A LoRA target names no module of the model.

    PEFT refuses only when no target at all matches; a single misspelt one is dropped without a word there.

    Fails:
    ```toml
    [method]
    type = "lora"
    targets = ["q_proj", "quary"]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    targets = ["q_proj", "v_proj"]
    ```
    """
    method = spec.method
    modules = facts.model.linear_modules()
    if not isinstance(method, Lora) or method.targets == "all-linear" or not facts.model.known:
        return
    names = sorted({name.rsplit(".", 1)[-1] for name in modules})
    if not method.targets:
        yield error(
            "A801", "`method.targets` is empty", ("method", "targets"), helps=(_names(names),)
        )
    for index, target in enumerate(method.targets):
        if not matching(modules, target):
            path: SpecPath = ("method", "targets", index)
            yield error(
                "A801",
                f"no module of the model is called `{target}`",
                path,
                helps=(_names(names),),
            )


def check_rank(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The rank is as large as a layer.

    An adapter of rank r replaces a matrix of m x n numbers by r x (m + n). From r = m n / (m + n) on it is larger
    than the matrix it adapts.

    Fails:
    ```toml
    [method]
    type = "lora"
    rank = 512
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    rank = 4
    ```
    """
    method = spec.method
    if not isinstance(method, Lora):
        return
    matched = targeted(method, facts.model.linear_modules())
    if matched:
        smallest = min(min(tensor.shape) for tensor in matched.values())
        if method.rank >= smallest:
            yield warning(
                "A802",
                f"rank {method.rank} is not low: the smallest adapted layer has {smallest} rows or columns",
                ("method", "rank"),
                helps=(f"use a rank well below {smallest}",),
            )


def matching(modules: Mapping[str, TensorFacts], target: str) -> list[str]:
    """Return the modules PEFT takes for `target`: those called so, or ending in `.target`."""
    return [name for name in modules if name == target or name.endswith("." + target)]


def targeted(method: Lora, modules: Mapping[str, TensorFacts]) -> dict[str, TensorFacts]:
    """Return the modules that get an adapter."""
    if method.targets == "all-linear":
        return dict(modules)
    chosen = {name for target in method.targets for name in matching(modules, target)}
    return {name: tensor for name, tensor in modules.items() if name in chosen}


def _names(names: list[str]) -> str:
    return "its linear modules are " + ", ".join(f"`{name}`" for name in names)


RULES = (
    Rule("A801", "target matches nothing", factual=check_targets),
    Rule("A802", "rank not low", factual=check_rank),
)
