"""ZeRO stages and what they go with."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..spec import Spec
from .rule import Rule
from .world import num_processes, processes_path

STAGE: SpecPath = ("deepspeed", "zero_stage")
OFFLOADS = ("offload_optimizer", "offload_parameters")


def check_offload(spec: Spec) -> Iterator[Diagnostic]:
    """The optimizer cannot be offloaded without sharding.

    DeepSpeed keeps optimizer state on the CPU only where ZeRO manages it, from stage 1 on.

    Fails:
    ```toml
    [deepspeed]
    zero_stage = 0
    offload_optimizer = "cpu"
    ```
    Passes:
    ```toml
    [deepspeed]
    zero_stage = 2
    offload_optimizer = "cpu"
    ```
    """
    if spec.deepspeed.offload_optimizer == "cpu" and spec.deepspeed.zero_stage == 0:
        yield error(
            "R820",
            "optimizer offload needs a ZeRO stage above 0",
            ("deepspeed", "offload_optimizer"),
            labels=(Label(("deepspeed", "zero_stage"), "nothing is managed by ZeRO"),),
            helps=("set `zero_stage` to 1, 2 or 3",),
        )


def check_nvme(spec: Spec) -> Iterator[Diagnostic]:
    """Offloading to NVMe and the folder for it belong together.

    Fails:
    ```toml
    [deepspeed]
    zero_stage = 3
    offload_parameters = "nvme"
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [deepspeed]
    zero_stage = 3
    offload_parameters = "nvme"
    nvme_dir = "/local/nvme"
    [launch]
    device = "gpu"
    ```
    """
    deepspeed = spec.deepspeed
    used = [name for name in OFFLOADS if getattr(deepspeed, name) == "nvme"]
    if used and deepspeed.nvme_dir is None:
        yield error(
            "R821",
            "offloading to `nvme` needs `nvme_dir`",
            ("deepspeed", used[0]),
            helps=("name a folder on a fast local disk",),
        )
    if deepspeed.nvme_dir is not None and not used:
        yield warning(
            "R821",
            "`nvme_dir` has no effect: nothing is offloaded to it",
            ("deepspeed", "nvme_dir"),
        )


def check_offload_stage(spec: Spec) -> Iterator[Diagnostic]:
    """Parameters are offloaded, or anything to NVMe, below stage 3.

    Only stage 3 cuts the parameters into parts that can be elsewhere, and only its code reads from NVMe.

    Fails:
    ```toml
    [deepspeed]
    zero_stage = 2
    offload_parameters = "cpu"
    ```
    Passes:
    ```toml
    [deepspeed]
    zero_stage = 3
    offload_parameters = "cpu"
    ```
    """
    deepspeed = spec.deepspeed
    if deepspeed.zero_stage == 3:
        return
    wrong = "offload_parameters" if deepspeed.offload_parameters != "none" else None
    if wrong is None and deepspeed.offload_optimizer == "nvme":
        wrong = "offload_optimizer"
    if wrong is not None:
        yield error(
            "R822",
            f'`{wrong} = "{getattr(deepspeed, wrong)}"` needs ZeRO stage 3',
            ("deepspeed", wrong),
            labels=(Label(STAGE, f"stage {deepspeed.zero_stage}"),),
            helps=("set `zero_stage` to 3",),
        )


def check_plus_plus(spec: Spec) -> Iterator[Diagnostic]:
    """ZeRO++ is about the parameters that stage 3 sends.

    Below stage 3 every process has all parameters, and there is nothing to send in fewer bits or to keep a second
    copy of.

    Fails:
    ```toml
    [deepspeed]
    zero_stage = 2
    quantized_weights = true
    ```
    Passes:
    ```toml
    [deepspeed]
    zero_stage = 3
    quantized_weights = true
    ```
    """
    deepspeed = spec.deepspeed
    if deepspeed.zero_stage == 3:
        return
    given = {
        "hpz_partition_size": deepspeed.hpz_partition_size > 1,
        "quantized_weights": deepspeed.quantized_weights,
        "quantized_gradients": deepspeed.quantized_gradients,
    }
    for name, is_given in given.items():
        if is_given:
            yield error(
                "R823",
                f"`{name}` needs ZeRO stage 3",
                ("deepspeed", name),
                labels=(Label(STAGE, f"stage {deepspeed.zero_stage}"),),
                helps=("set `zero_stage` to 3, or leave it out",),
            )


def check_partition(spec: Spec) -> Iterator[Diagnostic]:
    """The processes do not divide into groups that hold a second copy each.

    Fails:
    ```toml
    [deepspeed]
    zero_stage = 3
    hpz_partition_size = 3
    [launch]
    processes = 4
    [batch]
    micro_size = 1
    accumulation_steps = 1
    ```
    Passes:
    ```toml
    [deepspeed]
    zero_stage = 3
    hpz_partition_size = 2
    [launch]
    processes = 4
    [batch]
    micro_size = 1
    accumulation_steps = 1
    ```
    """
    size, processes = spec.deepspeed.hpz_partition_size, num_processes(spec.launch)
    if size > 1 and spec.deepspeed.zero_stage == 3 and processes % size:
        yield error(
            "R824",
            f"{processes} processes do not divide into groups of {size}",
            ("deepspeed", "hpz_partition_size"),
            labels=(Label(processes_path(spec.launch), "the processes"),),
            helps=("the number of processes on a machine is the usual choice",),
        )


def check_round_robin(spec: Spec) -> Iterator[Diagnostic]:
    """Gradients are copied to the host in turns only where they go there: in stage 2 with offloading.

    Fails:
    ```toml
    [deepspeed]
    zero_stage = 2
    round_robin_gradients = true
    ```
    Passes:
    ```toml
    [deepspeed]
    zero_stage = 2
    offload_optimizer = "cpu"
    round_robin_gradients = true
    ```
    """
    deepspeed = spec.deepspeed
    copies = deepspeed.zero_stage == 2 and deepspeed.offload_optimizer != "none"
    if deepspeed.round_robin_gradients and not copies:
        yield warning(
            "R825",
            "`round_robin_gradients` has no effect without offloading in stage 2",
            ("deepspeed", "round_robin_gradients"),
            labels=(Label(STAGE, f"stage {deepspeed.zero_stage}"),),
        )


def check_pinned(spec: Spec) -> Iterator[Diagnostic]:
    """Host memory is pinned, but nothing is offloaded to it.

    Fails:
    ```toml
    [deepspeed]
    pin_memory = true
    ```
    Passes:
    ```toml
    [deepspeed]
    offload_optimizer = "cpu"
    pin_memory = true
    ```
    """
    deepspeed = spec.deepspeed
    if deepspeed.pin_memory and all(getattr(deepspeed, name) == "none" for name in OFFLOADS):
        yield warning(
            "R826",
            "`pin_memory` has no effect: nothing is offloaded",
            ("deepspeed", "pin_memory"),
        )


def check_unsloth(spec: Spec) -> Iterator[Diagnostic]:
    """unsloth loads the whole model on each process; ZeRO-3 would spread it.

    Fails:
    ```toml
    [kernels]
    unsloth = true
    [deepspeed]
    zero_stage = 3
    [launch]
    device = "gpu"
    ```
    Passes:
    ```toml
    [kernels]
    unsloth = true
    [deepspeed]
    zero_stage = 2
    [launch]
    device = "gpu"
    ```
    """
    if spec.kernels.unsloth and spec.deepspeed.zero_stage == 3:
        yield error(
            "R827",
            "unsloth loads the whole model on each process, ZeRO stage 3 would spread it",
            ("kernels", "unsloth"),
            labels=(Label(STAGE, "spreads the model"),),
            helps=("set `zero_stage` to 2 or less, or leave `unsloth` out",),
        )


RULES = (
    Rule("R820", "offload without ZeRO", pure=check_offload),
    Rule("R821", "folder for offloading", pure=check_nvme),
    Rule("R822", "offload below the last stage", pure=check_offload_stage),
    Rule("R823", "parameters sent below the last stage", pure=check_plus_plus),
    Rule("R824", "partition does not divide", pure=check_partition),
    Rule("R825", "gradients that stay", pure=check_round_robin),
    Rule("R826", "pinned without offload", pure=check_pinned),
    Rule("R827", "model code under the last stage", pure=check_unsloth),
)
