"""Chat templates: a conversation becomes text, and the spans of it that carry loss."""

from __future__ import annotations

import re
from typing import Any

from ..errors import ExitCode, UserError
from .conversation import Conversation

Span = tuple[int, int]
"""Start and end of a piece of text, in characters, end exclusive."""
MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


def render(tokenizer: Any, conversation: Conversation, *, loss_on: str) -> tuple[str, list[Span]]:
    """Return the conversation as the template writes it, and the spans that carry loss.

    With `{% generation %}` marks in the template the spans are exactly those. Without them an assistant
    turn is what the template adds when the turn is appended, up to and including the end-of-sequence mark.

    Raises:
        UserError: (DATA) the template fails on this conversation, or rewrites earlier turns when one is
            appended, so that a turn's place cannot be known without marks.
    """
    messages = [{"role": m.role, "content": m.content} for m in conversation.messages]
    if loss_on == "all":
        text = _apply(tokenizer, messages, conversation)
        return text, [(0, len(text))]
    template = tokenizer.get_chat_template()
    if MARKS.search(template):
        return _marked(tokenizer, template, messages, conversation)
    return _by_prefix(tokenizer, messages, conversation)


def _marked(
    tokenizer: Any, template: str, messages: list[dict[str, str]], conversation: Conversation
) -> tuple[str, list[Span]]:
    from transformers.utils.chat_template_utils import render_jinja_template

    try:
        rendered, spans = render_jinja_template(
            conversations=[messages],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    except Exception as fault:
        raise _template_fault(conversation, fault) from None
    return rendered[0], [(start, end) for start, end in spans[0]]


def _by_prefix(
    tokenizer: Any, messages: list[dict[str, str]], conversation: Conversation
) -> tuple[str, list[Span]]:
    full = _apply(tokenizer, messages, conversation)
    spans: list[Span] = []
    for index, message in enumerate(messages):
        if message["role"] == "assistant":
            before = _apply(tokenizer, messages[:index], conversation, prompt=True)
            after = _apply(tokenizer, messages[: index + 1], conversation)
            if not (after.startswith(before) and full.startswith(after)):
                raise UserError(
                    f"{conversation.place}: the chat template changes earlier text when a turn is added, "
                    "so the answers cannot be told from the prompt",
                    help='use a template with {% generation %} marks: `[template] type = "file"`',
                    code=ExitCode.DATA,
                )
            spans.append((len(before), _end_of_turn(tokenizer, after, len(before))))
    return full, spans


def _end_of_turn(tokenizer: Any, text: str, start: int) -> int:
    """The turn ends with its end-of-sequence mark; white space the template adds after it is not learned."""
    mark = tokenizer.eos_token
    found = text.rfind(mark, start) if mark else -1
    return found + len(mark) if found >= 0 else len(text.rstrip())


def _apply(
    tokenizer: Any,
    messages: list[dict[str, str]],
    conversation: Conversation,
    *,
    prompt: bool = False,
) -> str:
    try:
        text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=prompt)
    except Exception as fault:
        raise _template_fault(conversation, fault) from None
    return str(text)


def _template_fault(conversation: Conversation, fault: Exception) -> UserError:
    cause = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    return UserError(
        f"{conversation.place}: the chat template refuses this conversation: {cause}",
        code=ExitCode.DATA,
    )
