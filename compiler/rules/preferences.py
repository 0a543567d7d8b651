"""Objectives on preferences: what they are told and what they learn from."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, error, warning
from ..spec import BcoLoss, Dpo, Kto, PreferenceSource, RewardModel, Spec
from .look import sources_of
from .rule import Rule


def check_stream(spec: Spec) -> Iterator[Diagnostic]:
    """KTO cannot learn from a stream.

    It compares each answer with answers to other prompts, which are dealt over the whole set; of a stream, only a part
    is known at a time.

    Fails:
    ```toml
    [objective]
    type = "kto"
    [data]
    sources = [{ format = "messages", path = "data/judged.jsonl", label = "label" }]
    streaming = true
    [training]
    steps = 4
    ```
    Passes:
    ```toml
    [objective]
    type = "kto"
    [data]
    sources = [{ format = "messages", path = "data/judged.jsonl", label = "label" }]
    ```
    """
    if isinstance(spec.objective, Kto) and spec.data.streaming:
        yield error(
            "O140",
            "`kto` deals answers to other prompts over the whole set, of a stream only a part is known",
            ("data", "streaming"),
            labels=(Label(("objective", "type"), "needs all of them"),),
            helps=(
                "leave `streaming` out: prepared data are read from the disk as they are needed",
            ),
        )


def check_bco(spec: Spec) -> Iterator[Diagnostic]:
    """BCO is mixed with itself.

    `bco_weight` mixes BCO's loss into another one.

    Fails:
    ```toml
    [objective]
    type = "dpo"
    loss = { type = "bco" }
    bco_weight = 0.5
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "dpo"
    bco_weight = 0.5
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    """
    objective = spec.objective
    if isinstance(objective, Dpo) and isinstance(objective.loss, BcoLoss) and objective.bco_weight:
        yield warning(
            "O141",
            "`bco_weight` has no effect: the loss is BCO already",
            ("objective", "bco_weight"),
            labels=(Label(("objective", "loss"), "the same loss"),),
            helps=("leave it out",),
        )


def check_margin(spec: Spec) -> Iterator[Diagnostic]:
    """Margins of pairs are for reward models.

    Preference objectives take the better of two answers as it is, whatever the margin.

    Fails:
    ```toml
    [objective]
    type = "dpo"
    [data]
    sources = [{ format = "preference", path = "data/margins.jsonl", margin = "margin" }]
    ```
    Passes:
    ```toml
    [objective]
    type = "dpo"
    [data]
    sources = [{ format = "preference", path = "data/pairs.jsonl" }]
    ```
    """
    if isinstance(spec.objective, RewardModel):
        return
    for path, source in sources_of(spec):
        if isinstance(source, PreferenceSource) and source.margin is not None:
            yield warning(
                "O142",
                f"`margin` has no effect: `{spec.objective.type}` does not ask how much better an answer is",
                (*path, "margin"),
                labels=(Label(("objective", "type"), "prefers the better one"),),
                helps=("leave it out",),
            )


RULES = (
    Rule("O140", "answers of a stream", pure=check_stream),
    Rule("O141", "loss mixed with itself", pure=check_bco),
    Rule("O142", "margin without effect", pure=check_margin),
)
