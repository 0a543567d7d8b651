"""The parts of one chat template: the expressions and decisions that the skeleton lays out."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Literal

from attrs import frozen

from ..spec.tokenizer import ToolFormat
from .library import LibraryTemplate
from .slots import CONTENT, expression, literal, split

Thinking = Literal["", "on", "off", "mixed"]
LINE_FORMATS = ("default", "glm4", "llama3")
"""Tool formats without a mark in front of a call: it begins on a line of its own."""


@frozen
class Options:
    """What a spec decided about a template; `thinking` is empty for models that do not think."""

    system: str
    tool_format: ToolFormat
    thinking: Thinking
    keep_thoughts: bool
    efficient_eos: bool
    own_calls: bool
    """The calls are written in the template's own tool format, so in its own slots too."""


@frozen
class Parts:
    """What the skeleton is filled with. Texts are Jinja expressions; an empty one leaves its lines out."""

    template: LibraryTemplate
    options: Options

    @property
    def name(self) -> str:
        return self.template.name

    @property
    def is_reasoning(self) -> bool:
        return self.template.is_reasoning

    @property
    def thinking(self) -> Thinking:
        return self.options.thinking

    @property
    def efficient_eos(self) -> bool:
        return self.options.efficient_eos

    @property
    def system_in_user(self) -> bool:
        return self.template.system_in_user

    @property
    def tools(self) -> str:
        """The macros `tool_text` and `call_text`."""
        return tool_macros(self.options.tool_format, calls_only=bool(self._tool_list))

    @property
    def _tool_list(self) -> str:
        return self.template.tool_list if self.options.own_calls else ""

    @property
    def names(self) -> str:
        """What has to outlive one turn of the loop."""
        kept = {
            "system=''": self.system_in_user,
            "last_user=-1": self.drops_thoughts,
            "unended=false": any(self.template.next_marks),
        }
        return ", ".join(name for name, needed in kept.items() if needed)

    @property
    def default_system(self) -> str:
        return literal(self.options.system)

    @property
    def prefix(self) -> str:
        return expression(self.template.prefix)

    @property
    def system(self) -> str:
        listed = expression(self._tool_list, content="tools | tojson") or "tool_text(tools)"
        content = f"system ~ ({listed} if tools else '')"
        slot = self.template.system
        if self.thinking == "off" and self.template.thinks:
            slot = slot.replace(self.template.thinks, "")
        return expression(slot, content=content)

    @property
    def user_mark(self) -> str:
        return expression(self.template.next_marks[0])

    @property
    def tool_mark(self) -> str:
        return expression(self.template.next_marks[1])

    @property
    def user(self) -> str:
        content = "ns.system ~ text" if self.system_in_user else "text"
        rest = self.template.user.removeprefix(self.template.next_marks[0])
        return expression(rest, content=content)

    @property
    def tool(self) -> str:
        return expression(self._tool_slot)

    @property
    def tool_head(self) -> str:
        return expression(split(self._tool_slot)[0])

    @property
    def tool_tail(self) -> str:
        return expression(split(self._tool_slot)[1])

    @property
    def _tool_slot(self) -> str:
        slot = self.template.tool or self.template.user
        return slot.removeprefix(self.template.next_marks[1])

    @property
    def result(self) -> str:
        return expression(self.template.result)

    @property
    def opening(self) -> str:
        return expression(self.template.opening)

    @property
    def open(self) -> str:
        return literal(self.template.thought[0])

    @property
    def close(self) -> str:
        return literal(self.template.thought[1])

    @property
    def open_word(self) -> str:
        """The mark less the white space that data may lack."""
        return literal(self.template.thought[0].strip())

    @property
    def close_word(self) -> str:
        return literal(self.template.thought[1].strip())

    @property
    def empty(self) -> str:
        """An empty thought, where a thought of the model would stand."""
        return expression(self._head + self.template.no_thought)

    @property
    def drops_thoughts(self) -> bool:
        """Whether thoughts of earlier turns are left out."""
        return self.thinking in ("on", "mixed") and not self.options.keep_thoughts

    @property
    def removes_thoughts(self) -> bool:
        return self.drops_thoughts or self.thinking == "off"

    @property
    def instead(self) -> str:
        """What stays where a thought is dropped."""
        return expression(self.template.instead_of_thought) if self.drops_thoughts else ""

    @property
    def _head(self) -> str:
        return split(self.template.assistant)[0]

    @property
    def head(self) -> str:
        """What stands before a thought, with its `~`."""
        return literal(self._head) + " ~ " if self._head else ""

    @property
    def called(self) -> str:
        """An answer up to its calls."""
        text = LINE if self.options.tool_format in LINE_FORMATS else "text"
        if self.is_reasoning:
            return text
        slot = self.template.call if self.options.own_calls else ""
        if not slot:
            return expression(self._head + CONTENT, content=text)
        said = expression(self._head + CONTENT, content=text)
        if self._head:
            said = f"({said} if text else '')"
        return expression(CONTENT + split(slot)[0], content=said)

    @property
    def answered(self) -> str:
        """An answer without calls, where that is more than the text."""
        if self.is_reasoning or not self._head:
            return ""
        return expression(self._head + CONTENT)

    @property
    def learned(self) -> str:
        return expression(CONTENT + self.template.end_mark)

    @property
    def after(self) -> str:
        """White space after the end mark: a model that has stopped never writes it."""
        after = split(self.template.assistant)[1]
        return expression(after.removeprefix(self.template.end_mark))

    @property
    def turn_end(self) -> str:
        return expression(self.template.turn_end)


LINE = "(text ~ '\\n' if text and not text.endswith('\\n') else text)"


def tool_macros(tool_format: ToolFormat, *, calls_only: bool = False) -> str:
    """Return the macros `tool_text` and `call_text` of a format."""
    text = _fragment(f"tools/{tool_format}.jinja")
    if calls_only:
        start = text.index("{%- macro tool_text")
        text = text[:start] + text[text.index("{%- macro call_text") :]
    return _fragment("json_text.jinja") + "\n" + text if "json_text" in text else text


@cache
def _fragment(name: str) -> str:
    text = (files("tunec.templates") / "chat" / name).read_text("utf-8")
    return text[text.index("{%") :].rstrip()
