"""Loading the model: where it comes from, which code it needs, what its weights start as."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, Level, SpecPath, error, warning
from ..facts import Facts
from ..spec import Full, NoQuantization, Spec
from .common import METHOD_TYPE
from .rule import Rule

TRANSFORMERS = "5.23"
"""The version that runs are made for, which `tunec[train]` installs."""

_WITH_ROUTER_LOSS = """
dbrx deepseek_v4 doge ernie4_5_moe ernie4_5_vl_moe ernie4_5_vl_moe_text flex_olmo flint glm4v_moe glm4v_moe_text
glm5_next glm5_next_text gpt_oss granitemoe granitemoe_swa granitemoehybrid granitemoeshared jamba laguna mellum
minimax minimax_m2 minimax_m3_vl minimax_m3_vl_text mixtral olmoe phimoe qwen2_moe qwen3_5_moe qwen3_5_moe_text
qwen3_moe qwen3_next qwen3_omni_moe qwen3_omni_moe_text qwen3_vl_moe qwen3_vl_moe_text qwen4_exp qwen4_exp_text
"""
WITH_ROUTER_LOSS = frozenset(_WITH_ROUTER_LOSS.split())
"""Model types for which transformers 5.23 computes a load-balancing loss (`router_aux_loss_coef`)."""

UNLOADABLE = {
    "InternVLChatModel": "the conversion whose name ends in `-hf`",
    "LlavaLlamaForCausalLM": "the conversion whose name ends in `-hf`",
}
"""Architectures of original releases that transformers has under another name."""


def check_hub_settings(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A setting of the hub is given, but the model is a folder.

    Fails:
    ```toml
    [model]
    path = "model"
    revision = "main"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    if facts.model.state != "folder" or facts.tokenizer.state == "hub":
        return
    model = spec.model
    given = {
        "hub": model.hub != "huggingface",
        "revision": model.revision is not None,
        "cache_dir": model.cache_dir is not None,
    }
    for name in (name for name, is_given in given.items() if is_given):
        yield warning(
            "M608",
            f"`model.{name}` has no effect: the model is a folder",
            ("model", name),
            labels=(Label(("model", "path"), "no hub id"),),
            helps=("remove it, or name a hub id such as `org/name`",),
        )


def check_code(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The model needs Python code of its own, which is not allowed to run.

    Its configuration names classes that come with the weights (`auto_map`), and transformers has none for its type.

    Fails:
    ```toml
    [model]
    path = "coded-model"
    ```
    Passes:
    ```toml
    [model]
    path = "coded-model"
    trust_remote_code = true
    ```
    """
    if not facts.model.has_code or spec.model.trust_remote_code:
        return
    from ..model_types import MODEL_TYPES

    kind = facts.model.model_type
    if kind not in MODEL_TYPES:
        yield error(
            "M609",
            f"the model type `{kind}` exists only as Python code shipped with the model",
            ("model", "path"),
            notes=("`auto_map` of the model's config.json names that code",),
            helps=("read that code, then write `trust_remote_code = true`",),
        )


