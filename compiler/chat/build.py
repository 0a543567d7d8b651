"""From the `[template]` section to one Jinja text, and to what can be said of it without running it."""

from __future__ import annotations

import re
from functools import cache
from importlib.resources import files
from typing import Any

from attrs import frozen

from ..spec.tokenizer import NamedTemplate, Template, ToolFormat
from .library import LibraryTemplate, library
from .parts import Options, Parts, Thinking

_MARKS = re.compile(r"\{%-\s*(?:end)?generation\s*%\}")


@frozen
class ChatTemplate:
    """What the rest of tunec asks of a named template."""

    name: str
    stop_words: tuple[str, ...]
    """Words that end an answer, besides the end-of-text token."""
    eos_token: str | None
    """The stop word that becomes the end-of-text token, or None: the tokenizer keeps its own."""
    special_tokens: tuple[str, ...]
    """The other stop words: they become additional special tokens."""
    efficient_eos: bool
    tool_format: ToolFormat
    thinking: Thinking
    is_reasoning: bool
    has_system: bool
    """Whether a conversation without a system prompt gets one."""
    answer_ends: bool
    """Whether the last answer ends with something that is learned."""
    every_answer_ends: bool
    """Whether the earlier answers do, too."""
    image_token: str
    video_token: str
    audio_token: str


def find(name: str) -> LibraryTemplate:
    """Return the template called `name`.

    Raises:
        KeyError: there is none.
    """
    return library()[name]


def describe(section: NamedTemplate) -> ChatTemplate:
    """Return what the section's template is.

    Raises:
        KeyError: there is no template of this name.
        ValueError: the options contradict the template.
    """
    template, options = find(section.name), _options(section)
    replaced = _chosen(section.replace_eos, template.replace_eos)
    if replaced and not template.stop:
        raise ValueError(
            f"the template `{template.name}` has no stop word to become the end-of-text token"
        )
    ends = bool(template.end_mark.strip())
    return ChatTemplate(
        name=template.name,
        stop_words=template.stop,
        eos_token=template.stop[0] if replaced else None,
        special_tokens=template.stop[1:] if replaced else template.stop,
        efficient_eos=options.efficient_eos,
        tool_format=options.tool_format,
        thinking=options.thinking,
        is_reasoning=template.is_reasoning,
        has_system=bool(options.system),
        answer_ends=ends or options.efficient_eos,
        every_answer_ends=ends or all(template.next_marks),
        image_token=template.image,
        video_token=template.video,
        audio_token=template.audio,
    )


def build(section: NamedTemplate) -> str:
    """Return the Jinja text of the section's template, in the Hugging Face convention.

    Raises:
        KeyError: there is no template of this name.
        ValueError: the options contradict the template.
    """
    parts = Parts(find(section.name), _options(section))
    text: str = _skeleton().render(p=parts)
    return text


def thought_marks(section: Template) -> tuple[str, str]:
    """Return what stands around a thought in the answers that the section's template writes."""
    if isinstance(section, NamedTemplate) and find(section.name).is_reasoning:
        first, last = find(section.name).thought
        return first.strip(), last.strip()
    return "<think>", "</think>"


def without_marks(text: str) -> str:
    """Return a template without its generation marks, for programs that do not know them."""
    return _MARKS.sub("", text)


def _options(section: NamedTemplate) -> Options:
    template = find(section.name)
    return Options(
        system=template.default_system if section.system is None else section.system,
        tool_format=section.tool_format or template.tool_format,
        thinking=_thinking(section, template),
        keep_thoughts=section.keep_thoughts,
        efficient_eos=_chosen(section.efficient_eos, template.efficient_eos),
        own_calls=section.tool_format in (None, template.tool_format),
    )


def _thinking(section: NamedTemplate, template: LibraryTemplate) -> Thinking:
    if template.is_reasoning:
        return "on" if section.thinking == "own" else section.thinking
    if section.thinking != "own" or section.keep_thoughts:
        raise ValueError(f"the template `{template.name}` has no thoughts")
    return ""


def _chosen(given: bool | None, own: bool) -> bool:
    return own if given is None else given


@cache
def _skeleton() -> Any:
    from jinja2 import Environment, StrictUndefined  # most commands build no template

    environment = Environment(
        block_start_string="[%",
        block_end_string="%]",
        variable_start_string="[[",
        variable_end_string="]]",
        comment_start_string="[#",
        comment_end_string="#]",
        undefined=StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        keep_trailing_newline=True,
    )
    return environment.from_string(
        (files("tunec.templates") / "chat/skeleton.jinja").read_text("utf-8")
    )
