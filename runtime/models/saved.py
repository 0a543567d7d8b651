"""Saving a tokenizer so that a server does what was trained: same tokens, same prompts, same ends."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..data.ends import named_in, stop_tokens
from ..data.light import backend_digest
from ..storage import write_json

GENERATION = "generation_config.json"


def save_tokenizer(
    folder: Path, tokenizer: Any, model: Any, *, trained: Path | None = None
) -> None:
    """Write the tokenizer next to the weights, and the tokens that end an answer.

    Whoever generates stops at `eos_token_id` of `generation_config.json`. The model's own does not name the end that
    a template brought along, so that an answer would go on for ever. `trained` is a folder that names them already.
    """
    tokenizer.save_pretrained(str(folder))
    config = getattr(model, "generation_config", None)
    if config is None:
        return
    ends = {*stop_tokens(tokenizer, config.eos_token_id)}
    if trained is not None:
        ends |= {*stop_tokens(tokenizer, named_in(trained))}
    # The reader takes a single end or a list.
    named = sorted(ends) if len(ends) > 1 else next(iter(ends), None)
    write_json(folder / GENERATION, {**config.to_diff_dict(), "eos_token_id": named})


def changed(folder: Path, tokenizer: Any) -> list[str]:
    """Return how the tokenizer in a folder, loaded as anyone would, differs from the one that was trained with."""
    from transformers import AutoTokenizer

    if "auto_map" in tokenizer.init_kwargs:
        return []  # it is code of its own, which nobody runs unasked
    found = AutoTokenizer.from_pretrained(str(folder))
    same = {
        "chat template": found.chat_template == tokenizer.chat_template,
        "end-of-sequence token": found.eos_token_id == tokenizer.eos_token_id,
        "beginning-of-sequence token": found.bos_token_id == tokenizer.bos_token_id,
        "way to cut text into tokens": backend_digest(found) == backend_digest(tokenizer),
    }
    return [what for what, is_same in same.items() if not is_same]
