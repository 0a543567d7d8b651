"""Changes to how the model computes: attention, depths, experts."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import Full, Spec
from .common import zero_stage
from .rule import Rule


def _types(names: str) -> frozenset[str]:
    return frozenset(names.split())


DEPTHS: SpecPath = ("model", "mixture_of_depths")
CONVERTED = "llama_mixture_of_depths"
DEPTHS_TYPES = {"convert": "llama", "load": CONVERTED}
"""Type of the model that each choice needs."""

WITHOUT: dict[str, frozenset[str]] = {
    # What transformers 5.23 refuses when it builds the model, read from the classes it builds.
    "sdpa": _types(
        "bloom codegen deepseek_v4 falcon_mamba gemma2 gpt_neo gpt_oss gptj granite_swa "
        "granitemoe_swa mamba mamba2 mimo_v2_flash mpt rwkv vaultgemma xglm xlnet xlstm "
        "hy_v4 inkling2"
    ),
    "flash2": _types(
        "bloom blt codegen deepseek_v32 deepseek_v4 doge falcon_mamba gpt_oss glm_moe_dsa "
        "idefics kosmos-2 llama4 llama4_text mamba mamba2 mllama mpt rwkv step3p7 xglm "
        "xlnet xlstm hy_v4 granite_swa granitemoe_swa"
    ),
    "flex": _types(
        "bamba bloom blt codegen deepseek_v32 deepseek_v4 falcon falcon_h1 falcon_mamba "
        "glm4v glm_moe_dsa gpt2 gpt_bigcode gpt_neo gptj jamba kimi_linear mamba mamba2 "
        "mpt olmoe persimmon qwen2_5_vl qwen2_vl qwen3_5 qwen3_5_moe qwen3_next qwen3_vl "
        "rwkv stablelm xglm zamba"
    ),
}
WITHOUT["flash3"] = WITHOUT["flash2"] - {"gpt_oss", "granite_swa", "granitemoe_swa"}


def check_shifted(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Shifted sparse attention does not fit the model, the attention or the lengths.

    It is defined for models of the Llama family, shifts the heads of the ordinary attention, and cuts each row into
    quarters, which shift by half of themselves: a row has a multiple of 8 tokens. Rows of samples that must not see
    each other it would mix.

    Fails:
    ```toml
    [model]
    path = "absolute-model"
    shifted_attention = true
    [data]
    pad_multiple = 8
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    shifted_attention = true
    [data]
    pad_multiple = 8
    ```
    """
    if not spec.model.shifted_attention:
        return
    kind, here = facts.model.text_type, ("model", "shifted_attention")
    if kind not in (None, "llama"):
        yield error(
            "M618",
            f"shifted attention is for models of type `llama`, this one is `{kind}`",
            here,
            labels=(Label(("model", "path"), f"`{kind}`"),),
            helps=("remove `shifted_attention`",),
        )
    if spec.model.attention in ("flash2", "flash3", "flex"):
        yield error(
            "M618",
            f"shifted attention does not go with `{spec.model.attention}`",
            ("model", "attention"),
            labels=(Label(here, "shifted here"),),
            helps=('write `attention = "sdpa"` or `"eager"`',),
        )
    if spec.data.packing in ("isolated", "padding-free"):
        yield error(
            "M618",
            "shifted attention does not keep the samples of a row apart",
            ("data", "packing"),
            labels=(Label(here, "shifted here"),),
            helps=('write `packing = "off"`',),
        )
    yield from _lengths(spec, here)


def _lengths(spec: Spec, here: SpecPath) -> Iterator[Diagnostic]:
    label = Label(here, "rows are cut into quarters, which shift by half of themselves")
    data = spec.data
    if data.max_length % 8:
        yield error(
            "M618",
            f"`data.max_length` is {data.max_length:,}, which is no multiple of 8",
            ("data", "max_length"),
            labels=(label,),
            helps=(f"set it to {max(data.max_length // 8, 1) * 8}",),
        )
    if data.pad_multiple % 8:
        yield error(
            "M618",
            f"rows are padded to a multiple of {data.pad_multiple}, which is no multiple of 8",
            ("data", "pad_multiple"),
            labels=(label,),
            helps=("write `pad_multiple = 8`",),
        )


