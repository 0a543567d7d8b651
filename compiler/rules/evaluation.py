"""What is measured while a run goes, and what hangs on it."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..names import nearest
from ..spec import (
    Cpo,
    CrossEntropy,
    Dpo,
    Grpo,
    Kto,
    Orpo,
    Ppo,
    Pretraining,
    RewardModel,
    Sft,
    SimPo,
    Spec,
)
from .look import evaluates, evaluates_in_training, is_language_objective, listed
from .rule import Rule

METRIC: SpecPath = ("evaluation", "metric")
GENERATED = ("bleu", "rouge1", "rouge2", "rougeL")
PREFERENCE = (
    "accuracy",
    "margin",
    "chosen_reward",
    "rejected_reward",
    "chosen_log_prob",
    "rejected_log_prob",
    "sft_loss",
)
ANSWERS = ("reward", "reward_std", "answer_tokens", "endless_share", "empty_share")
METRICS: dict[type, tuple[str, ...]] = {
    # What an evaluation gives beside `loss`.
    Sft: ("perplexity", "cross_entropy", "accuracy", *GENERATED),
    Pretraining: ("perplexity", "cross_entropy", "accuracy"),
    RewardModel: ("accuracy", "margin", "chosen_score", "rejected_score"),
    Dpo: PREFERENCE,
    Orpo: (*PREFERENCE, "odds_ratio_loss"),
    SimPo: PREFERENCE,
    Cpo: PREFERENCE,
    Kto: (*PREFERENCE, "kl"),
    Ppo: ANSWERS,
    Grpo: ANSWERS,
}
FALLING = ("loss", "perplexity", "entropy", "kl", "rejected", "share")
"""Words in the names of numbers that are better when they are lower."""
BEST: tuple[SpecPath, ...] = (
    ("evaluation", "load_best"),
    ("evaluation", "patience"),
    ("checkpoints", "keep_best"),
)


def best_settings(spec: Spec) -> list[SpecPath]:
    """Return the settings in use that ask which checkpoint is best."""
    return [path for path in BEST if getattr(getattr(spec, str(path[0])), str(path[1]))]


def check_best(spec: Spec) -> Iterator[Diagnostic]:
    """The best checkpoint is asked for, but nothing is evaluated while training.

    One evaluation at the end compares nothing. `load_best`, `patience` and `keep_best` need several.

    Fails:
    ```toml
    [evaluation]
    load_best = true
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    load_best = true
    [checkpoints]
    every_steps = 2
    ```
    """
    if evaluates_in_training(spec):
        return
    has_rows = evaluates(spec)
    help = (
        "set `evaluation.every_steps` or `evaluation.each_epoch`"
        if has_rows
        else "hold rows out with `data.eval_rows`, and set `evaluation.every_steps`"
    )
    for path in best_settings(spec):
        yield error(
            "E101",
            f"`{path[1]}` compares evaluations, and nothing is evaluated while training",
            path,
            helps=(help,),
        )


def check_best_saved(spec: Spec) -> Iterator[Diagnostic]:
    """Checkpoints are saved at steps that are not evaluated.

    The best checkpoint is found among those with an evaluation of the same step, so checkpoints belong where
    evaluations are.

    Fails:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 3
    load_best = true
    [checkpoints]
    every_steps = 4
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    load_best = true
    [checkpoints]
    every_steps = 4
    ```
    """
    wanted = [path for path in best_settings(spec) if path[1] != "patience"]
    if not wanted or not evaluates_in_training(spec):
        return
    saved, measured = spec.checkpoints.every_steps, spec.evaluation.every_steps
    if saved > 0 and (measured is None or (measured > 0 and saved % measured)):
        other = ("every_steps", f"each {measured}") if measured else ("each_epoch", "each epoch")
        yield error(
            "E102",
            f"checkpoints of every {saved:,} steps are not all evaluated, so none can be called the best",
            ("checkpoints", "every_steps"),
            label=f"saved each {saved:,} steps",
            labels=(
                Label(("evaluation", other[0]), f"evaluated {other[1]}"),
                Label(wanted[0], "asks for the best"),
            ),
            helps=(f"use a multiple of {measured:,}",)
            if measured
            else ("set `checkpoints.every_steps` to 0 and `checkpoints.each_epoch` to true",),
        )
    if saved == 0 and not (spec.checkpoints.each_epoch and spec.evaluation.each_epoch):
        yield error(
            "E102",
            "no checkpoint is saved where an evaluation is, so none can be called the best",
            wanted[0],
            labels=(Label(("checkpoints", "every_steps"), "saved at the end only"),),
            helps=("save and evaluate at the same steps, or both at each epoch",),
        )


def check_metric(spec: Spec) -> Iterator[Diagnostic]:
    """The objective measures no number of that name.

    Fails:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    metric = "eval_los"
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    metric = "loss"
    ```
    """
    metric = spec.evaluation.metric
    known = ("loss", *METRICS.get(type(spec.objective), ()))
    if metric is None or metric in known or _of_source(spec, metric, known):
        return
    near = nearest(metric.removeprefix("eval_"), known)
    yield error(
        "E103",
        f"an evaluation of `{spec.objective.type}` measures no `{metric}`",
        METRIC,
        labels=(Label(("objective", "type"), "the objective"),),
        notes=(f"it measures {listed(known)}",),
        helps=(f"a similar name is `{near}`",) if near is not None else (),
    )


def _of_source(spec: Spec, metric: str, known: tuple[str, ...]) -> bool:
    """Tell `name/loss`, the loss of one source, where each is reported."""
    source, _, number = metric.rpartition("/")
    return each_source(spec) and bool(source) and number in known


def each_source(spec: Spec) -> bool:
    """Tell whether each evaluation source is reported by itself."""
    given = spec.evaluation.each_source
    return len(spec.data.eval_sources) > 1 if given is None else given


def check_measured(spec: Spec) -> Iterator[Diagnostic]:
    """The number that decides is not measured: its setting is off.

    Fails:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    metric = "accuracy"
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    accuracy = true
    metric = "accuracy"
    ```
    """
    metric = (spec.evaluation.metric or "").rpartition("/")[2]
    if not is_language_objective(spec):
        return
    needed = "accuracy" if metric == "accuracy" else "generate" if metric in GENERATED else ""
    if needed and not getattr(spec.evaluation, needed):
        yield error(
            "E104",
            f"`{metric}` is not measured: `evaluation.{needed}` is off",
            METRIC,
            helps=(f"write `{needed} = true`",),
        )
    is_plain = has_plain_loss(spec)
    if metric == ("cross_entropy" if is_plain else "perplexity"):
        better = "loss" if is_plain else "cross_entropy"
        why = "the loss is it" if is_plain else "the loss is another one than the cross-entropy"
        yield error(
            "E104",
            f"`{metric}` is not measured: {why}",
            METRIC,
            helps=(f'write `metric = "{better}"`',),
        )


def has_plain_loss(spec: Spec) -> bool:
    """Tell whether the loss of a language objective is the plain cross-entropy, whose exponential is the perplexity."""
    objective = spec.objective
    loss = objective.loss if isinstance(objective, Sft) else objective
    return isinstance(loss, CrossEntropy | Pretraining) and not loss.label_smoothing


def check_direction(spec: Spec) -> Iterator[Diagnostic]:
    """A direction is given that does not fit the number.

    A lower loss is better; taking the highest keeps the worst checkpoint.

    Fails:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    higher_is_better = true
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    metric = "loss"
    higher_is_better = false
    ```
    """
    metric, falls = spec.evaluation.metric or "loss", not rises(spec)
    if spec.evaluation.higher_is_better is falls:
        yield warning(
            "E105",
            f"a {'higher' if falls else 'lower'} `{metric}` is not better",
            ("evaluation", "higher_is_better"),
            labels=(Label(METRIC, "the number"),) if spec.evaluation.metric else (),
            helps=("leave `higher_is_better` out: the direction of this number is known",),
        )


def rises(spec: Spec) -> bool:
    """Tell whether a higher value of the number that decides is better, by what the number is."""
    name = (spec.evaluation.metric or "loss").rpartition("/")[2]
    return not any(word in FALLING for word in name.split("_"))


def is_higher_better(spec: Spec) -> bool:
    """Tell whether a higher value of the number that decides counts as better."""
    given = spec.evaluation.higher_is_better
    return rises(spec) if given is None else given


def check_patience(spec: Spec) -> Iterator[Diagnostic]:
    """The run stops when nothing improves, and ends with the last weights.

    By then they are worse than the best by as many evaluations as `patience` says.

    Fails:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    patience = 3
    ```
    Passes:
    ```toml
    [data]
    eval_rows = 2
    [evaluation]
    every_steps = 2
    patience = 3
    load_best = true
    [checkpoints]
    every_steps = 2
    ```
    """
    if spec.evaluation.patience is not None and not spec.evaluation.load_best:
        yield warning(
            "E106",
            "the run stops when nothing improves, and ends with the last weights, not the best",
            ("evaluation", "patience"),
            helps=("write `load_best = true`",),
        )


RULES = (
    Rule("E101", "best of nothing", pure=check_best),
    Rule("E102", "checkpoints beside evaluations", pure=check_best_saved),
    Rule("E103", "unknown metric", pure=check_metric),
    Rule("E104", "metric not measured", pure=check_measured),
    Rule("E105", "wrong direction", pure=check_direction),
    Rule("E106", "patience without the best", pure=check_patience),
)
