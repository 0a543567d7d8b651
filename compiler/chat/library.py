"""The library of named chat templates: what templates/chat/library.toml says."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Any

import tomli
from attrs import frozen

from ..spec.tokenizer import ToolFormat
from .slots import CONTENT, split


@frozen
class LibraryTemplate:
    """A template as the library has it; the head of library.toml tells what each slot is for."""

    name: str
    user: str
    prefix: str = ""
    system: str = CONTENT
    opening: str = ""
    assistant: str = CONTENT
    tool: str = ""
    result: str = ""
    call: str = ""
    tool_list: str = ""
    tool_format: ToolFormat = "default"
    default_system: str = ""
    system_in_user: bool = False
    thought: tuple[str, ...] = ()
    empty_thought: str = ""
    instead_of_thought: str = ""
    thinks: str = ""
    turn_end: str = ""
    stop: tuple[str, ...] = ()
    efficient_eos: bool = False
    replace_eos: bool = False
    image: str = ""
    video: str = ""
    audio: str = ""
    example: str = ""

    @property
    def is_reasoning(self) -> bool:
        """Whether the models that speak it think before they answer."""
        return bool(self.thought)

    @property
    def no_thought(self) -> str:
        """An empty thought."""
        return self.empty_thought or "".join(self.thought)

    @property
    def end_mark(self) -> str:
        """What ends every answer and is learned: the slot after the content, less the white space after that."""
        after = split(self.assistant)[1]
        return after.rstrip() or after

    @property
    def next_marks(self) -> tuple[str, str]:
        """The stop words that open the turn of the user and of a tool, where an answer has no end of its own."""
        if self.end_mark.strip():
            return "", ""
        opened = (self.user, self.tool or self.user)
        first, second = (next(filter(slot.startswith, self.stop), "") for slot in opened)
        return first, second


@cache
def library() -> Mapping[str, LibraryTemplate]:
    """Return the templates by name, in the order of the file."""
    tables = tomli.loads((files("tunec.templates") / "chat/library.toml").read_text("utf-8"))
    return MappingProxyType({name: _template(name, tables) for name in tables})


def _template(name: str, tables: Mapping[str, Mapping[str, Any]]) -> LibraryTemplate:
    lists = {
        key: tuple(value) for key, value in _inherited(name, tables).items() if type(value) is list
    }
    return LibraryTemplate(**{"name": name, **_inherited(name, tables), **lists})


def _inherited(name: str, tables: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    own = dict(tables[name])
    model = own.pop("like", None)
    if model is None:
        return own
    return {**_inherited(model, tables), "example": "", **own}
