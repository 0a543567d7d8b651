"""What ends an answer: the tokens at which whoever generates stops."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

CONFIGS = ("generation_config.json", "config.json")
"""Files of a model folder that name end tokens; the first that does counts."""


def stop_tokens(tokenizer: Any, named: Any = None) -> list[int]:
    """Return the tokens that end an answer: the tokenizer's, the template's stop words, and those the model names.

    `named` is what `eos_token_id` of a generation configuration says: a token, several, or None.
    """
    words = map(tokenizer.backend_tokenizer.token_to_id, getattr(tokenizer, "stop_words", ()))
    more = named if isinstance(named, list) else [named]
    found = [tokenizer.eos_token_id, *more, *words]
    return sorted({int(token) for token in found if token is not None})


def named_in(folder: Path) -> Any:
    """Return the `eos_token_id` that the configuration in a model folder names, None where it names none."""
    for name in CONFIGS:
        try:
            found = json.loads((folder / name).read_text(encoding="utf-8")).get("eos_token_id")
        except (OSError, ValueError, AttributeError):
            continue
        if found is not None:
            return found
    return None
