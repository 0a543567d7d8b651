"""Rotary positions for longer texts: what goes into a model's configuration, so that whoever loads it computes the same.

The frequencies themselves are computed by transformers from `rope_parameters`; so do servers.
"""

from __future__ import annotations

import math
from dataclasses import KW_ONLY, dataclass
from typing import Any, Literal

from ...errors import ExitCode, UserError

KEPT = ("rope_theta", "partial_rotary_factor")
"""Entries that say which frequencies a model has; the others say how they were stretched."""
BANDS: dict[str, dict[str, float]] = {
    "yarn": {"beta_fast": 32.0, "beta_slow": 1.0},
    "llama3": {"low_freq_factor": 1.0, "high_freq_factor": 4.0},
}
"""Where the bands of frequencies end, unless told otherwise."""


@dataclass(frozen=True)
class Rope:
    """How rotary positions are stretched: by `factor`, or by the whole factor that texts of `max_length` need."""

    type: Literal["linear", "dynamic", "yarn", "llama3"]
    _: KW_ONLY
    factor: float | None = None
    max_length: int | None = None
    beta_fast: float | None = None
    beta_slow: float | None = None
    low_freq_factor: float | None = None
    high_freq_factor: float | None = None

    def factor_for(self, length: int) -> float:
        """Return the factor for a model that was made for texts of `length` tokens."""
        if self.factor is not None:
            return self.factor
        return float(max(1, math.ceil((self.max_length or length) / length)))


def stretch(config: Any, rope: Rope) -> None:
    """Write the stretched positions into a model's configuration, in place of any it was stretched by before.

    `max_position_embeddings` becomes the new length. Dynamic scaling keeps it: there it is the length from which on
    frequencies change.

    Raises:
        UserError: (ENVIRONMENT) the model has no rotary positions, or several kinds of them.
    """
    text = config.get_text_config()
    before = dict(getattr(text, "rope_parameters", None) or {})
    length = getattr(text, "max_position_embeddings", None)
    if not before or length is None or any(isinstance(value, dict) for value in before.values()):
        what = "several kinds of rotary positions" if before else "no rotary positions"
        raise UserError(
            f"this model has {what}, which cannot be stretched",
            help="remove `model.rope`",
            code=ExitCode.ENVIRONMENT,
        )
    length = before.get("original_max_position_embeddings") or length
    factor = rope.factor_for(length)
    after = {name: before[name] for name in KEPT if name in before}
    after |= {"rope_type": rope.type, "factor": factor}
    if rope.type in ("yarn", "llama3"):
        after["original_max_position_embeddings"] = length
    for name, usual in BANDS.get(rope.type, {}).items():
        given = getattr(rope, name)
        after[name] = usual if given is None else given
    text.rope_parameters = after
    if rope.type != "dynamic":
        text.max_position_embeddings = int(length * factor)


def forget_longer_texts(model: Any) -> None:
    """Make dynamic positions depend on the text at hand alone.

    transformers keeps the frequencies of the longest text so far, so that a result would depend on what came before,
    and a resumed run would not equal the uninterrupted one.
    """
    for module in model.modules():
        if getattr(module, "rope_type", None) == "dynamic":
            module.register_forward_pre_hook(_as_made)


def _as_made(module: Any, inputs: Any) -> None:
    module.inv_freq = module.original_inv_freq
    module.max_seq_len_cached = module.original_max_seq_len
