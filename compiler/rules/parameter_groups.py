"""Parameters with numbers of their own, and averages of them."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..facts import Facts
from ..spec import AdaLora, AdamMini, BAdamLayer, BAdamRatio, Full, Lora, OtherOptimizer, Spec
from .adapted import adapted, has_experts_apart
from .common import stage_label, zero_stage
from .patterns import may_take_for_ever
from .rule import Rule

GROUPS: SpecPath = ("training", "groups")
DECAY: SpecPath = ("training", "ema_decay")


def check_syntax(spec: Spec) -> Iterator[Diagnostic]:
    """The pattern of a group of parameters is no regular expression.

    Fails:
    ```toml
    [training]
    groups = [{ pattern = "lora_(A", rate_factor = 0.5 }]
    ```
    Passes:
    ```toml
    [training]
    groups = [{ pattern = "lora_(A|B)", rate_factor = 0.5 }]
    ```
    """
    for number, group in enumerate(spec.training.groups):
        fault = _compiled(group.pattern)[1]
        if fault is not None:
            yield error(
                "U813",
                f"`{group.pattern}` is no regular expression: {fault}",
                (*GROUPS, number, "pattern"),
                helps=("a part of a name is one too",),
            )


def check_matches(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A group of parameters is empty: no trained parameter has such a name, or earlier groups have them all.

    A rate that nothing is trained with is a slip: the parameters meant would be trained with the common one.

    Fails:
    ```toml
    [training]
    groups = [{ pattern = "lora_C", rate_factor = 0.5 }]
    ```
    Passes:
    ```toml
    [training]
    groups = [{ pattern = "lora_B", rate_factor = 0.5 }]
    ```
    """
    left = _names(spec, facts)
    if left is None:
        return
    for number, group in enumerate(spec.training.groups):
        compiled = _compiled(group.pattern)[0]
        if compiled is None or may_take_for_ever(group.pattern):
            return
        found = [name for name in left if any(map(compiled.search, _spellings(name)))]
        if not found:
            yield error(
                "U814",
                f"no trained parameter {'that is left ' if number else ''}matches `{group.pattern}`",
                (*GROUPS, number, "pattern"),
                helps=(f"names are such as `{left[len(left) // 2]}`",) if left else (),
            )
        left = [name for name in left if name not in set(found)]


def check_optimizer(spec: Spec) -> Iterator[Diagnostic]:
    """Groups of parameters with something that makes groups of its own.

    LoRA+ has its own groups. Adam-mini finds its blocks by the names of the weights, and BAdam trains a block or a share
    of them at a time: their packages take one rate for all.

    Fails:
    ```toml
    [method]
    type = "lora"
    b_rate_ratio = 16.0
    [training]
    groups = [{ pattern = "lora_B", rate_factor = 0.5 }]
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    [training]
    groups = [{ pattern = "lora_B", rate_factor = 16.0 }]
    ```
    """
    method, optimizer = spec.method, spec.optimizer
    found: tuple[str, SpecPath] | None = None
    if isinstance(method, Lora) and method.b_rate_ratio is not None:
        found = ("LoRA+", ("method", "b_rate_ratio"))
    elif isinstance(optimizer, AdamMini | BAdamLayer | BAdamRatio):
        found = (f"`{optimizer.type}`", ("optimizer", "type"))
    if found is not None and spec.training.groups:
        yield error(
            "U815",
            f"groups of parameters do not go with {found[0]}, which makes its own",
            GROUPS,
            labels=(Label(found[1], "chosen here"),),
            helps=("keep one of the two",),
        )


def check_average(spec: Spec) -> Iterator[Diagnostic]:
    """An average of the weights that would not be one of the model.

    Under ZeRO stage 3 each process holds a piece of the weights, and the average needs them whole. AdaLoRA sets ranks to
    zero, which an average would not have. Schedule-free optimizers average by themselves.

    Fails:
    ```toml
    [training]
    ema_decay = 0.99
    [deepspeed]
    zero_stage = 3
    ```
    Passes:
    ```toml
    [training]
    ema_decay = 0.99
    [deepspeed]
    zero_stage = 2
    ```
    """
    if spec.training.ema_decay is None:
        return
    optimizer = spec.optimizer
    if zero_stage(spec) == 3:
        yield error(
            "U816",
            "an average needs whole weights, stage 3 shards them",
            DECAY,
            labels=(stage_label(spec),),
            helps=("write `zero_stage = 2`, or remove `ema_decay`",),
        )
    if isinstance(spec.method, AdaLora):
        yield error(
            "U816",
            "an average of AdaLoRA's weights would have the ranks again that it gave up",
            DECAY,
            labels=(Label(("method", "type"), "moves ranks"),),
            helps=("remove `ema_decay`",),
        )
    if isinstance(optimizer, OtherOptimizer) and optimizer.name.startswith("schedule_free"):
        yield error(
            "U816",
            f"`{optimizer.name}` averages the weights by itself",
            DECAY,
            labels=(Label(("optimizer", "name"), "chosen here"),),
            helps=("remove `ema_decay`",),
        )


def _names(spec: Spec, facts: Facts) -> list[str] | None:
    """Return the names of the trained parameters; None where the files do not tell them."""
    method, model = spec.method, facts.model
    if not model.known or model.count_beside_language() or has_experts_apart(model):
        return None
    if isinstance(method, Full):
        return list(model.tensors or ()) if spec.model.mixture_of_depths == "off" else None
    if not isinstance(method, Lora) or _has_more(method):
        return None
    modules = adapted(method, model)
    if not modules.keys() <= model.linear_modules().keys():
        return None  # adapters of embeddings have other names
    return [
        f"base_model.model.{name}.lora_{matrix}.default.weight"
        for name in modules
        for matrix in ("B" if method.freeze_a else "AB")
    ]


def _spellings(name: str) -> tuple[str, ...]:
    """Return what a tensor may be called in memory: files of a bare model have no name in front."""
    return name, f"model.{name}", f"transformer.{name}"


def _has_more(method: Lora) -> bool:
    more = (method.full_modules, method.parameters, method.trainable_tokens, method.dora)
    return any(more) or method.bias != "none"


def _compiled(pattern: str) -> tuple[re.Pattern[str] | None, str | None]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return re.compile(pattern), None
    except (re.error, RecursionError, OverflowError) as fault:
        return None, fault.msg if isinstance(fault, re.error) else "it is too deep"


RULES = (
    Rule("U813", "group without expression", pure=check_syntax),
    Rule("U814", "empty group", factual=check_matches),
    Rule("U815", "groups twice", pure=check_optimizer),
    Rule("U816", "no average of these weights", pure=check_average),
)
