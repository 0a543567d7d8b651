"""Models that see or hear: which class they load as, and their parts, of which texts train the language model alone."""

from __future__ import annotations

import re
from typing import Any, Literal

Part = Literal["language", "projector", "tower"]
TOWERS = "visual|vision_tower|vision_model|audio_tower|image_tower|video_tower"
"""Modules that see or hear, as transformers 5 names them in every family."""
PROJECTORS = "multi_modal_projector|connector|merger|merger_list|deepstack_merger_list|image_newline|embed_vision|embed_audio"
"""Modules between these and the language model; some stand inside the tower."""
SCORE = "score"
"""The head of every decoder of transformers that scores texts."""
_TOWER = re.compile(rf"(?:^|\.)(?:{TOWERS})(?:\.|$)")
_PROJECTOR = re.compile(rf"(?:^|\.)(?:{PROJECTORS})(?:\.|$)")


def auto_class(config: Any) -> Any:
    """Return the class of transformers that loads a model which writes texts, whatever else it takes in."""
    from transformers import AutoModelForCausalLM
    from transformers.models.auto.modeling_auto import AutoModelForMultimodalLM

    writes = type(config) in AutoModelForCausalLM._model_mapping
    sees = type(config) in AutoModelForMultimodalLM._model_mapping
    return AutoModelForMultimodalLM if sees and not writes else AutoModelForCausalLM


def score_head(model: Any) -> Any:
    """Return the head that scores texts, with adapters its wrapper; None for a model that writes."""
    return getattr(model, SCORE, None)


def is_reward_model(model: Any) -> bool:
    """Tell whether the model scores texts."""
    return score_head(model) is not None


def part_of(name: str) -> Part:
    """Return the part that a module or parameter of a model with a tower belongs to."""
    if _PROJECTOR.search(name):
        return "projector"
    return "tower" if _TOWER.search(name) else "language"


def has_tower(model: Any) -> bool:
    """Tell whether the model has a part that sees or hears."""
    return any(_TOWER.search(name) for name, _ in model.named_modules())


def freeze_towers(model: Any) -> None:
    """Freeze everything but the language model: texts give the rest no gradient, and weight decay would shrink it."""
    if has_tower(model):
        for name, parameter in model.named_parameters():
            if part_of(name) != "language":
                parameter.requires_grad_(False)


def without_towers(model: Any) -> str | None:
    """Return a pattern of the modules that get no adapters; None for a model that only reads."""
    if not has_tower(model):
        return None
    return rf"(?:.*\.)?(?:{TOWERS}|{PROJECTORS})(?:\..*)?"
