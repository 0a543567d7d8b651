"""Options for a template that is not of the library: Jinja that stands around it, and changes what it is given."""

from __future__ import annotations

from ..spec.tokenizer import FileTemplate, TokenizerTemplate, ToolFormat
from .parts import LINE, LINE_FORMATS, tool_macros
from .slots import literal

PLACE = "{#- the template -#}"
"""Where the template itself goes."""
SWITCHES = {
    "thinking": ("enable_thinking",),
    "keep_thoughts": ("preserve_thinking", "clear_thinking"),
}
"""What the templates of reasoning models are asked by; an option works where the template reads one of its names."""


def around(section: TokenizerTemplate | FileTemplate) -> str | None:
    """Return the Jinja text that does what the section's options say, or None where it says nothing.

    It changes `messages` and `tools` before the template sees them, so that whoever renders the text, with
    whatever program, gets the same.
    """
    head = [*_switches(section), *_system(section), *_answers(section), *_tools(section)]
    if not head and not section.efficient_eos:
        return None
    title = "{#- Options of `[template]`, written by tunec; the template follows. #}"
    tail = _END if section.efficient_eos else ""
    return "\n".join([title, *head, PLACE]) + tail


def _switches(section: TokenizerTemplate | FileTemplate) -> list[str]:
    lines = []
    if section.thinking != "own":
        lines.append(f"{{%- set enable_thinking = {str(section.thinking == 'on').lower()} %}}")
    if section.keep_thoughts:
        lines += ["{%- set preserve_thinking = true %}", "{%- set clear_thinking = false %}"]
    return lines


def _system(section: TokenizerTemplate | FileTemplate) -> list[str]:
    if not section.system:
        return []
    given = f"[{{'role': 'system', 'content': {literal(section.system)}}}]"
    return [
        "{%- if messages[0].role != 'system' %}",
        f"  {{%- set messages = {given} + messages %}}",
        "{%- elif not messages[0].content %}",
        f"  {{%- set messages = {given} + messages[1:] %}}",
        "{%- endif %}",
    ]


def _answers(section: TokenizerTemplate | FileTemplate) -> list[str]:
    """Answers are written anew: without their thoughts, with their calls as text, or both."""
    is_off, writes_calls = section.thinking == "off", section.tool_format is not None
    if not (is_off or writes_calls):
        return []
    return [
        *([tool_macros(section.tool_format)] if section.tool_format else []),
        "{%- set own = namespace(messages=[]) %}",
        "{%- for message in messages %}",
        "  {%- set said = message %}",
        "  {%- if message.role == 'assistant' %}",
        "    {%- set text = message.content or '' %}",
        *(_WITHOUT_THOUGHT if is_off else ()),
        *(_with_calls(section.tool_format) if section.tool_format else ()),
        "    {%- set said = {'role': 'assistant', 'content': text} %}",
        *(() if writes_calls else _KEEP_CALLS),
        *(() if is_off else _KEEP_THOUGHT),
        "  {%- endif %}",
        "  {%- set own.messages = own.messages + [said] %}",
        "{%- endfor %}",
        "{%- set messages = own.messages %}",
    ]


_WITHOUT_THOUGHT = ("    {%- set text = text.split('</think>')[-1].lstrip('\\n') %}",)
_KEEP_CALLS = (
    "    {%- if message.tool_calls %}",
    "      {%- set said = dict(said, tool_calls=message.tool_calls) %}",
    "    {%- endif %}",
)
_KEEP_THOUGHT = (
    "    {%- if message.reasoning_content %}",
    "      {%- set said = dict(said, reasoning_content=message.reasoning_content) %}",
    "    {%- endif %}",
)


def _with_calls(tool_format: ToolFormat) -> list[str]:
    text = LINE if tool_format in LINE_FORMATS else "text"
    return [
        "    {%- if message.tool_calls %}",
        f"      {{%- set text = {text} ~ call_text(message.tool_calls) %}}",
        "    {%- endif %}",
    ]


def _tools(section: TokenizerTemplate | FileTemplate) -> list[str]:
    """The tools are told in the system prompt, and the template knows of none."""
    if section.tool_format is None:
        return []
    return [
        "{%- if tools %}",
        "  {%- if messages[0].role == 'system' %}",
        "    {%- set text = (messages[0].content or '') ~ tool_text(tools) %}",
        "    {%- set messages = [{'role': 'system', 'content': text}] + messages[1:] %}",
        "  {%- else %}",
        "    {%- set messages = [{'role': 'system', 'content': tool_text(tools)}] + messages %}",
        "  {%- endif %}",
        "  {%- set tools = none %}",
        "{%- endif %}",
    ]


_END = (
    "{% if messages[-1].role == 'assistant' and not add_generation_prompt %}"
    "{% generation %}{{- eos_token }}{% endgeneration %}{% endif %}"
)