def check_architecture(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Transformers cannot load such a model.

    Some models were released with code of their own and converted later; only the conversion can be trained. Others
    are newer than the version of transformers that the run is made for.

    Fails:
    ```toml
    [model]
    path = "unconverted-model"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    from ..model_types import MODEL_TYPES

    kind = facts.model.model_type
    if kind is not None and not facts.model.has_code and kind not in MODEL_TYPES:
        yield error(
            "M610",
            f"transformers {TRANSFORMERS} knows no models of type `{kind}`",
            ("model", "path"),
            notes=("`model_type` of the model's config.json",),
        )
    for name in facts.model.architectures:
        if name in UNLOADABLE:
            yield error(
                "M610",
                f"transformers cannot load the architecture `{name}`",
                ("model", "path"),
                notes=("`architectures` of the model's config.json",),
                helps=(f"use {UNLOADABLE[name]}",),
            )


def check_pickle(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Pickled weights are allowed, but there is no need.

    Fails:
    ```toml
    [model]
    path = "model"
    allow_pickle = true
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    if spec.model.allow_pickle and facts.model.known:
        yield Diagnostic(
            "M611",
            Level.NOTE,
            "`model.allow_pickle` has no effect: the weights are safetensors",
            ("model", "allow_pickle"),
            helps=("remove it",),
        )


def check_random(spec: Spec) -> Iterator[Diagnostic]:
    """Random weights that stay as they are.

    A model that starts from random weights learns nothing unless all of them are trained; adapters of an earlier
    training and fewer bits belong to weights that mean something.

    Fails:
    ```toml
    [model]
    init = "random"
    [method]
    type = "lora"
    ```
    Passes:
    ```toml
    [model]
    init = "random"
    [method]
    type = "full"
    ```
    """
    if spec.model.init != "random":
        return
    against: list[tuple[bool, SpecPath, str]] = [
        (not isinstance(spec.method, Full), METHOD_TYPE, "most of them stay frozen"),
        (bool(spec.adapters.paths), ("adapters", "paths"), "made for other weights"),
        (not isinstance(spec.quantization, NoQuantization), ("quantization", "type"), "frozen"),
    ]
    labels = tuple(Label(path, text) for holds, path, text in against if holds)
    if labels:
        yield error(
            "M612",
            "the model starts from random weights that are not all trained",
            ("model", "init"),
            labels=labels,
            helps=(
                'train all of them: `[method] type = "full"`, or start from `"pretrained"` ones',
            ),
        )


def check_loading(spec: Spec) -> Iterator[Diagnostic]:
    """The model is to be built twice, but it never is.

    transformers 5 always fills a model tensor by tensor, and knows no other way any more.

    Fails:
    ```toml
    [model]
    path = "model"
    low_memory_loading = false
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    low_memory_loading = true
    ```
    """
    if not spec.model.low_memory_loading:
        yield warning(
            "M658",
            f"`model.low_memory_loading` has no effect: transformers {TRANSFORMERS} always fills a model tensor by tensor",
            ("model", "low_memory_loading"),
            helps=("remove it",),
        )


def check_router_loss(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The model has experts, but computes no loss for its router.

    transformers computes it for some families only; others, such as DeepSeek V3, balance their experts without one.

    Fails:
    ```toml
    [model]
    path = "unbalanced-model"
    moe_aux_loss = 0.001
    ```
    Passes:
    ```toml
    [model]
    path = "expert-model"
    moe_aux_loss = 0.001
    ```
    """
    model, kinds = facts.model, {facts.model.model_type, facts.model.text_type}
    if spec.model.moe_aux_loss and model.num_experts and not kinds & WITH_ROUTER_LOSS:
        yield error(
            "M659",
            f"a model of type `{model.model_type}` computes no loss for its router",
            ("model", "moe_aux_loss"),
            labels=(Label(("model", "path"), f"`{model.model_type}`"),),
            helps=("remove it",),
        )


def check_router_gradient(spec: Spec) -> Iterator[Diagnostic]:
    """The loss for the router would not reach it.

    The older kind of gradient checkpointing computes each block without gradients first, and that is when the router
    is looked at.

    Fails:
    ```toml
    [model]
    path = "expert-model"
    moe_aux_loss = 0.001
    [training]
    gradient_checkpointing = true
    checkpointing_reentrant = true
    ```
    Passes:
    ```toml
    [model]
    path = "expert-model"
    moe_aux_loss = 0.001
    [training]
    gradient_checkpointing = true
    ```
    """
    training = spec.training
    reentrant = training.gradient_checkpointing and training.checkpointing_reentrant
    if spec.model.moe_aux_loss and reentrant:
        yield error(
            "M660",
            "the loss for the router does not reach it through re-entrant checkpointing",
            ("model", "moe_aux_loss"),
            labels=(Label(("training", "checkpointing_reentrant"), "re-entrant here"),),
            helps=("write `checkpointing_reentrant = false`",),
        )


def check_unknown(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The model is a hub id that was not fetched to this machine yet.

    Nothing is wrong; but its modules, positions, vocabulary and size are unknown here, so that what depends on
    them is checked when the run starts. What the hub's client keeps in its cache is looked into.

    Fails:
    ```toml
    [model]
    path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    if facts.model.state == "hub" and not facts.model.known:
        yield Diagnostic(
            "M657",
            Level.NOTE,
            f"`{spec.model.path}` is not on this machine: its modules, positions and size are not checked",
            ("model", "path"),
            helps=("fetch it once, or name a folder: `tunec fetch ORG/NAME FOLDER`",),
        )


RULES = (
    Rule("M608", "hub setting without effect", factual=check_hub_settings),
    Rule("M609", "needs code of its own", factual=check_code),
    Rule("M610", "unloadable architecture", factual=check_architecture),
    Rule("M611", "consent without need", factual=check_pickle),
    Rule("M612", "random weights frozen", pure=check_random),
    Rule("M658", "another way of loading", pure=check_loading),
    Rule("M659", "no loss for the router", factual=check_router_loss),
    Rule("M660", "router out of reach", pure=check_router_gradient),
    Rule("M657", "model not here", factual=check_unknown),
)
