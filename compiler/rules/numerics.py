"""Parts of the model in fp32: where that is possible, and where everything is already."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..spec import LnTuning, Lora, Spec
from .common import METHOD_TYPE, Adapter, stage_label, zero_stage
from .rule import Rule

NORMS: SpecPath = ("model", "fp32_norms")


def check_norms(spec: Spec) -> Iterator[Diagnostic]:
    """Norms in fp32 that are trained, or spread over the processes.

    DeepSpeed holds all that it trains or spreads in one number format. Norms keep theirs where they are frozen and
    whole in each process.

    Fails:
    ```toml
    [model]
    fp32_norms = true
    [training]
    precision = "bf16"
    [method]
    type = "full"
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [model]
    fp32_norms = true
    [training]
    precision = "bf16"
    [method]
    type = "lora"
    [launch]
    device = "gpu"
    ```
    """
    if not spec.model.fp32_norms or spec.training.precision == "fp32":
        return
    method = spec.method
    leaves = isinstance(method, Adapter) and not isinstance(method, LnTuning)
    trained: SpecPath | None = None if leaves else METHOD_TYPE
    if isinstance(method, Lora) and method.bias != "none":
        trained = ("method", "bias")
    for index, name in enumerate(getattr(method, "full_modules", ())):
        if "norm" in name:
            trained = ("method", "full_modules", index)
    if trained is not None:
        yield error(
            "M671",
            "norms that are trained cannot stay in fp32 while the rest does not",
            NORMS,
            labels=(Label(trained, "trains norms too"),),
            helps=('remove `fp32_norms`, or write `precision = "fp32"`',),
        )
    if zero_stage(spec) == 3:
        yield error(
            "M671",
            "ZeRO stage 3 spreads norms in the number format of all weights",
            NORMS,
            labels=(stage_label(spec),),
            helps=("set `zero_stage` to 2 or less, or remove `fp32_norms`",),
        )


def check_fp32_already(spec: Spec) -> Iterator[Diagnostic]:
    """A part of the model is to be in fp32, as all of it is.

    Fails:
    ```toml
    [model]
    fp32_logits = true
    [training]
    precision = "fp32"
    ```
    Passes:
    ```toml
    [model]
    fp32_logits = true
    [training]
    precision = "bf16"
    [launch]
    device = "gpu"
    ```
    """
    for name in ("fp32_norms", "fp32_logits"):
        if getattr(spec.model, name) and spec.training.precision == "fp32":
            yield warning(
                "M672",
                f"`{name}` has no effect: all of the model is in fp32",
                ("model", name),
                labels=(Label(("training", "precision"), "the precision"),),
                helps=("remove it",),
            )


RULES = (
    Rule("M671", "norms in another format", pure=check_norms),
    Rule("M672", "in fp32 already", pure=check_fp32_already),
)
