"""What happens with the trained model: chat engines and the export."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts
from ..spec import (
    Freeze,
    Full,
    Lisa,
    Lora,
    NoQuantization,
    RewardModel,
    Spec,
    TransformersBackend,
    VllmBackend,
)
from .common import VIRTUAL
from .rule import Rule

TYPE: SpecPath = ("inference", "type")


def check_reward(spec: Spec) -> Iterator[Diagnostic]:
    """A reward model gives scores, and an engine for text has none to give.

    Fails:
    ```toml
    [objective]
    type = "reward"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    [inference]
    type = "vllm"
    ```
    Passes:
    ```toml
    [inference]
    type = "vllm"
    ```
    """
    if isinstance(spec.objective, RewardModel) and not isinstance(
        spec.inference, TransformersBackend
    ):
        yield error(
            "I101",
            f"a reward model cannot be served by `{spec.inference.type}`",
            TYPE,
            labels=(Label(("objective", "type"), "gives scores, no text"),),
            helps=("leave `[inference]` out",),
        )


def check_weights(spec: Spec) -> Iterator[Diagnostic]:
    """The engine cannot load the model the way it was trained.

    vLLM and SGLang read the base weights from their files and put the adapter on them. They know nothing of
    weights quantized while loading, of positions stretched in the spec, of blocks that tokens skip, or of adapters
    merged before training: the answers would come from another model.

    Fails:
    ```toml
    [model]
    rope = { type = "linear", factor = 2.0 }
    [inference]
    type = "vllm"
    ```
    Passes:
    ```toml
    [model]
    rope = { type = "linear", factor = 2.0 }
    [inference]
    type = "transformers"
    ```
    """
    if isinstance(spec.inference, TransformersBackend):
        return
    several = len(spec.adapters.paths) > 1 or (spec.adapters.paths and spec.adapters.then == "new")
    clashes: list[tuple[bool, str, SpecPath]] = [
        (
            not isinstance(spec.quantization, NoQuantization),
            "weights quantized while loading",
            ("quantization", "type"),
        ),
        (spec.model.rope is not None, "stretched positions", ("model", "rope")),
        (
            spec.model.mixture_of_depths != "off",
            "blocks that tokens skip",
            ("model", "mixture_of_depths"),
        ),
        (bool(several), "adapters merged before training", ("adapters", "paths")),
    ]
    for clash, what, path in clashes:
        if clash:
            yield error(
                "I102",
                f"`{spec.inference.type}` does not take {what}",
                TYPE,
                labels=(Label(path, "given here"),),
                helps=('use `type = "transformers"`, or serve the exported model',),
            )


def check_adapter(spec: Spec) -> Iterator[Diagnostic]:
    """The engine cannot put this adapter on the model.

    vLLM and SGLang know LoRA without DoRA; vLLM holds room for ranks up to `max_adapter_rank`.

    Fails:
    ```toml
    [method]
    type = "lora"
    rank = 64
    [inference]
    type = "vllm"
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    rank = 64
    [inference]
    type = "vllm"
    max_adapter_rank = 64
    ```
    """
    engine, method = spec.inference, spec.method
    if isinstance(engine, TransformersBackend) or isinstance(method, Full | Freeze | Lisa):
        return
    help = 'use `type = "transformers"`, or serve the exported model'
    if not isinstance(method, Lora):
        label = (Label(("method", "type"), "the method"),)
        message = f"`{engine.type}` cannot put an adapter of `{method.type}` on the model"
        yield error("I103", message, TYPE, labels=label, helps=(help,))
    elif method.dora:
        label = (Label(("method", "dora"), "switched on here"),)
        yield error(
            "I103", f"`{engine.type}` does not know DoRA", TYPE, labels=label, helps=(help,)
        )
    elif isinstance(engine, VllmBackend) and method.rank > engine.max_adapter_rank:
        yield error(
            "I103",
            f"the adapter has rank {method.rank}, `vllm` holds room for {engine.max_adapter_rank}",
            ("inference", "max_adapter_rank"),
            labels=(Label(("method", "rank"), "the rank"),),
            helps=(f"set `max_adapter_rank` to {method.rank} or more",),
        )


def check_beams(spec: Spec) -> Iterator[Diagnostic]:
    """A setting of beam search has no effect.

    `length_penalty` compares beams, and one beam compares with nothing; vLLM and SGLang have none.

    Fails:
    ```toml
    [generation]
    length_penalty = 0.8
    ```
    Passes:
    ```toml
    [generation]
    num_beams = 4
    length_penalty = 0.8
    ```
    """
    generation = spec.generation
    serves = not isinstance(spec.inference, TransformersBackend)
    for name, is_given in (
        ("length_penalty", generation.length_penalty != 1.0),
        ("num_beams", generation.num_beams > 1),
    ):
        if is_given and serves:
            yield warning(
                "I104",
                f"`{name}` has no effect: `{spec.inference.type}` has no beam search",
                ("generation", name),
                labels=(Label(TYPE, "the engine"),),
            )
    if generation.length_penalty != 1.0 and generation.num_beams == 1 and not serves:
        yield warning(
            "I104",
            "`length_penalty` has no effect: there is one beam",
            ("generation", "length_penalty"),
            helps=("set `num_beams`, or leave it out",),
        )


def check_merge(spec: Spec) -> Iterator[Diagnostic]:
    """An adapter of this kind cannot be merged, so there is nothing to quantize or to write.

    Prefixes and prompts are inputs of the model; its weights stay as they are.

    Fails:
    ```toml
    [method]
    type = "prompt"
    num_tokens = 4
    [export]
    push = "me/merged"
    ```
    Passes:
    ```toml
    [export]
    push = "me/merged"
    ```
    """
    export = spec.export
    if not isinstance(spec.method, VIRTUAL):
        return
    wanted = [name for name in ("quantization", "push", "output_dir") if getattr(export, name)]
    if export.ollama:
        wanted.append("ollama")
    for name in wanted[:1]:
        yield error(
            "I105",
            f"an adapter of `{spec.method.type}` cannot be merged into the model",
            ("export", name),
            labels=(Label(("method", "type"), "an input of the model"),),
        )


def check_calibration(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The texts that quantization is calibrated on are missing.

    Fails:
    ```toml
    [export]
    quantization = { bits = 4, data = "data/none.jsonl" }
    ```
    Passes:
    ```toml
    [export]
    quantization = { bits = 4, data = "data/texts.jsonl" }
    ```
    """
    quantization = spec.export.quantization
    if quantization is None or facts.paths.get(quantization.data) not in ("missing", "unreadable"):
        return
    # `owner/name` may be a hub id; a file has an ending.
    is_file = "." in quantization.data.rpartition("/")[2] or quantization.data.count("/") != 1
    if is_file:
        yield error(
            "I106",
            f"there is no file `{quantization.data}`, and it is no hub id",
            ("export", "quantization", "data"),
        )


RULES = (
    Rule("I101", "reward model served", pure=check_reward),
    Rule("I102", "another model served", pure=check_weights),
    Rule("I103", "adapter not served", pure=check_adapter),
    Rule("I104", "beams without beam search", pure=check_beams),
    Rule("I105", "nothing to merge", pure=check_merge),
    Rule("I106", "calibration texts missing", factual=check_calibration),
)
