"""A tokenizer without torch: the same tokens as transformers gives, read from the folder's own files.

Importing torch and transformers takes seconds, which is most of the time that small data need to be prepared. It is
used only where transformers takes `tokenizer.json` as it is; `same_tokens` proves it again before every training.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from ..errors import ExitCode, UserError
from .around import put_around, read_template
from .byte_level import ByteLevel, byte_level

AS_THEY_ARE = ("TokenizersBackend", "PreTrainedTokenizerFast")
"""Classes of transformers that add nothing of their own to `tokenizer.json`."""
NAMED = ("bos_token", "eos_token", "unk_token", "sep_token", "pad_token", "cls_token", "mask_token")


class LightTokenizer:
    """What preparation needs of a tokenizer, under the names that transformers gives it."""

    def __init__(
        self, backend: Any, template: str, named: dict[str, str], stop_words: Sequence[str] = ()
    ) -> None:
        """Keep the parts."""
        self.stop_words = stop_words
        self.backend_tokenizer = backend
        self.special_tokens_map = named
        self._template = template
        self.split_special_tokens = False

    def get_chat_template(self, *, tools: object = None) -> str:
        """Return the chat template, which is the same with tools."""
        return self._template

    @property
    def eos_token(self) -> str | None:
        """The end-of-sequence token."""
        return self.special_tokens_map.get("eos_token")

    @cached_property
    def eos_token_id(self) -> int | None:
        """Its number."""
        return self._number("eos_token")

    @cached_property
    def bos_token_id(self) -> int | None:
        """The number of the token a text begins with."""
        return self._number("bos_token")

    @cached_property
    def byte_level(self) -> ByteLevel | None:
        """Which bytes of a text each token stands for; None where a token is more than that."""
        return byte_level(self.backend_tokenizer, self.backend_parts)

    @cached_property
    def backend_parts(self) -> dict[str, Any]:
        """What `tokenizer.json` says, as the library understood it."""
        found: dict[str, Any] = json.loads(self.backend_tokenizer.to_str())
        return found

    def get_vocab(self) -> dict[str, int]:
        """Return the number of every token."""
        found: dict[str, int] = self.backend_tokenizer.get_vocab(with_added_tokens=True)
        return found

    def _number(self, name: str) -> int | None:
        token = self.special_tokens_map.get(name)
        found: int | None = None if token is None else self.backend_tokenizer.token_to_id(token)
        return found


def light_tokenizer(
    folder: Path,
    *,
    chat_template: Path | None = None,
    around_template: Path | None = None,
    eos_token: str | None = None,
    stop_words: Sequence[str] = (),
) -> LightTokenizer | None:
    """Return the tokenizer in a folder, or None where only transformers can tell what it does.

    Also None for everything that is wrong with it: transformers finds it again, and says it.
    """
    settings = _settings(folder)
    if settings is None or settings.get("tokenizer_class") not in AS_THEY_ARE:
        return None
    if (
        "auto_map" in settings
        or settings.get("added_tokens_decoder")
        or settings.get("extra_special_tokens")
    ):
        return None
    template = _template(folder, settings, chat_template)
    if template and around_template is not None:
        template = put_around(template, read_template(around_template))
    backend = _backend(folder / "tokenizer.json")
    if backend is None or not template:
        return None
    named = {name: text for name in NAMED if (text := _text(settings.get(name))) is not None}
    if eos_token is not None:
        named["eos_token"] = eos_token
    if "pad_token" not in named and "eos_token" in named:
        named["pad_token"] = named["eos_token"]
    known = [backend.token_to_id(token) for token in named.values()]
    # A named token outside of the vocabulary would be added to it; stop words only become special.
    if "eos_token" not in named or None in known:
        return None
    return LightTokenizer(backend, template, named, stop_words)


def backend_digest(tokenizer: Any) -> str:
    """Return the SHA-256 of what cuts texts into tokens; which tokens are called special does not count."""
    if isinstance(tokenizer, LightTokenizer):
        parts = dict(tokenizer.backend_parts)
    else:
        parts = json.loads(tokenizer.backend_tokenizer.to_str())
    for name in ("version", "truncation", "padding", "post_processor", "decoder"):
        parts.pop(name, None)
    parts["added_tokens"] = [
        {name: value for name, value in token.items() if name != "special"}
        for token in parts["added_tokens"]
    ]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def check_same(recorded: str, tokenizer: Any) -> None:
    """Raise `UserError` (DATA) unless the data were prepared with the very tokenizer that is trained with."""
    if recorded and recorded != backend_digest(tokenizer):
        raise UserError(
            "the data were prepared with another tokenizer than the one of this run",
            help="delete prepared.json and the folder it names, then start again with ./launch.sh",
            code=ExitCode.DATA,
        )


def _settings(folder: Path) -> dict[str, Any] | None:
    try:
        found = json.loads((folder / "tokenizer_config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    # An older file beside it may name other tokens; transformers knows how they go together.
    older = [(folder / name).exists() for name in ("special_tokens_map.json", "added_tokens.json")]
    return found if isinstance(found, dict) and not any(older) else None


def _template(folder: Path, settings: dict[str, Any], given: Path | None) -> str | None:
    try:
        if given is not None:
            return given.read_text(encoding="utf-8")
        file = folder / "chat_template.jinja"
        if (folder / "additional_chat_templates").exists():
            return None  # one of several
        if file.exists():
            return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        return None
    found = settings.get("chat_template")
    return found if isinstance(found, str) else None


def _backend(path: Path) -> Any:
    from tokenizers import Tokenizer

    try:
        return Tokenizer.from_file(str(path))
    except Exception:
        return None


def _text(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
