"""What is minimised: settings of an objective, and what it goes with."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error
from ..spec import (
    CrossEntropy,
    Grpo,
    Ppo,
    Sft,
    Spec,
)
from .batch import global_size
from .rule import Rule

TYPE: SpecPath = ("objective", "type")


def check_end_marks(spec: Spec) -> Iterator[Diagnostic]:
    """Loss on all tokens, with a template that ends each turn by the end of the text.

    With `efficient_eos` the mark that ends an answer is put there by the trainer and belongs to no turn; on all
    tokens the loss would count marks of the user as well, and teach the model to stop after questions.

    Fails:
    ```toml
    [template]
    type = "named"
    name = "chatml"
    efficient_eos = true
    [objective]
    loss_on = "all"
    ```
    Passes:
    ```toml
    [template]
    type = "named"
    name = "chatml"
    efficient_eos = true
    [objective]
    loss_on = "assistant"
    ```
    """
    objective = spec.objective
    is_all = isinstance(objective, Sft) and objective.loss_on == "all"
    if is_all and spec.template.efficient_eos:
        yield error(
            "O101",
            '`loss_on = "all"` does not go with `efficient_eos`: the model would learn to stop after questions',
            ("objective", "loss_on"),
            labels=(
                Label(("template", "efficient_eos"), "ends every turn with the end of the text"),
            ),
            helps=('use `loss_on = "assistant"`',),
        )


def check_shifted(spec: Spec) -> Iterator[Diagnostic]:
    """PPO generates, and shifted attention cannot.

    Shifted sparse attention works on whole sequences; an answer is made token by token.

    Fails:
    ```toml
    [model]
    shifted_attention = true
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    pad_multiple = 8
    ```
    Passes:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    if isinstance(spec.objective, Ppo | Grpo) and spec.model.shifted_attention:
        yield error(
            "O103",
            f"`{spec.objective.type}` generates answers, shifted attention cannot",
            ("model", "shifted_attention"),
            label="works on whole sequences",
            labels=(Label(TYPE, "generates token by token"),),
        )


def check_group(spec: Spec) -> Iterator[Diagnostic]:
    """The answers of a step are no whole number of groups.

    GRPO compares the answers to one prompt with each other, so a step takes all answers of a group or none.

    Fails:
    ```toml
    [objective]
    type = "grpo"
    group_size = 3
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "grpo"
    group_size = 4
    rewards = [{ type = "function", path = "rewards.py" }]
    [data]
    sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
    ```
    """
    size = spec.objective.group_size if isinstance(spec.objective, Grpo) else 0
    total = global_size(spec)
    if size > 1 and total is not None and total > 0 and total % size:
        below = total // size * size
        place: SpecPath = ("batch", "global_size") if spec.batch.global_size else ("batch",)
        yield error(
            "O105",
            f"{total:,} answers a step are no whole number of groups of {size}",
            ("objective", "group_size"),
            labels=(Label(place, f"{total:,} answers"),),
            helps=(f"use a `global_size` of {f'{below} or {below + size}' if below else size}",),
        )


def check_fused(spec: Spec) -> Iterator[Diagnostic]:
    """A loss that weights each token, and a kernel that has summed the tokens up.

    Liger's fused cross-entropy returns one number for all tokens, so there is nothing left to weight.

    Fails:
    ```toml
    [objective]
    loss = { type = "dft" }
    [kernels]
    liger_ops = { fused_linear_cross_entropy = true }
    ```
    Passes:
    ```toml
    [objective]
    loss = { type = "dft" }
    ```
    """
    objective = spec.objective
    fused = spec.kernels.liger_ops.get("fused_linear_cross_entropy", False)
    if isinstance(objective, Sft) and not isinstance(objective.loss, CrossEntropy) and fused:
        yield error(
            "O106",
            f"`{objective.loss.type}` weights each token, a fused cross-entropy has summed them up",
            ("objective", "loss"),
            labels=(Label(("kernels", "liger_ops", "fused_linear_cross_entropy"), "sums up"),),
            helps=("leave the kernel out",),
        )


RULES = (
    Rule("O101", "end marks on all tokens", pure=check_end_marks),
    Rule("O103", "generation with shifted attention", pure=check_shifted),
    Rule("O105", "broken groups", pure=check_group),
    Rule("O106", "weighted loss in a fused kernel", pure=check_fused),
)
