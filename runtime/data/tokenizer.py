"""Where a tokenizer comes from, told apart from loading it: prepared data that fit need none."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from .light import light_tokenizer

FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "chat_template.jinja",
    "chat_template.json",
    "config.json",
)
"""Files of a model folder that decide what a text becomes."""
MORE_TEMPLATES = "additional_chat_templates"
"""Folder with templates for occasions, such as one for conversations with tools."""


@dataclass(frozen=True, kw_only=True)
class Tokenizer:
    """The tokenizer at `path`, with `chat_template` in place of its own when given, and `around_template` around it."""

    path: Path | str
    chat_template: Path | None = None
    around_template: Path | None = None
    eos_token: str | None = None
    stop_words: Sequence[str] = ()
    add_tokens: Sequence[str] = ()
    add_special_tokens: Sequence[str] = ()
    split_special_tokens: bool = False
    revision: str | None = None
    cache_dir: Path | None = None
    token_env: str | None = None
    trust_remote_code: bool = False
    hub_name: Literal["huggingface", "modelscope", "modelers"] = "huggingface"

    def load(self) -> Any:
        """Return the tokenizer; raises `UserError` as `models.load_tokenizer` does."""
        from ..models.load import load_tokenizer

        return load_tokenizer(
            self.path,
            chat_template=self.chat_template,
            around_template=self.around_template,
            eos_token=self.eos_token,
            stop_words=self.stop_words,
            add_tokens=self.add_tokens,
            add_special_tokens=self.add_special_tokens,
            split_special_tokens=self.split_special_tokens,
            revision=self.revision,
            cache_dir=self.cache_dir,
            token_env=self.token_env,
            trust_remote_code=self.trust_remote_code,
            hub_name=self.hub_name,
        )

    def load_light(self) -> Any:
        """Return a tokenizer that gives the same tokens, without torch where that can be had."""
        adds = self.add_tokens or self.add_special_tokens
        if isinstance(self.path, Path) and not self.trust_remote_code and not adds:
            light = light_tokenizer(
                self.path,
                chat_template=self.chat_template,
                around_template=self.around_template,
                eos_token=self.eos_token,
                stop_words=self.stop_words,
            )
            if light is not None:
                light.split_special_tokens = self.split_special_tokens
                return light
        return self.load()

    def digest(self) -> str:
        """Return the SHA-256 of what decides the tokens: the files of a folder, else the loaded tokenizer."""
        known = hashlib.sha256(repr((self.eos_token, *self.stop_words)).encode())
        if isinstance(self.path, Path):
            more = sorted((self.path / MORE_TEMPLATES).glob("*.jinja"))
            for path in (*(self.path / name for name in FILES), *more):
                known.update(_content(path))
        else:
            tokenizer = self.load()
            for text in (tokenizer.backend_tokenizer.to_str(), repr(tokenizer.chat_template)):
                known.update(text.encode())
            known.update(repr(sorted(tokenizer.special_tokens_map.items())).encode())
        if self.add_tokens or self.add_special_tokens:
            added = ([*self.add_tokens], [*self.add_special_tokens])
            known.update(repr(added).encode())
        if self.split_special_tokens:
            known.update(b"split")
        for given in (self.chat_template, self.around_template):
            known.update(b"" if given is None else _content(given))
        return known.hexdigest()


def _content(path: Path) -> bytes:
    """Return the digest of a file, so that a change of length cannot look like another file's change."""
    try:
        return hashlib.sha256(path.read_bytes()).digest()
    except OSError:
        return bytes(32)
