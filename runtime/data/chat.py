"""Chat templates: a conversation becomes text, and the spans of it that carry loss."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from ..errors import ExitCode, UserError
from .conversation import Conversation

Span = tuple[int, int]
"""Start and end of a piece of text, in characters, end exclusive."""
MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


def render(
    tokenizer: Any, conversations: Sequence[Conversation], *, loss_on: str
) -> list[tuple[str, list[Span]]]:
    """Return each conversation as the template writes it, and the spans of it that carry loss.

    With `{% generation %}` marks in the template the spans are exactly those. Without them an assistant
    turn is what the template adds when the turn is appended, up to and including the end-of-sequence mark.

    Raises:
        UserError: (DATA) the template fails on a conversation, or rewrites earlier turns when one is
            appended, so that a turn's place cannot be known without marks.
    """
    template = Template(tokenizer)
    if loss_on != "all" and template.has_marks:
        return template.marked(conversations)
    prefixes = [Prefix(conversation, len(conversation.messages)) for conversation in conversations]
    texts = template.apply(prefixes)
    if loss_on == "all":
        return [(text, [(0, len(text))]) for text in texts]
    spans = _spans_by_prefix(template, conversations, texts)
    return list(zip(texts, spans, strict=True))


@dataclass(frozen=True)
class Prefix:
    """The first messages of a conversation, with the start of an answer after them if `prompt`."""

    conversation: Conversation
    length: int
    prompt: bool = False

    @property
    def messages(self) -> list[dict[str, str]]:
        """The messages as templates take them."""
        chosen = self.conversation.messages[: self.length]
        return [{"role": message.role, "content": message.content} for message in chosen]


class Template:
    """A tokenizer's chat template, applied to many conversations at a time."""

    def __init__(self, tokenizer: Any) -> None:
        """Look the template up once."""
        self.text: str = tokenizer.get_chat_template()
        self.special_tokens: dict[str, Any] = tokenizer.special_tokens_map
        self.eos_token: str | None = tokenizer.eos_token
        self.has_marks = MARKS.search(self.text) is not None

    def apply(self, prefixes: Sequence[Prefix]) -> list[str]:
        """Return the text of each, in order."""
        texts = [""] * len(prefixes)
        for prompt in (False, True):
            chosen = [index for index, prefix in enumerate(prefixes) if prefix.prompt is prompt]
            rendered, _ = self._render([prefixes[index] for index in chosen], prompt=prompt)
            for index, text in zip(chosen, rendered, strict=True):
                texts[index] = text
        return texts

    def marked(self, conversations: Sequence[Conversation]) -> list[tuple[str, list[Span]]]:
        """Return text and marked spans of each."""
        whole = [Prefix(conversation, len(conversation.messages)) for conversation in conversations]
        texts, marks = self._render(whole, masks=True)
        spans = ([(start, end) for start, end in found] for found in marks)
        return list(zip(texts, spans, strict=True))

    def _render(
        self, prefixes: Sequence[Prefix], *, prompt: bool = False, masks: bool = False
    ) -> tuple[list[str], list[Any]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        def call(part: Sequence[Prefix]) -> tuple[list[str], list[Any]]:
            found: tuple[list[str], list[Any]] = render_jinja_template(
                conversations=[prefix.messages for prefix in part],
                chat_template=self.text,
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=masks,
                **self.special_tokens,
            )
            return found

        try:
            return call(prefixes)
        except Exception:
            return _one_by_one(call, prefixes)


def _one_by_one(
    call: Callable[[Sequence[Prefix]], tuple[list[str], list[Any]]], prefixes: Sequence[Prefix]
) -> tuple[list[str], list[Any]]:
    """Find the conversation that the template refuses, for the message."""
    texts: list[str] = []
    marks: list[Any] = []
    for prefix in prefixes:
        try:
            text, mark = call([prefix])
        except Exception as fault:
            raise _template_fault(prefix.conversation, fault) from None
        texts += text
        marks += mark
    return texts, marks


def _spans_by_prefix(
    template: Template, conversations: Sequence[Conversation], texts: Sequence[str]
) -> list[list[Span]]:
    """Return the spans that each assistant turn adds to the text before it."""
    answers = [
        (number, index)
        for number, conversation in enumerate(conversations)
        for index, message in enumerate(conversation.messages)
        if message.role == "assistant"
    ]
    before = template.apply([Prefix(conversations[n], i, prompt=True) for n, i in answers])
    # The last turn's text is the whole conversation, which is there already.
    inner = [(n, i) for n, i in answers if i + 1 < len(conversations[n].messages)]
    after = dict(
        zip(inner, template.apply([Prefix(conversations[n], i + 1) for n, i in inner]), strict=True)
    )
    spans: list[list[Span]] = [[] for _ in conversations]
    for (number, index), start in zip(answers, before, strict=True):
        end = after.get((number, index), texts[number])
        if not (end.startswith(start) and texts[number].startswith(end)):
            raise _rewritten(conversations[number])
        spans[number].append((len(start), _end_of_turn(template.eos_token, end, len(start))))
    return spans


def _end_of_turn(mark: str | None, text: str, start: int) -> int:
    """The turn ends with its end-of-sequence mark; white space the template adds after it is not learned."""
    found = text.rfind(mark, start) if mark else -1
    return found + len(mark) if mark and found >= 0 else len(text.rstrip())


def _rewritten(conversation: Conversation) -> UserError:
    return UserError(
        f"{conversation.place}: the chat template changes earlier text when a turn is added, "
        "so the answers cannot be told from the prompt",
        help='use a template with {% generation %} marks: `[template] type = "file"`',
        code=ExitCode.DATA,
    )


def _template_fault(conversation: Conversation, fault: Exception) -> UserError:
    cause = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    return UserError(
        f"{conversation.place}: the chat template refuses this conversation: {cause}",
        code=ExitCode.DATA,
    )
