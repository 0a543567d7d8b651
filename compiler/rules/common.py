"""What several rules ask: which engine runs, what is quantized, which modules there are, what a word was meant to be."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from attrs import frozen

from ..diagnostics import Label, SpecPath
from ..facts import Facts
from ..facts.config import Quantized
from ..names import nearest
from ..spec import (
    Freeze,
    Full,
    Lisa,
    LnTuning,
    NoQuantization,
    Prefix,
    Prompt,
    PTuning,
    Spec,
    Targeted,
)

VIRTUAL = (Prefix, Prompt, PTuning)
"""Methods that train inputs of the model: `num_tokens` virtual tokens."""

Adapter = Targeted | LnTuning | Prefix | Prompt | PTuning
"""Methods that leave the model frozen."""

WHOLE = (Full, Freeze, Lisa)
"""Methods that train the model's own weights."""

METHOD_TYPE: SpecPath = ("method", "type")


@frozen
class Base:
    """A quantized base model: how, since when, and where the spec says so."""

    name: str
    path: SpecPath
    on_the_fly: bool
    bits: int | None

    @property
    def label(self) -> Label:
        """The label of a finding about something else."""
        return Label(self.path, "quantized here" if self.on_the_fly else "already quantized")


def quantized_base(spec: Spec, facts: Facts) -> Base | None:
    """Return how the frozen weights are quantized: by the spec, or in the checkpoint already."""
    chosen = spec.quantization
    if not isinstance(chosen, NoQuantization):
        return Base(chosen.type, ("quantization", "type"), True, chosen.bits)
    found: Quantized | None = facts.model.quantized
    if found is None or found.method in ("fp8", "mxfp4"):  # widened again when loaded
        return None
    return Base(found.method, ("model", "path"), False, found.bits)


def zero_stage(spec: Spec) -> int:
    """Return DeepSpeed's stage; 0 where another engine takes its place."""
    other = spec.megatron is not None or spec.hyper_parallel is not None
    return 0 if other else spec.deepspeed.zero_stage


def stage_label(spec: Spec) -> Label:
    """Return the label of the stage for a finding about something else."""
    return Label(("deepspeed", "zero_stage"), f"stage {spec.deepspeed.zero_stage} here")


def text_at(spec: Spec, path: SpecPath) -> str:
    """Return what the spec says at a path that it has."""
    value: Any = spec
    for step in path:
        value = value[step] if isinstance(step, int) else getattr(value, step)
    return str(value)


def similar(word: str, names: Collection[str]) -> str | None:
    """Return the name that is nearest to a misspelt one, or None when none is near."""
    found: str | None = nearest(word, tuple(names))
    return found


def choices(word: str, names: Iterable[str], what: str) -> str:
    """Return a help text: the similar name first, then what there is."""
    known = sorted(set(names))
    near = similar(word, known)
    listed = ", ".join(f"`{name}`" for name in known[:20]) + (", ..." if len(known) > 20 else "")
    text = f"{what} {listed}"
    return text if near is None else f"a similar name is `{near}`; {text}"
