"""Faster code: what needs a GPU, what excludes what, what has no effect."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import BitsAndBytes, Full, Lora, NoQuantization, Spec
from .common import METHOD_TYPE, choices, similar, stage_label, zero_stage
from .rule import Rule

LIGER_OPS = ("rope", "rms_norm", "layer_norm", "swiglu", "geglu", "cross_entropy", "fused_linear_cross_entropy")  # fmt: skip
LOSS_OPS = ("cross_entropy", "fused_linear_cross_entropy")
BACKENDS = ("inductor", "eager", "aot_eager", "cudagraphs", "onnxrt", "openxla", "tvm")
"""Backends of `torch.compile` that come with torch."""

_LIGER = """
llama llama4 llama4_text mllama mllama_text_model mistral mixtral gemma gemma2 gemma3 gemma3_text qwen2 qwen3
qwen3_moe qwen3_next qwen2_vl qwen2_vl_text qwen2_5_vl qwen2_5_vl_text qwen3_vl qwen3_vl_text qwen3_vl_moe
qwen3_vl_moe_text qwen3_5 qwen3_5_text phi3 granite olmo2 olmo3 glm4 glm4v glm4v_moe internvl llava paligemma smollm3
smolvlm falcon_h1 gpt_oss hunyuan_v1_dense hunyuan_v1_moe exaone4 ministral ministral3 pixtral nemotron
"""
LIGER_TYPES = frozenset(_LIGER.split())
"""Model types that liger-kernel 0.8 is known to have kernels for; an omission costs a warning, no more."""


def check_device(spec: Spec) -> Iterator[Diagnostic]:
    """Code for GPUs, but the run is on a CPU.

    Fails:
    ```toml
    [kernels]
    liger = true
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [kernels]
    liger = false
    [launch]
    device = "cpu"
    ```
    """
    if spec.launch.device != "cpu":
        return
    attention = spec.model.attention
    wanted: list[tuple[bool, SpecPath, str]] = [
        (attention in ("flash2", "flash3"), ("model", "attention"), f"`{attention}` attention"),
        (attention == "flex", ("model", "attention"), "training with `flex` attention"),
        (spec.kernels.liger, ("kernels", "liger"), "liger's kernels"),
        (spec.kernels.unsloth, ("kernels", "unsloth"), "unsloth"),
        (spec.kernels.npu, ("kernels", "npu"), "the fused NPU kernels"),
    ]
    for path, what in ((path, what) for is_wanted, path, what in wanted if is_wanted):
        verb = "do" if what.endswith("kernels") else "does"
        yield error(
            "M651",
            f"{what} {verb} not run on a CPU",
            path,
            labels=(Label(("launch", "device"), "computed here"),),
            helps=("remove it, or compute on a GPU",),
        )


def check_both(spec: Spec) -> Iterator[Diagnostic]:
    """Liger and Unsloth both replace the model's code.

    Fails:
    ```toml
    [kernels]
    liger = true
    unsloth = true
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [kernels]
    liger = true
    [launch]
    device = "gpu"
    ```
    """
    if spec.kernels.liger and spec.kernels.unsloth:
        yield error(
            "M652",
            "liger and unsloth both replace the code of the model",
            ("kernels", "unsloth"),
            labels=(Label(("kernels", "liger"), "and here"),),
            helps=("keep one of them",),
        )


def check_unsloth(spec: Spec) -> Iterator[Diagnostic]:
    """Unsloth does not train by this method, or does not load such weights.

    It has code of its own for LoRA and for full training, and for weights in 4 bit by bitsandbytes.

    Fails:
    ```toml
    [kernels]
    unsloth = true
    [method]
    type = "oft"
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [kernels]
    unsloth = true
    [launch]
    device = "gpu"
    ```
    """
    if not spec.kernels.unsloth:
        return
    here = Label(("kernels", "unsloth"), "unsloth here")
    if not isinstance(spec.method, Lora | Full):
        yield error(
            "M653",
            f"unsloth does not train by `{spec.method.type}`",
            METHOD_TYPE,
            labels=(here,),
            helps=('remove `unsloth`, or train by `type = "lora"`',),
        )
    chosen = spec.quantization
    if not isinstance(chosen, NoQuantization) and not _is_four_bit(chosen):
        yield error(
            "M653",
            "unsloth loads weights in 4 bit by bitsandbytes, no others",
            ("quantization", "type"),
            labels=(here,),
            helps=('write `type = "bitsandbytes"` and `bits = 4`, or remove `unsloth`',),
        )


def check_liger_type(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Liger has no kernels for this model.

    Fails:
    ```toml
    [model]
    path = "absolute-model"
    [kernels]
    liger = true
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    [kernels]
    liger = true
    [launch]
    device = "gpu"
    ```
    """
    kind = facts.model.model_type
    if spec.kernels.liger and kind is not None and kind not in LIGER_TYPES:
        yield warning(
            "M654",
            f"liger has no kernels for models of type `{kind}`",
            ("kernels", "liger"),
            labels=(Label(("model", "path"), f"`{kind}`"),),
            helps=("remove it, unless a newer version has them",),
        )


