"""What adapters start from: decompositions that need whole weights, a GPU, or a look at the data."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error
from ..spec import AdaLora, CordaInit, EvaInit, LoftqInit, Loha, Lora, OloraInit, PissaInit, Spec
from .common import METHOD_TYPE, stage_label, zero_stage
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


def check_pieces(spec: Spec) -> Iterator[Diagnostic]:
    """The method does not run on pieces of matrices.

    Under ZeRO stage 3 each process holds a piece of every matrix, adapters included. AdaLoRA weighs whole adapters
    against each other, the products of LoHa are made from shapes that pieces do not have, and trained tokens start
    from rows of whole embeddings.

    Fails:
    ```toml
    [method]
    type = "loha"
    [deepspeed]
    zero_stage = 3
    ```
    Passes:
    ```toml
    [method]
    type = "loha"
    [deepspeed]
    zero_stage = 2
    ```
    """
    method, path, name = spec.method, METHOD_TYPE, str(spec.method.type)
    if zero_stage(spec) != 3:
        return
    if isinstance(method, Lora) and method.trainable_tokens:
        path, name = ("method", "trainable_tokens"), "trainable_tokens"
    elif not isinstance(method, AdaLora | Loha):
        return
    yield error(
        "A835",
        f"`{name}` needs whole matrices, stage 3 shards them",
        path,
        labels=(stage_label(spec),),
        helps=("write `zero_stage = 2`",),
    )


def check_look(spec: Spec) -> Iterator[Diagnostic]:
    """The adapters start from training data, which come as a stream.

    The first rows of a stream are trained on once; they cannot be looked at before.

    Fails:
    ```toml
    [data]
    streaming = true
    [method]
    type = "lora"
    init = { type = "eva" }
    [training]
    steps = 4
    ```
    Passes:
    ```toml
    [data]
    streaming = false
    [method]
    type = "lora"
    init = { type = "eva" }
    ```
    """
    method = spec.method
    if not isinstance(method, Lora) or not isinstance(method.init, EvaInit | CordaInit):
        return
    if spec.data.streaming:
        yield error(
            "A840",
            f"`{method.init.type}` looks at the data before the training, a stream comes once",
            ("method", "init", "type"),
            labels=(Label(("data", "streaming"), "a stream"),),
            helps=("write `streaming = false`, or start from the weights alone, as `pissa` does",),
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
    Rule("A835", "method on sharded weights", pure=check_pieces),
    Rule("A840", "looking at a stream", pure=check_look),
    Rule("A827", "decomposition for another device", pure=check_loftq),
)
