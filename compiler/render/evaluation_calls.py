"""Evaluations, checkpoints and lines of metrics in programs: when they are, and what hangs on them."""

from __future__ import annotations

from collections.abc import Iterator

from ..plan import Plan
from ..rules.evaluation import best_settings, each_source, is_higher_better
from ..spec import Spec
from .calls import Arg, Call, nested
from .literals import python_literal


def evaluation_args(plan: Plan) -> Iterator[Arg]:
    """Yield the arguments of `training.fit` about evaluations."""
    settings = plan.spec.evaluation
    if settings.every_steps:
        yield Arg("eval_every", python_literal(settings.every_steps))
    if settings.each_epoch:
        yield Arg("eval_each_epoch", "True")
    if settings.at_start:
        yield Arg("eval_at_start", "True")
    if settings.delay_steps:
        yield Arg("eval_delay", python_literal(settings.delay_steps))
    if each_source(plan.spec):
        yield Arg("each_source", "True")
    if settings.generate:
        yield Arg("generate", nested(_generate(plan.spec), 16))
    if best_settings(plan.spec):
        yield Arg("best", nested(_best(plan.spec), 16))


def _best(spec: Spec) -> Call:
    settings = spec.evaluation
    source, _, number = (settings.metric or "loss").rpartition("/")
    metric = f"eval_{number}/{source}" if source else f"eval_{number}"
    args = [
        Arg("metric", python_literal(metric)),
        Arg("higher_is_better", python_literal(is_higher_better(spec))),
    ]
    if settings.load_best:
        args.append(Arg("load", "True", "final/ holds the weights of the best checkpoint"))
    if spec.checkpoints.keep_best:
        args.append(Arg("keep", "True"))
    if settings.patience is not None:
        args.append(Arg("patience", python_literal(settings.patience)))
    return Call("training.Best", tuple(args))


def _generate(spec: Spec) -> Call:
    settings = spec.evaluation
    given, beams = settings.max_new_tokens, settings.num_beams or spec.generation.num_beams
    length = spec.data.max_length if given is None else given
    args = [Arg("max_new_tokens", python_literal(length))]
    if beams != 1:
        args.append(Arg("num_beams", python_literal(beams)))
    return Call("training.Generate", tuple(args))


def upkeep_args(spec: Spec) -> Iterator[Arg]:
    """Yield the arguments of `training.fit` about checkpoints and lines of metrics."""
    checkpoints, logging = spec.checkpoints, spec.logging
    yield Arg("save_every", python_literal(checkpoints.every_steps))
    if checkpoints.each_epoch:
        yield Arg("save_each_epoch", "True")
    yield Arg("keep_checkpoints", python_literal(checkpoints.keep))
    yield Arg("log_every", python_literal(logging.every_steps))
    if logging.first_step:
        yield Arg("log_first_step", "True")
    if logging.each_epoch:
        yield Arg("log_each_epoch", "True")
