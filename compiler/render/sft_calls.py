"""Pretraining and SFT in programs: how the loss of a token counts."""

from __future__ import annotations

from collections.abc import Iterator

from ..plan import Plan
from ..spec import Asft, CrossEntropy, Dft, Eaft, Pretraining, Sft
from .calls import Arg, Places
from .literals import python_literal
from .reference_calls import reference_args


def sft_args(objective: Sft | Pretraining, plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield the loss where it is another than the plain cross-entropy, its reference, and what is measured."""
    call = _loss(objective.loss if isinstance(objective, Sft) else objective)
    if call:
        yield Arg("loss", f"objectives.{call}")
    yield from reference_args(plan, places)
    if plan.spec.evaluation.accuracy:
        yield Arg("accuracy", "True")


def _loss(loss: CrossEntropy | Dft | Asft | Eaft | Pretraining) -> str:
    match loss:
        case Dft():
            return "Dft()"
        case Asft():
            return f"Asft(alpha={python_literal(float(loss.alpha))})"
        case Eaft():
            return f"Eaft(alpha={python_literal(float(loss.alpha))})"
        case _ if loss.label_smoothing:
            return f"LabelSmoothing({python_literal(float(loss.label_smoothing))})"
    return ""
