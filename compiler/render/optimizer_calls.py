"""The optimizer and its schedule in programs."""

from __future__ import annotations

from ..plan import Plan
from ..plan.honoured import only
from ..spec import AdamW
from .calls import Arg, Call
from .literals import python_literal


def optimizer_call(plan: Plan) -> Call:
    """Return the optimizer with all its numbers."""
    spec = plan.spec
    optimizer = only(spec.optimizer, AdamW)
    args = (
        Arg("learning_rate", python_literal(float(spec.training.learning_rate))),
        Arg("beta1", python_literal(float(optimizer.beta1))),
        Arg("beta2", python_literal(float(optimizer.beta2))),
        Arg("epsilon", python_literal(float(optimizer.epsilon))),
        Arg("weight_decay", python_literal(float(optimizer.weight_decay))),
    )
    return Call("training.AdamW", args)
