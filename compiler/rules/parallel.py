"""How Megatron and HyperParallel share a model out."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..spec import Lora, Spec
from .look import listed
from .rule import Rule
from .world import num_processes, processes_path

SHARES = ("tensor_parallel", "pipeline_parallel", "expert_parallel", "context_parallel")
SCHEDULES = ("cosine", "linear", "constant")
"""Those that Megatron knows; it takes `cosine` for any other."""


def check_world(spec: Spec) -> Iterator[Diagnostic]:
    """The processes do not divide into copies of the model.

    One copy takes as many processes as the product of all ways to share it out.

    Fails:
    ```toml
    [megatron]
    tensor_parallel = 4
    [launch]
    processes = 2
    device = "gpu"
    [batch]
    micro_size = 1
    accumulation_steps = 1
    ```
    Passes:
    ```toml
    [megatron]
    tensor_parallel = 2
    [launch]
    processes = 2
    device = "gpu"
    [batch]
    micro_size = 1
    accumulation_steps = 1
    ```
    """
    for engine in ("megatron", "hyper_parallel"):
        section = getattr(spec, engine)
        if section is None:
            continue
        used = [name for name in SHARES if getattr(section, name, 1) > 1]
        size, processes = 1, num_processes(spec.launch)
        for name in used:
            size *= getattr(section, name)
        if size > 1 and processes % size:
            product = " x ".join(str(getattr(section, name)) for name in used)
            shown = f"{product} = {size}" if len(used) > 1 else f"{size}"
            yield error(
                "L125",
                f"one copy of the model takes {shown} processes, and {processes} "
                f"{'is' if processes == 1 else 'are'} no multiple of that",
                (engine, used[0]),
                labels=(
                    *(Label((engine, name), "times this") for name in used[1:]),
                    Label(processes_path(spec.launch), "the processes"),
                ),
                helps=(f"start a multiple of {size} processes, or share the model out less",),
            )


def check_belongs(spec: Spec) -> Iterator[Diagnostic]:
    """A setting of Megatron needs another one.

    Sequences are split along the tensor-parallel processes, virtual stages are pieces of real ones, and layers are
    chosen for recomputation where there is any.

    Fails:
    ```toml
    [megatron]
    sequence_parallel = true
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [megatron]
    tensor_parallel = 2
    sequence_parallel = true
    [launch]
    processes = 2
    device = "gpu"
    [batch]
    micro_size = 1
    accumulation_steps = 1
    ```
    """
    section = spec.megatron
    if section is None:
        return
    needs: list[tuple[bool, str, str, bool]] = [
        (
            section.sequence_parallel,
            "sequence_parallel",
            "`tensor_parallel` above 1",
            section.tensor_parallel > 1,
        ),
        (
            section.virtual_pipeline is not None,
            "virtual_pipeline",
            "`pipeline_parallel` above 1",
            section.pipeline_parallel > 1,
        ),
        (
            section.recompute_method is not None,
            "recompute_method",
            '`recompute = "full"`',
            section.recompute == "full",
        ),
        (
            section.recompute_layers is not None,
            "recompute_layers",
            '`recompute = "full"`',
            section.recompute == "full",
        ),
    ]
    for is_given, name, needed, is_there in needs:
        if is_given and not is_there:
            yield error("L126", f"`{name}` needs {needed}", ("megatron", name))


def check_ignored(spec: Spec) -> Iterator[Diagnostic]:
    """Megatron would leave a setting out.

    It has a loop of its own: it knows three schedules, adapts its own modules, and neither stops early nor sends
    numbers to trackers nor records traces.

    Fails:
    ```toml
    [megatron]
    [training]
    schedule = "inverse-sqrt"
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [megatron]
    [training]
    schedule = "cosine"
    [launch]
    device = "gpu"
    ```
    """
    if spec.megatron is None:
        return
    method = spec.method
    ignored: list[tuple[bool, SpecPath]] = [
        (spec.training.schedule not in SCHEDULES, ("training", "schedule")),
        (isinstance(method, Lora) and method.targets != "all-linear", ("method", "targets")),
        (spec.evaluation.patience is not None, ("evaluation", "patience")),
        (spec.evaluation.load_best, ("evaluation", "load_best")),
        (spec.training.neftune_alpha is not None, ("training", "neftune_alpha")),
        (bool(spec.logging.trackers), ("logging", "trackers")),
        (spec.profiler is not None, ("profiler",)),
    ]
    for is_given, path in ignored:
        if is_given:
            helps = (f"use {listed(SCHEDULES, 'or')}",) if path[-1] == "schedule" else ()
            yield error(
                "L127",
                f"`{path[-1]}` is not known to Megatron"
                if not helps
                else f"the schedule `{spec.training.schedule}` is not known to Megatron",
                path,
                labels=(Label(("megatron",), "has a loop of its own"),),
                helps=helps,
            )


def check_stream(spec: Spec) -> Iterator[Diagnostic]:
    """HyperParallel cannot share out the sequences of a stream.

    Fails:
    ```toml
    [hyper_parallel]
    context_parallel = 2
    [method]
    type = "full"
    [data]
    streaming = true
    [launch]
    processes = 2
    device = "gpu"
    [batch]
    micro_size = 1
    accumulation_steps = 1
    ```
    Passes:
    ```toml
    [hyper_parallel]
    context_parallel = 2
    [method]
    type = "full"
    [launch]
    processes = 2
    device = "gpu"
    [batch]
    micro_size = 1
    accumulation_steps = 1
    ```
    """
    section = spec.hyper_parallel
    if section is not None and section.context_parallel > 1 and spec.data.streaming:
        yield error(
            "L128",
            "the sequences of a stream cannot be shared out",
            ("hyper_parallel", "context_parallel"),
            labels=(Label(("data", "streaming"), "a stream"),),
            helps=("leave one of the two out",),
        )


RULES = (
    Rule("L125", "processes and copies of the model", pure=check_world),
    Rule("L126", "setting that needs another", pure=check_belongs),
    Rule("L127", "setting that an engine ignores", pure=check_ignored),
    Rule("L128", "sequences of a stream", pure=check_stream),
)
