"""ZeRO stages and what they go with."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error
from ..spec import Spec
from .rule import Rule


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


RULES = (Rule("R820", "offload without ZeRO", pure=check_offload),)
