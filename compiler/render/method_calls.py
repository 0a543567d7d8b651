"""The method in programs: which parameters are trained."""

from __future__ import annotations

from ..plan import Plan
from .calls import Arg, Call
from .literals import python_literal


def method_call(plan: Plan) -> Call:
    """Return the call that makes the parameters trainable which the method trains."""
    checkpointing = plan.spec.training.gradient_checkpointing
    extra = [Arg("gradient_checkpointing", "True")] if checkpointing else []
    if checkpointing and plan.spec.training.checkpointing_reentrant:
        extra.append(Arg("reentrant", "True"))
    if plan.lora is None:
        return Call("models.train_all", (Arg("", "model"), *extra))
    lora = plan.lora
    args = [
        Arg("", "model"),
        Arg("rank", python_literal(lora.rank)),
        Arg("alpha", python_literal(lora.alpha), f"update scaled by {lora.alpha / lora.rank:g}"),
        Arg("dropout", python_literal(lora.dropout)),
        Arg("targets", _targets(lora.targets), _modules(lora.num_modules)),
    ]
    return Call("models.add_lora", (*args, *extra))


def _targets(targets: tuple[str, ...] | str) -> str:
    if isinstance(targets, str):
        return python_literal(targets)
    lines = "".join(f"\n                {python_literal(name)}," for name in targets)
    return f"[{lines}\n            ]"


def _modules(count: int | None) -> str:
    return "" if count is None else f"{count} modules"
