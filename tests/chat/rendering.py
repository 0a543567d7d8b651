"""Running templates the two ways there are: in transformers' sandbox with marks, and in plain Jinja without."""

from __future__ import annotations

import json
from functools import cache
from typing import Any, Literal

from jinja2 import Environment
from transformers.utils.chat_template_utils import render_jinja_template

from tunec.compiler.chat import build, without_marks
from tunec.compiler.spec.tokenizer import NamedTemplate, ToolFormat

from .encoder import BOS, EOS, Message, joined

Thinking = Literal["own", "on", "off", "mixed"]


def section(
    name: str,
    *,
    system: str | None = None,
    tool_format: ToolFormat | None = None,
    thinking: Thinking = "own",
    keep_thoughts: bool = False,
    efficient_eos: bool | None = None,
) -> NamedTemplate:
    """Return a `[template]` section."""
    return NamedTemplate(
        type="named",
        name=name,
        system=system,
        tool_format=tool_format,
        thinking=thinking,
        keep_thoughts=keep_thoughts,
        efficient_eos=efficient_eos,
    )


@cache
def built(options: NamedTemplate) -> str:
    """Return the template less its name, so that those that are alike are compiled once."""
    return build(options).partition("#}")[2]


def marked(
    options: NamedTemplate, messages: list[Message], tools: list[Any] | None = None
) -> tuple[str, list[tuple[int, int]]]:
    """Return text and learned spans as training sees them."""
    texts, spans = render_jinja_template(
        conversations=[messages],
        tools=tools or None,
        chat_template=built(options),
        return_assistant_tokens_mask=True,
        bos_token=BOS,
        eos_token=EOS,
    )
    return texts[0], joined(spans[0])


def served(options: NamedTemplate, messages: list[Message], **names: Any) -> str:
    """Return the text as a server with plain Jinja makes it."""
    text: str = plain(without_marks(built(options))).render(
        messages=messages, bos_token=BOS, eos_token=EOS, **names
    )
    return text


@cache
def plain(text: str) -> Any:
    environment = Environment()
    environment.filters["tojson"] = lambda value, indent=None: json.dumps(
        value, ensure_ascii=False, indent=indent
    )
    environment.globals["raise_exception"] = refuse
    return environment.from_string(text)


def refuse(message: str) -> None:
    raise ValueError(message)
