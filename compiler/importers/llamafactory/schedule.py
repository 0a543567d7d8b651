"""Length and rate, and when a run evaluates, logs and saves."""

from __future__ import annotations

import math

from ..convert import UnfitError, as_dict, as_float
from ..placing import Import

SCHEDULE_SETTINGS = {
    "num_cycles": "training.cycles",
    "power": "training.power",
    "min_lr_rate": "training.min_rate_ratio",
    "min_lr_ratio": "training.min_rate_ratio",
    "num_stable_steps": "training.stable_steps",
    "factor": "training.plateau_factor",
    "patience": "training.plateau_patience",
}


def read_length(work: Import) -> None:
    """Decide epochs or steps."""
    if (work.settings.number("max_steps") or 0) > 0:
        if work.settings.has("num_train_epochs"):
            work.idle("num_train_epochs", "`max_steps` decides")
        return
    epochs = work.settings.number("num_train_epochs")
    if work.settings.has("num_train_epochs") and epochs is None:
        work.lose("num_train_epochs", "it is no number")
    comment = work.by_default if epochs is None else "num_train_epochs"
    work.put("training.epochs", 3.0 if epochs is None else epochs, comment)


def read_warmup(work: Import) -> None:
    """Decide the warm-up: steps before a ratio."""
    steps, ratio = work.settings.number("warmup_steps"), work.settings.number("warmup_ratio")
    for name, number in (("warmup_steps", steps), ("warmup_ratio", ratio)):
        if work.settings.has(name) and number is None:
            work.lose(name, "it is no number")
    if work.settings.word("lr_scheduler_type") == "constant" and (steps or ratio):
        work.idle("warmup_steps" if steps else "warmup_ratio", "`constant` has no warm-up there")
    elif steps is not None and steps >= 1:
        work.put("training.warmup_steps", int(steps), "warmup_steps")
        if ratio:
            work.idle("warmup_ratio", "`warmup_steps` decides")
    elif steps or ratio:
        work.put(
            "training.warmup_ratio", steps or ratio, "warmup_steps" if steps else "warmup_ratio"
        )


def read_schedule_settings(work: Import) -> None:
    """Read `lr_scheduler_kwargs`."""
    if not work.settings.has("lr_scheduler_kwargs"):
        return
    try:
        found = as_dict(work.settings.raw("lr_scheduler_kwargs"))
    except UnfitError as unfit:
        work.lose("lr_scheduler_kwargs", str(unfit))
        return
    for name, raw in found.items():
        _schedule_setting(work, name, raw)


def _schedule_setting(work: Import, name: str, raw: object) -> None:
    key = f"lr_scheduler_kwargs.{name}"
    try:
        number = as_float(raw)
    except UnfitError as unfit:
        work.lose(key, str(unfit))
        return
    if name in SCHEDULE_SETTINGS:
        path = SCHEDULE_SETTINGS[name]
        work.put(path, int(number) if path.endswith(("steps", "patience")) else number, key)
    elif name == "min_lr":
        rate = work.settings.number("learning_rate", 5e-5) or 5e-5
        work.put("training.min_rate_ratio", number / rate, f"{key} / learning_rate")
    else:
        work.lose(key, "schedules have no such setting here")


def read_intervals(work: Import) -> None:
    """Decide when the run evaluates, logs and saves."""
    _evaluation(work)
    _logging(work)
    _saving(work)


def _strategy(work: Import, name: str, default: str, known: tuple[str, ...]) -> str:
    word = work.settings.word(name, default)
    word = {"false": "no", "true": "yes"}.get(word, word)
    if word not in known:
        work.lose(name, f"`{word[:40]}` is none of {', '.join(known)}")
        return default
    return word


def _evaluation(work: Import) -> None:
    strategy = _strategy(work, "eval_strategy", "no", ("no", "steps", "epoch"))
    if strategy == "epoch":
        work.put("evaluation.each_epoch", True, "eval_strategy")
    if strategy == "steps":
        name = "eval_steps" if work.settings.has("eval_steps") else "logging_steps"
        _interval(work, "evaluation.every_steps", name)
    elif work.settings.has("eval_steps"):
        work.idle("eval_steps", f"`eval_strategy` is `{strategy}`")


def _logging(work: Import) -> None:
    strategy = _strategy(work, "logging_strategy", "steps", ("no", "steps", "epoch"))
    if strategy == "steps":
        _interval(work, "logging.every_steps", "logging_steps")
    elif strategy == "epoch":
        work.put("logging.each_epoch", True, "logging_strategy")
        work.differs("logging_strategy", "a line is written every `logging.every_steps` as well")
    else:
        work.lose("logging_strategy", "metrics are always written, every `logging.every_steps`")


def _saving(work: Import) -> None:
    strategy = _strategy(work, "save_strategy", "steps", ("no", "steps", "epoch", "best"))
    if strategy == "steps":
        _interval(work, "checkpoints.every_steps", "save_steps")
        return
    work.put("checkpoints.every_steps", 0, "save_strategy")
    if strategy == "epoch":
        work.put("checkpoints.each_epoch", True, "save_strategy")
    if strategy == "best":
        work.put("checkpoints.keep_best", True, "save_strategy")
    if work.settings.has("save_steps"):
        work.idle("save_steps", f"`save_strategy` is `{strategy}`")


def _interval(work: Import, path: str, name: str) -> None:
    """Put a number of steps; a share of all steps becomes one where these are known."""
    number = work.settings.number(name)
    if number is None:
        if work.settings.has(name):
            work.lose(name, "it is no number")
        work.put(path, work.defaults.get(name, 500), work.by_default)
    elif number >= 1:
        work.put(path, int(number), name)
    else:
        _share(work, path, name, number)


def _share(work: Import, path: str, name: str, share: float) -> None:
    steps = work.settings.number("max_steps") or 0
    if 0 < share < 1 and steps > 0:
        work.put(path, math.ceil(steps * share), f"{name}: {share} of max_steps")
    elif 0 < share < 1:
        work.lose(
            name,
            f"{share} is a share of all steps, which are not known before the data are read; "
            f"write a count to `{path}`",
        )
    else:
        work.lose(name, "it must be above 0")
