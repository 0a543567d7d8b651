"""References in programs: what a policy is compared with."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import attrs

from ..diagnostics import SpecPath
from ..plan import Plan
from ..rules.references import keeps_start, reference_of
from ..spec import Adapters, ModelReference, PrecomputedReference, Spec, Tokenizer
from .calls import Arg, Call, Places, nested
from .literals import python_literal
from .model_calls import base_call, has_new_rows, weights_dtype


def reference_args(plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield the argument `reference` of an objective that compares its policy with one."""
    found = reference_of(plan.spec)
    if found is None:
        return
    if has_model(plan.spec):
        yield Arg("reference", "objectives.FrozenModel(reference)")
    elif isinstance(found[1], PrecomputedReference):
        yield Arg("reference", f"objectives.Precomputed({_start(plan.spec)})")
    else:
        yield Arg("reference", _start(plan.spec))


def has_model(spec: Spec) -> bool:
    """Tell whether the reference is a model beside the policy."""
    found = reference_of(spec)
    if found is None or isinstance(found[1], PrecomputedReference):
        return False
    return isinstance(found[1], ModelReference) or keeps_start(spec) == "model"


def _start(spec: Spec) -> str:
    """Return the call that makes the reference of the start; nothing where the policy itself is it."""
    calls = {"adapter-off": "objectives.AdapterOff()", "adapter": "objectives.AdapterAtStart()"}
    return calls.get(keeps_start(spec), "")


def reference_model(plan: Plan, places: Places) -> Call | None:
    """Return the call that loads the model beside the policy; its arguments stand 12 columns deep."""
    found = reference_of(plan.spec)
    if found is None or not has_model(plan.spec):
        return None
    args = [
        Arg("", nested(_base(plan, places, *found), 16)),
        Arg("dtype", python_literal(weights_dtype(plan.spec))),
    ]
    if has_new_rows(plan) and not isinstance(found[1], ModelReference):
        args.append(Arg("tokenizer", "tokenizer"))
    return Call("models.load_causal_lm", tuple(args))


def _base(plan: Plan, places: Places, place: SpecPath, reference: Any) -> Call:
    """Return `models.Base(...)` of the policy, or of a model that is loaded as the policy is."""
    if not isinstance(reference, ModelReference):
        return base_call(plan, places, 16)
    whole: Any = plan.spec
    facts: Any = plan.facts
    paths = range(len(reference.adapters))
    known = {i: facts.adapters.get((*place, "adapters", i)) for i in paths}
    spec = attrs.evolve(
        whole,
        model=attrs.evolve(whole.model, path=reference.path, revision=None, init="pretrained"),
        # Merged one after the other; it has the rows for its tokens already.
        adapters=Adapters(paths=reference.adapters, then="new"),
        tokenizer=Tokenizer(),
        quantization=reference.quantization,
    )
    facts = attrs.evolve(
        facts,
        model=facts.models.get((*place, "path"), facts.model),
        adapters={("adapters", "paths", i): fact for i, fact in known.items() if fact is not None},
    )
    return base_call(attrs.evolve(plan, spec=spec, facts=facts), places, 16)
