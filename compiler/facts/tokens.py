"""Facts about the tokens of a tokenizer. Its file is large, so it is read only for a spec that asks for tokens."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from attrs import frozen

from .files import read_json


@frozen
class Vocabulary:
    """The tokens of a tokenizer with their numbers, added ones included."""

    ids: Mapping[str, int]

    @property
    def size(self) -> int:
        """Rows that embeddings need at least."""
        return max(self.ids.values(), default=-1) + 1

    def __contains__(self, token: str) -> bool:
        return token in self.ids


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """Return the tokens that `tokenizer.json` lists; None where it is missing or something else."""
    content = read_json(folder / "tokenizer.json")
    if content is None:
        return None
    ids = dict(_base(content.get("model")))
    ids.update(_added(content.get("added_tokens")))
    return Vocabulary(ids) if ids else None


def _base(model: Any) -> Mapping[str, int]:
    """BPE and WordPiece map tokens to numbers, Unigram lists pairs of token and score."""
    entries = model.get("vocab") if isinstance(model, Mapping) else None
    if isinstance(entries, Mapping):
        return {token: number for token, number in entries.items() if type(number) is int}
    if isinstance(entries, list):
        return {
            pair[0]: number
            for number, pair in enumerate(entries)
            if isinstance(pair, list) and pair and isinstance(pair[0], str)
        }
    return {}


def _added(entries: Any) -> dict[str, int]:
    listed = entries if isinstance(entries, list) else []
    return {
        entry["content"]: entry["id"]
        for entry in listed
        if isinstance(entry, Mapping)
        and isinstance(entry.get("content"), str)
        and type(entry.get("id")) is int
    }