def check_depths(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """There is no Mixture-of-Depths for this model, or it was converted or not.

    It exists for models of type `llama`. A converted one has a type of its own, which only tunec knows: servers do not
    load it, rather than load it wrongly.

    Fails:
    ```toml
    [model]
    path = "absolute-model"
    mixture_of_depths = "convert"
    [method]
    type = "full"
    [generation]
    kv_cache = false
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    mixture_of_depths = "convert"
    [method]
    type = "full"
    [generation]
    kv_cache = false
    ```
    """
    kind, chosen = facts.model.model_type, spec.model.mixture_of_depths
    fits = kind == DEPTHS_TYPES[chosen] if chosen != "off" else kind != CONVERTED
    if kind is None or fits:
        return
    message = {
        "convert": f"a model of type `{kind}` cannot be converted to mixture-of-depths",
        "load": f"a model of type `{kind}` was not converted to mixture-of-depths",
        "off": "the model was converted to mixture-of-depths",
    }[chosen]
    is_converted = kind == CONVERTED
    yield error(
        "M619",
        message,
        DEPTHS,
        labels=(Label(("model", "path"), f"`{kind}`"),),
        notes=() if is_converted else ("it exists for `llama`",),
        helps=('write `mixture_of_depths = "load"`',) if is_converted else (),
    )


def check_depths_with(spec: Spec) -> Iterator[Diagnostic]:
    """Mixture-of-Depths together with what it does not go with.

    Routers are trained with the whole model. They choose among all tokens of a row, which therefore belong together; a
    cache of keys and values knows nothing of tokens that skip a block.

    Fails:
    ```toml
    [model]
    mixture_of_depths = "convert"
    [method]
    type = "lora"
    [generation]
    kv_cache = false
    ```
    Passes:
    ```toml
    [model]
    mixture_of_depths = "convert"
    [method]
    type = "full"
    [generation]
    kv_cache = false
    ```
    """
    if spec.model.mixture_of_depths == "off":
        return
    model, data = spec.model, spec.data
    clashes: list[tuple[bool, str, SpecPath, str]] = [
        (not isinstance(spec.method, Full), f"`{spec.method.type}`", ("method", "type"), 'write `type = "full"`'),
        (spec.generation.kv_cache, "a cache of keys and values", ("generation", "kv_cache"), "write `kv_cache = false` in `[generation]`"),
        (model.attention not in ("auto", "eager", "sdpa"), f"`{model.attention}` attention", ("model", "attention"), 'write `attention = "sdpa"`'),
        (model.shifted_attention, "shifted attention", ("model", "shifted_attention"), "keep one of the two"),
        (data.packing in ("isolated", "padding-free"), "samples that share a row", ("data", "packing"), 'write `packing = "off"`'),
        (spec.kernels.compile, "compiled blocks", ("kernels", "compile"), "remove `compile`"),
        (spec.kernels.liger, "liger", ("kernels", "liger"), "remove `liger`"),
        (zero_stage(spec) == 3, "ZeRO stage 3", ("deepspeed", "zero_stage"), "set `zero_stage` to 2 or less"),
    ]  # fmt: skip
    for clash, what, path, helped in clashes:
        if clash:
            yield error(
                "M675",
                f"mixture-of-depths does not go with {what}",
                path,
                labels=(Label(DEPTHS, "routers here"),),
                helps=(helped,),
            )


def check_experts(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A loss for the router, but the model has no experts.

    Fails:
    ```toml
    [model]
    path = "model"
    moe_aux_loss = 0.001
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    loss = spec.model.moe_aux_loss
    if loss and facts.model.has_config and not facts.model.num_experts:
        yield warning(
            "M620",
            "`model.moe_aux_loss` has no effect: the model has no experts",
            ("model", "moe_aux_loss"),
            labels=(Label(("model", "path"), "a dense model"),),
            helps=("remove it",),
        )


def check_attention(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The model does not exist with this attention.

    Sinks, soft caps and linear biases are not in every implementation; transformers refuses to build such a model.

    Fails:
    ```toml
    [model]
    path = "capped-model"
    attention = "sdpa"
    ```
    Passes:
    ```toml
    [model]
    path = "capped-model"
    attention = "eager"
    ```
    """
    kind, chosen = facts.model.model_type, spec.model.attention
    if kind is not None and kind in WITHOUT.get(chosen, ()):
        yield error(
            "M621",
            f"a model of type `{kind}` does not work with `{chosen}` attention",
            ("model", "attention"),
            labels=(Label(("model", "path"), f"`{kind}`"),),
            helps=('write `attention = "auto"` or `"eager"`',),
        )


RULES = (
    Rule("M618", "shifted attention does not fit", factual=check_shifted),
    Rule("M619", "no depths for this family", factual=check_depths),
    Rule("M675", "depths with something else", pure=check_depths_with),
    Rule("M620", "no experts", factual=check_experts),
    Rule("M621", "attention the model lacks", factual=check_attention),
)