def check_liger_ops(spec: Spec) -> Iterator[Diagnostic]:
    """A kernel of liger that does not exist, that excludes another one, or that is switched without liger.

    Fails:
    ```toml
    [kernels]
    liger = true
    liger_ops = { rms_nrom = true }
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [kernels]
    liger = true
    liger_ops = { rms_norm = true }
    [launch]
    device = "gpu"
    ```
    """
    ops = spec.kernels.liger_ops
    for name in (name for name in ops if name not in LIGER_OPS):
        yield error(
            "M655",
            f"liger has no kernel `{name}`",
            ("kernels", "liger_ops", name),
            helps=(_op_help(name),),
        )
    if ops.get("cross_entropy") and ops.get("fused_linear_cross_entropy"):
        yield error(
            "M655",
            "`cross_entropy` and `fused_linear_cross_entropy` both compute the loss",
            ("kernels", "liger_ops", "cross_entropy"),
            labels=(Label(("kernels", "liger_ops", "fused_linear_cross_entropy"), "and here"),),
            helps=("keep one of them",),
        )
    for name in (name for name in LOSS_OPS if ops.get(name) and spec.kernels.liger):
        yield warning(
            "M655",
            f"liger's `{name}` has no effect: the loss is fused with the output head already",
            ("kernels", "liger_ops", name),
            helps=("remove it",),
        )
    if ops and not spec.kernels.liger:
        yield warning(
            "M655",
            "`kernels.liger_ops` has no effect: liger is off",
            ("kernels", "liger_ops"),
            helps=("write `liger = true`, or remove it",),
        )


def check_compile(spec: Spec) -> Iterator[Diagnostic]:
    """A setting of `torch.compile`, which is off.

    Fails:
    ```toml
    [kernels]
    compile_mode = "max-autotune"
    ```
    Passes:
    ```toml
    [kernels]
    compile = true
    compile_mode = "max-autotune"
    ```
    """
    kernels = spec.kernels
    given = {
        "compile_backend": kernels.compile_backend is not None,
        "compile_mode": kernels.compile_mode != "default",
    }
    for name in (name for name, is_given in given.items() if is_given and not kernels.compile):
        yield warning(
            "M656",
            f"`kernels.{name}` has no effect: the model is not compiled",
            ("kernels", name),
            helps=("write `compile = true`, or remove it",),
        )


def check_compiled(spec: Spec) -> Iterator[Diagnostic]:
    """The blocks cannot be compiled: no such backend, or weights that come and go.

    ZeRO stage 3 fetches the weights of each layer when it is needed and drops them afterwards, which a compiled block
    does not allow.

    Fails:
    ```toml
    [kernels]
    compile = true
    compile_backend = "indcutor"
    ```
    Passes:
    ```toml
    [kernels]
    compile = true
    compile_backend = "inductor"
    ```
    """
    kernels, here = spec.kernels, Label(("kernels", "compile"), "compiled here")
    if not kernels.compile:
        return
    backend = kernels.compile_backend
    if backend is not None and backend not in BACKENDS:
        yield error(
            "M673",
            f"`torch.compile` has no backend `{backend}`",
            ("kernels", "compile_backend"),
            labels=(here,),
            helps=(choices(backend, BACKENDS, "there are"),),
        )
    if zero_stage(spec) == 3:
        yield error(
            "M673",
            "compiled blocks do not go with ZeRO stage 3",
            ("kernels", "compile"),
            labels=(stage_label(spec),),
            helps=("set `zero_stage` to 2 or less, or remove `compile`",),
        )


def check_flash(spec: Spec) -> Iterator[Diagnostic]:
    """FlashAttention computes in 16 bits only.

    Fails:
    ```toml
    [model]
    attention = "flash2"
    [training]
    precision = "fp32"
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [model]
    attention = "flash2"
    [training]
    precision = "bf16"
    [launch]
    device = "gpu"
    ```
    """
    attention = spec.model.attention
    is_on_gpu = spec.launch.device != "cpu"
    if attention in ("flash2", "flash3") and spec.training.precision == "fp32" and is_on_gpu:
        yield error(
            "M674",
            f"`{attention}` attention does not compute in fp32",
            ("model", "attention"),
            labels=(Label(("training", "precision"), "the precision"),),
            helps=('write `precision = "bf16"`, or `attention = "sdpa"`',),
        )


def _is_four_bit(chosen: object) -> bool:
    return isinstance(chosen, BitsAndBytes) and chosen.bits == 4


def _op_help(name: str) -> str:
    near = similar(name, LIGER_OPS)
    return choices(name, LIGER_OPS, "there are") if near is None else f"a similar name is `{near}`"


RULES = (
    Rule("M651", "needs another device", pure=check_device),
    Rule("M652", "two kinds of kernels", pure=check_both),
    Rule("M653", "not with this accelerator", pure=check_unsloth),
    Rule("M654", "no kernels for this model", factual=check_liger_type),
    Rule("M655", "kernels of one library", pure=check_liger_ops),
    Rule("M656", "not compiled", pure=check_compile),
    Rule("M673", "cannot be compiled", pure=check_compiled),
    Rule("M674", "attention in half precision", pure=check_flash),
)
