"""Other engines than DeepSpeed, and what they go with."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..facts import Facts
from ..spec import AdapterReward, Full, Lora, NoQuantization, Ppo, Spec
from .look import changed, is_language_objective, listed
from .rule import Rule

ENGINES = ("megatron", "hyper_parallel", "ktransformers")
SPREADING = ("megatron", "hyper_parallel")
"""Engines that take the place of DeepSpeed."""


def check_several(spec: Spec) -> Iterator[Diagnostic]:
    """Several engines are to compute one run.

    Fails:
    ```toml
    [megatron]
    [hyper_parallel]
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [megatron]
    [launch]
    device = "gpu"
    ```
    """
    given = [name for name in ENGINES if getattr(spec, name) is not None]
    if len(given) > 1:
        yield error(
            "L120",
            f"{listed(given)} cannot compute one run together",
            (given[1],),
            labels=(Label((given[0],), "another engine"),),
            helps=("keep one section",),
        )


def check_deepspeed(spec: Spec) -> Iterator[Diagnostic]:
    """DeepSpeed is set up, but another engine takes its place.

    Fails:
    ```toml
    [megatron]
    [deepspeed]
    zero_stage = 3
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [megatron]
    [launch]
    device = "gpu"
    ```
    """
    settings = changed(spec.deepspeed)
    for engine in _engines(spec):
        if settings:
            yield error(
                "L121",
                f"`deepspeed.{settings[0]}` has no effect: `[{engine}]` takes the place of DeepSpeed",
                ("deepspeed", settings[0]),
                labels=(Label((engine,), "the engine"),),
                helps=("keep one of the two sections",),
            )


def _engines(spec: Spec) -> list[str]:
    return [name for name in SPREADING if getattr(spec, name) is not None]


def check_training(spec: Spec) -> Iterator[Diagnostic]:
    """The engine does not do this kind of training.

    Megatron Bridge and HyperParallel train by pretraining and SFT, on GPUs, and on weights that are not quantized;
    Megatron fully or by LoRA, HyperParallel fully.

    Fails:
    ```toml
    [megatron]
    [objective]
    type = "dpo"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [megatron]
    [launch]
    device = "gpu"
    ```
    """
    # Of several engines it is not known yet which one stays.
    for engine in _engines(spec) if len(_engines(spec)) == 1 else ():
        if not is_language_objective(spec):
            yield _cannot(
                engine,
                f"train by `{spec.objective.type}`",
                ("objective", "type"),
                "use `sft` or `pretraining`",
            )
        methods = (Full, Lora) if engine == "megatron" else (Full,)
        if not isinstance(spec.method, methods):
            known = '`"full"` or `"lora"`' if engine == "megatron" else '`"full"`'
            yield _cannot(
                engine, f"train by `{spec.method.type}`", ("method", "type"), f"use {known}"
            )
        if not isinstance(spec.quantization, NoQuantization):
            yield _cannot(
                engine,
                "train on quantized weights",
                ("quantization", "type"),
                "leave `[quantization]` out",
            )
        if spec.launch.device == "cpu":
            yield _cannot(engine, "compute on a CPU", ("launch", "device"), 'set `device = "gpu"`')


def _cannot(engine: str, what: str, path: SpecPath, help: str) -> Diagnostic:
    return error(
        "L122",
        f"`[{engine}]` cannot {what}",
        path,
        labels=(Label((engine,), "the engine"),),
        helps=(help,),
    )


def check_ktransformers(spec: Spec) -> Iterator[Diagnostic]:
    """KTransformers does not go with a part of the training.

    It keeps the experts on the CPU and everything else on one device. ZeRO-3 would spread what it has placed, a
    reward adapter cannot be exchanged for the policy's, and neither token accuracy nor generation is measured.

    Fails:
    ```toml
    [ktransformers]
    [deepspeed]
    zero_stage = 3
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [ktransformers]
    [deepspeed]
    zero_stage = 0
    [launch]
    device = "gpu"
    ```
    """
    if spec.ktransformers is None:
        return
    objective = spec.objective
    has_adapter = isinstance(objective, Ppo) and isinstance(objective.reward, AdapterReward)
    clashes: list[tuple[bool, str, SpecPath]] = [
        (spec.deepspeed.zero_stage == 3, "ZeRO stage 3", ("deepspeed", "zero_stage")),
        (spec.evaluation.generate, "generated answers", ("evaluation", "generate")),
        (spec.evaluation.accuracy, "token accuracy", ("evaluation", "accuracy")),
        (has_adapter, "a reward adapter", ("objective", "reward", "type")),
    ]
    for clash, what, path in clashes:
        if clash:
            yield error(
                "L123",
                f"`[ktransformers]` does not go with {what}",
                path,
                labels=(Label(("ktransformers",), "experts on the CPU"),),
            )


def check_files(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A file that the engine starts from is missing.

    Fails:
    ```toml
    [hyper_parallel]
    config = "none.json"
    [method]
    type = "full"
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [hyper_parallel]
    [method]
    type = "full"
    [launch]
    device = "gpu"
    ```
    """
    named: dict[SpecPath, str | None] = {}
    if spec.hyper_parallel is not None:
        named["hyper_parallel", "config"] = spec.hyper_parallel.config
    if spec.megatron is not None:
        named["megatron", "checkpoint"] = spec.megatron.checkpoint
    for path, text in named.items():
        state = facts.paths.get(text) if text is not None else None
        if state in ("missing", "unreadable"):
            yield error("L124", f"`{text}` is missing or cannot be read", path)
        elif path[0] == "hyper_parallel" and state == "folder":
            yield error("L124", f"`{text}` is a folder, expected a JSON file", path)


RULES = (
    Rule("L120", "several engines", pure=check_several),
    Rule("L121", "engine that is not used", pure=check_deepspeed),
    Rule("L122", "engine for other training", pure=check_training),
    Rule("L123", "experts on the CPU with something else", pure=check_ktransformers),
    Rule("L124", "file of an engine missing", factual=check_files),
)
