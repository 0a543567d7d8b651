"""What of a run's metrics is drawn together: charts of lines, for pictures and for the report."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from .metrics import EVAL_LOSS

Row = Mapping[str, Any]
Points = Sequence[tuple[int, float]]
Kind = Literal["each", "mean", "evaluation", "set"]


@dataclass(frozen=True)
class Group:
    """Numbers of one chart, by their names in training rows; evaluations have `eval_` before them."""

    name: str
    """Also that of the picture's file."""
    title: str
    numbers: tuple[str, ...]
    """The first must be there, or there is no chart; one that ends with `/` stands for all that begin so."""


GROUPS = (
    Group("loss", "loss", ("loss",)),
    Group("perplexity", "perplexity", ("perplexity",)),
    Group("accuracy", "accuracy (share)", ("accuracy",)),
    Group("texts", "generated answers (0 to 100)", ("bleu", "rouge1", "rouge2", "rougeL")),
    Group("rewards", "reward of answers", ("chosen_reward", "rejected_reward", "margin")),
    Group("scores", "score of answers", ("chosen_score", "rejected_score", "margin")),
    Group("log_probs", "log-probability of answers", ("chosen_log_prob", "rejected_log_prob")),
    Group("reward", "reward", ("reward", "score", "reward/")),
    Group("kl", "KL divergence from the reference", ("kl",)),
    Group("answer_tokens", "tokens of an answer", ("answer_tokens",)),
    Group(
        "shares",
        "share",
        ("endless_share", "empty_share", "clip_share", "value_clip_share", "equal_groups"),
    ),
    Group("entropy", "entropy (nats)", ("entropy",)),
    Group("generator_gap", "server's log-probabilities, off by (nats a token)", ("generator_gap",)),
    Group("policy_loss", "parts of the loss", ("policy_loss", "value_loss")),
    Group("sft_loss", "loss of the chosen answers", ("sft_loss",)),
    Group("router_loss", "loss of the routers", ("router_loss",)),
    Group("learning_rate", "learning rate", ("learning_rate",)),
    Group("grad_norm", "norm of the gradient", ("grad_norm",)),
)
EXACT = {"learning rate"}
"""Numbers without noise, which need no running mean."""
PROGRESS = {"step", "epoch", "tokens", "tokens_per_s"}
"""What rows hold beside numbers to look at."""


@dataclass(frozen=True)
class Line:
    """A line of a chart; `number` says which lines are of the same number and share their colour."""

    label: str
    points: Points
    kind: Kind
    number: int

    @property
    def is_faint(self) -> bool:
        """Tell whether it is the noise behind a running mean."""
        return self.kind == "each" and _is_noisy(self.label, self.points)


@dataclass(frozen=True)
class Chart:
    """Lines over the steps."""

    name: str
    title: str
    lines: tuple[Line, ...]


def charts(rows: Sequence[Row]) -> list[Chart]:
    """Return the charts of a run: those of the table, then one for each number that the table does not know."""
    names = list(dict.fromkeys(name for row in rows for name in row if name not in PROGRESS))
    plain = list(dict.fromkeys(_plain(name) for name in names))
    # A part of a reward is a number; what stands behind the name of an evaluation's number is a set.
    numbers = [name for name in plain if "/" not in name or name in names]
    found = [chart for group in GROUPS if (chart := _chart(group, numbers, rows)) is not None]
    known = {name for group in GROUPS for name in group.numbers}
    rest = [n for n in numbers if n not in known and not n.startswith("reward/")]
    others = (_chart(Group(n, n.replace("_", " "), (n,)), numbers, rows) for n in rest)
    return [*found, *(chart for chart in others if chart is not None)]


def _plain(name: str) -> str:
    return name.removeprefix("eval_")


def _chart(group: Group, numbers: Sequence[str], rows: Sequence[Row]) -> Chart | None:
    if group.numbers[0] not in numbers:
        return None
    chosen = [
        name
        for wanted in group.numbers
        for name in numbers
        if name == wanted or (wanted.endswith("/") and name.startswith(wanted))
    ]
    lines = [line for at, name in enumerate(chosen) for line in _lines(name, at, rows)]
    return Chart(group.name, group.title, tuple(lines)) if lines else None


def _lines(name: str, number: int, rows: Sequence[Row]) -> Iterator[Line]:
    label = name.replace("_", " ")
    if points := series(rows, name):
        yield Line(label, points, "each", number)
        if _is_noisy(label, points):
            steps, values = zip(*points, strict=True)
            yield Line(label, list(zip(steps, smooth(values), strict=True)), "mean", number)
    if points := series(rows, f"eval_{name}"):
        yield Line(f"{label}, evaluation", points, "evaluation", number)
    if f"eval_{name}" == EVAL_LOSS:
        start = f"{EVAL_LOSS}/"
        sets = dict.fromkeys(key for row in rows for key in row if key.startswith(start))
        for at, key in enumerate(sets, start=number + 1):
            yield Line(key.removeprefix(start), series(rows, key), "set", at)


def _is_noisy(label: str, points: Points) -> bool:
    return len(points) > 12 and label not in EXACT


def series(rows: Sequence[Row], name: str) -> list[tuple[int, float]]:
    """Return step and value of each row that has a number of that name."""
    return [
        (row["step"], row[name])
        for row in rows
        if isinstance(row.get(name), int | float) and math.isfinite(row[name])
    ]


def smooth(values: Sequence[float]) -> list[float]:
    """Return the exponential running mean over a twelfth of the curve, corrected for its start as Adam does."""
    keep = 1 - min(1.0, 12 / len(values))
    smoothed, mean = [], 0.0
    for count, value in enumerate(values, start=1):
        mean = keep * mean + (1 - keep) * value
        smoothed.append(mean / (1 - keep**count))
    return smoothed
