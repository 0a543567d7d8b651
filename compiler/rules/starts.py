"""What adapters start from: decompositions that need whole weights, a GPU, or a look at the data."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error
from ..spec import CordaInit, EvaInit, LoftqInit, Lora, OloraInit, PissaInit, Spec
from .common import stage_label, zero_stage
from .rule import Rule


def check_sharded(spec: Spec) -> Iterator[Diagnostic]:
    """The adapters start from whole weights, which no process has.

    Under ZeRO stage 3 each process holds a piece of every weight, and a piece cannot be decomposed.

    Fails:
    ```toml
    [method]
    type = "lora"
    init = { type = "pissa" }
    [deepspeed]
    zero_stage = 3
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    init = { type = "pissa" }
    [deepspeed]
    zero_stage = 2
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or zero_stage(spec) != 3:
        return
    if isinstance(method.init, PissaInit | OloraInit | EvaInit | CordaInit | LoftqInit):
        yield error(
            "A826",
            f"`{method.init.type}` needs whole weights, stage 3 shards them",
            ("method", "init", "type"),
            labels=(stage_label(spec),),
            helps=('write `zero_stage = 2`, or `init = { type = "default" }`',),
        )


def check_loftq(spec: Spec) -> Iterator[Diagnostic]:
    """LoftQ quantizes on a GPU only.

    Fails:
    ```toml
    [method]
    type = "lora"
    init = { type = "loftq" }
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [method]
    type = "lora"
    init = { type = "loftq" }
    [launch]
    device = "gpu"
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or not isinstance(method.init, LoftqInit):
        return
    if spec.launch.device == "cpu":
        yield error(
            "A827",
            "`loftq` does not run on a CPU",
            ("method", "init", "type"),
            labels=(Label(("launch", "device"), "computed here"),),
            helps=("start from another decomposition, such as `pissa`",),
        )


RULES = (
    Rule("A826", "decomposing sharded weights", pure=check_sharded),
    Rule("A827", "decomposition for another device", pure=check_loftq),
)
