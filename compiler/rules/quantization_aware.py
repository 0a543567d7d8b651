"""Training for a model that will be quantized: what it goes with."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..facts import Facts
from ..facts.config import sees_or_hears
from ..spec import Freeze, Full, Spec
from .common import METHOD_TYPE
from .rule import Rule

HERE: SpecPath = ("quantization_aware", "type")


def check_method(spec: Spec) -> Iterator[Diagnostic]:
    """Training for a quantized model, but the weights that will be rounded are not trained.

    Weights learn to stand their rounding only where they move themselves. Adapters beside frozen weights are trained
    for quantized ones by `[quantization]`, which quantizes first.

    Fails:
    ```toml
    [quantization_aware]
    [method]
    type = "lora"
    ```
    Passes:
    ```toml
    [quantization_aware]
    [method]
    type = "full"
    ```
    """
    if spec.quantization_aware is None or isinstance(spec.method, Full | Freeze):
        return
    yield error(
        "Q613",
        f"quantization-aware training does not go with `{spec.method.type}`",
        HERE,
        labels=(Label(METHOD_TYPE, "trained here"),),
        helps=(
            'write `[method] type = "full"` or `"freeze"`, or put adapters beside quantized weights: `[quantization]`',
        ),
    )


def check_towers(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Say the same of a model that sees or hears: its towers would be rounded with the rest, and are not trained."""
    if spec.quantization_aware is not None and sees_or_hears(facts.model.config):
        yield error(
            "Q613",
            "quantization-aware training is for models that only read: towers would be rounded, and do not learn it",
            HERE,
            labels=(Label(("model", "path"), "sees or hears"),),
        )


def check_groups(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Weights that share a scale do not fill the rows of a layer.

    Fails:
    ```toml
    [quantization_aware]
    group_size = 24
    [method]
    type = "full"
    ```
    Passes:
    ```toml
    [quantization_aware]
    group_size = 16
    [method]
    type = "full"
    ```
    """
    chosen = spec.quantization_aware
    if chosen is None or not facts.model.known:
        return
    shapes = {name: tensor.shape for name, tensor in facts.model.linear_modules().items()}
    wrong = [(name, shape[1]) for name, shape in shapes.items() if shape[1] % chosen.group_size]
    if wrong:
        name, inputs = min(wrong)
        yield error(
            "Q614",
            f"groups of {chosen.group_size} do not divide the {inputs:,} inputs of `{name}`",
            ("quantization_aware", "group_size"),
            label=f"{chosen.group_size} weights share a scale",
            labels=(Label(("model", "path"), f"{len(wrong):,} such layers"),),
            helps=("a power of two such as 32 divides those of most models",),
        )


RULES = (
    Rule("Q613", "quantization-aware adapters", pure=check_method, factual=check_towers),
    Rule("Q614", "rounding in groups that do not divide", factual=check_groups),
)
