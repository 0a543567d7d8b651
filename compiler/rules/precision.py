"""Arithmetic, and memory saved in the backward pass."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..spec import NoQuantization, Spec
from .common import zero_stage
from .look import is_language_objective
from .rule import Rule
from .updates import needs_weights

PRECISION: SpecPath = ("training", "precision")
DEVICE: SpecPath = ("launch", "device")


def check_fp8(spec: Spec) -> Iterator[Diagnostic]:
    """fp8 does not go with the rest.

    Products in 8 bit need weights that are not quantized or rounded otherwise, and a loss that was tried with them:
    pretraining and SFT. Elsewhere trainers ignore the setting. They are computed by torchao, on the layers that it puts
    in place: those of transformer-engine are not wired into DeepSpeed's engine. Under ZeRO stage 3 the layers would hold
    on to weights that the stage gives back after each pass.

    Fails:
    ```toml
    [training]
    precision = "fp8"
    [launch]
    device = "gpu"
    [objective]
    type = "dpo"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    Passes:
    ```toml
    [training]
    precision = "fp8"
    [launch]
    device = "gpu"
    ```
    """
    if spec.training.precision != "fp8":
        return
    if not isinstance(spec.quantization, NoQuantization):
        place = ("quantization", "type")
        yield _fp8("fp8 does not go with quantized weights", place, "quantized here")
    if spec.quantization_aware is not None:
        aware: SpecPath = ("quantization_aware", "type")
        yield _fp8("fp8 does not go with quantization-aware training", aware, "rounded here")
    if zero_stage(spec) == 3:
        stage: SpecPath = ("deepspeed", "zero_stage")
        yield _fp8("fp8 does not go with ZeRO stage 3", stage, "gives weights back after each pass")
    if spec.training.fp8_backend == "transformer-engine":
        backend: SpecPath = ("training", "fp8_backend")
        yield _fp8("fp8 is computed by torchao only", backend, "another library")
    if not is_language_objective(spec):
        yield _fp8(
            f"fp8 does not go with `{spec.objective.type}`, only with pretraining and SFT",
            ("objective", "type"),
            "the objective",
        )


def _fp8(message: str, path: SpecPath, label: str) -> Diagnostic:
    helps = ('write `precision = "bf16"`',)
    return error("R840", message, PRECISION, labels=(Label(path, label),), helps=helps)


def check_fp8_device(spec: Spec) -> Iterator[Diagnostic]:
    """fp8 on a CPU, which has no units for it.

    Fails:
    ```toml
    [training]
    precision = "fp8"
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [training]
    precision = "fp8"
    [launch]
    device = "gpu"
    ```
    """
    if spec.training.precision == "fp8" and spec.launch.device == "cpu":
        yield error(
            "R845",
            "fp8 does not run on a CPU",
            PRECISION,
            labels=(Label(DEVICE, "computed here"),),
            helps=('write `precision = "fp32"`',),
        )


def check_backend(spec: Spec) -> Iterator[Diagnostic]:
    """A library for fp8 is named, but nothing is computed in fp8.

    Fails:
    ```toml
    [training]
    fp8_backend = "torchao"
    ```
    Passes:
    ```toml
    [training]
    fp8_backend = "auto"
    ```
    """
    if spec.training.fp8_backend != "auto" and spec.training.precision != "fp8":
        yield warning(
            "R841",
            "`fp8_backend` has no effect: nothing is computed in fp8",
            ("training", "fp8_backend"),
            labels=(Label(PRECISION, "the precision"),),
            helps=('write `precision = "fp8"`, or leave `fp8_backend` out',),
        )


def check_copies(spec: Spec) -> Iterator[Diagnostic]:
    """Mixed precision updates fp32 copies of the weights, and something here needs the weights themselves.

    Without ZeRO DeepSpeed gives the optimizer copies in fp32 and gradients for all of them, zeros where there is none.
    What switches parameters on and off, updates in the backward pass or shows other weights than it trains would not
    reach the model.

    Fails:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "badam"
    [training]
    precision = "bf16"
    [deepspeed]
    zero_stage = 0
    ```
    Passes:
    ```toml
    [method]
    type = "full"
    [optimizer]
    type = "badam"
    [training]
    precision = "pure-bf16"
    [deepspeed]
    zero_stage = 0
    ```
    """
    if spec.training.precision not in ("bf16", "fp16", "fp8") or zero_stage(spec) != 0:
        return
    found = needs_weights(spec)
    if found is not None:
        yield error(
            "R842",
            f"`{found[0]}` needs the weights themselves, `{spec.training.precision}` trains fp32 copies of them",
            PRECISION,
            labels=(Label(found[1], "chosen here"),),
            helps=('write `precision = "pure-bf16"` or `"fp32"`',),
        )


def check_gpu_settings(spec: Spec) -> Iterator[Diagnostic]:
    """A setting about GPUs has no effect on a CPU.

    Fails:
    ```toml
    [training]
    tf32 = true
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [training]
    tf32 = true
    [launch]
    device = "gpu"
    ```
    """
    if spec.launch.device != "cpu":
        return
    training = spec.training
    given = {
        "tf32": bool(training.tf32),
        "offload_activations": training.offload_activations,
        "empty_cache_steps": training.empty_cache_steps is not None,
    }
    for name, is_given in given.items():
        if is_given:
            yield warning(
                "R843",
                f"`{name}` has no effect on a CPU",
                ("training", name),
                labels=(Label(DEVICE, "computed here"),),
            )


def check_recomputed(spec: Spec) -> Iterator[Diagnostic]:
    """A setting of gradient checkpointing is given, but nothing is recomputed.

    Fails:
    ```toml
    [training]
    gradient_checkpointing = false
    checkpointing_reentrant = true
    ```
    Passes:
    ```toml
    [training]
    gradient_checkpointing = true
    checkpointing_reentrant = true
    ```
    """
    training = spec.training
    if training.gradient_checkpointing:
        return
    for name in ("checkpointing_reentrant", "offload_activations"):
        if getattr(training, name):
            yield warning(
                "R844",
                f"`{name}` has no effect: nothing is recomputed",
                ("training", name),
                labels=(Label(("training", "gradient_checkpointing"), "switched off"),),
            )


RULES = (
    Rule("R840", "fp8 with something else", pure=check_fp8),
    Rule("R841", "backend without fp8", pure=check_backend),
    Rule("R845", "fp8 on a CPU", pure=check_fp8_device),
    Rule("R842", "copies of the weights", pure=check_copies),
    Rule("R843", "setting of another device", pure=check_gpu_settings),
    Rule("R844", "nothing recomputed", pure=check_recomputed),
)
