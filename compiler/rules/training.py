"""Length, schedule and precision."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error, warning
from ..spec import Spec
from .look import evaluates
from .rule import Rule

ON = ("every_steps", "each_epoch", "at_start", "generate", "accuracy", "each_source")
"""Settings of `[evaluation]` that ask for one."""


def check_length(spec: Spec) -> Iterator[Diagnostic]:
    """Both `epochs` and `steps` say how long to train.

    Fails:
    ```toml
    [training]
    epochs = 2
    steps = 10
    ```
    Passes:
    ```toml
    [training]
    epochs = 2
    ```
    """
    if spec.training.epochs is not None and spec.training.steps is not None:
        yield error(
            "R801",
            "the length of the training is given twice",
            ("training", "steps"),
            label="in steps",
            labels=(Label(("training", "epochs"), "and in epochs"),),
            helps=("keep one of the two",),
        )


def check_warmup(spec: Spec) -> Iterator[Diagnostic]:
    """Both `warmup_steps` and `warmup_ratio` are given.

    Fails:
    ```toml
    [training]
    warmup_steps = 2
    warmup_ratio = 0.1
    ```
    Passes:
    ```toml
    [training]
    warmup_ratio = 0.1
    ```
    """
    if spec.training.warmup_steps is not None and spec.training.warmup_ratio is not None:
        yield error(
            "R802",
            "the warm-up is given twice",
            ("training", "warmup_ratio"),
            label="as a share",
            labels=(Label(("training", "warmup_steps"), "and in steps"),),
            helps=("keep one of the two",),
        )


def check_warmup_fits(spec: Spec) -> Iterator[Diagnostic]:
    """The warm-up is as long as the training.

    The learning rate would never reach its peak.

    Fails:
    ```toml
    [training]
    steps = 10
    warmup_steps = 10
    ```
    Passes:
    ```toml
    [training]
    steps = 10
    warmup_steps = 2
    ```
    """
    steps, warmup = spec.training.steps, spec.training.warmup_steps
    if steps is not None and warmup is not None and warmup >= steps:
        yield error(
            "R803",
            f"the warm-up of {warmup:,} steps does not end within {steps:,} steps",
            ("training", "warmup_steps"),
            labels=(Label(("training", "steps"), "the training ends here"),),
        )


def check_fp16(spec: Spec) -> Iterator[Diagnostic]:
    """Half precision on a CPU.

    fp16 needs loss scaling and units that CPUs do not have; DeepSpeed refuses it there.

    Fails:
    ```toml
    [training]
    precision = "fp16"
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [training]
    precision = "fp32"
    [launch]
    device = "cpu"
    ```
    """
    if spec.training.precision == "fp16" and spec.launch.device == "cpu":
        yield error(
            "R804",
            "fp16 does not run on a CPU",
            ("training", "precision"),
            labels=(Label(("launch", "device"), "computed here"),),
            helps=('write `precision = "fp32"`',),
        )


def check_bf16(spec: Spec) -> Iterator[Diagnostic]:
    """bf16 on a CPU is slow on most machines.

    CPUs without bf16 units emulate it: 25 times slower than fp32 was measured. The setting is kept, because some
    server CPUs do have the units.

    Fails:
    ```toml
    [training]
    precision = "bf16"
    [launch]
    device = "cpu"
    ```
    Passes:
    ```toml
    [training]
    precision = "fp32"
    [launch]
    device = "cpu"
    ```
    """
    if spec.training.precision == "bf16" and spec.launch.device == "cpu":
        yield warning(
            "R805",
            "bf16 is far slower than fp32 on a CPU without bf16 units",
            ("training", "precision"),
            labels=(Label(("launch", "device"), "computed here"),),
            helps=('write `precision = "fp32"`',),
        )


def check_evaluation(spec: Spec) -> Iterator[Diagnostic]:
    """Evaluation is switched on, but there are no evaluation rows.

    Fails:
    ```toml
    [evaluation]
    every_steps = 5
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 5
    ```
    """
    wanted = [name for name in ON if getattr(spec.evaluation, name)]
    if wanted and not evaluates(spec):
        yield error(
            "R806",
            "there is nothing to evaluate on",
            ("evaluation", wanted[0]),
            helps=("hold rows out with `data.eval_rows`, or name `[[data.eval_sources]]`",),
        )


RULES = (
    Rule("R801", "length given twice", pure=check_length),
    Rule("R802", "warm-up given twice", pure=check_warmup),
    Rule("R803", "warm-up too long", pure=check_warmup_fits),
    Rule("R804", "fp16 on a CPU", pure=check_fp16),
    Rule("R805", "bf16 on a CPU", pure=check_bf16),
    Rule("R806", "nothing to evaluate", pure=check_evaluation),
)
