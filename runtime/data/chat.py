"""Chat templates: a conversation becomes text, and the spans of it that carry loss."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Literal

from ..errors import ExitCode, UserError
from .conversation import Conversation

Span = tuple[int, int]
"""Start and end of a piece of text, in characters, end exclusive."""
MARKS = re.compile(r"\{%[-+]?\s*generation\s*[-+]?%\}")


LossOn = Literal["assistant", "last", "all"]


def render(
    tokenizer: Any, conversations: Sequence[Conversation], *, loss_on: LossOn
) -> list[tuple[str, list[Span]]]:
    """Return each conversation as the template writes it, and the spans of it that carry loss.

    These are the answers (`last`: the last one) less those with `train = false`, or `all` of the text less those.
    With `{% generation %}` marks in the template an answer is exactly what they mark. Without them it is
    what the template adds when the turn is appended, up to and including the end-of-sequence mark.

    Raises:
        UserError: (DATA) the template fails on a conversation, or rewrites earlier turns when one is
            appended, so that a turn's place cannot be known without marks.
    """
    template = Template(tokenizer)
    wanted = [_wanted(conversation, loss_on) for conversation in conversations]
    if template.has_marks and any(wanted):
        found = _by_marks(template, conversations, wanted)
    else:
        found = _by_prefix(template, conversations, wanted)
    if loss_on == "all":
        return [(text, _between(spans, len(text))) for text, spans in found]
    return found


def _wanted(conversation: Conversation, loss_on: LossOn) -> list[int]:
    """Return the messages whose place must be known: the learned answers, or those that are left out of `all`."""
    messages = enumerate(conversation.messages)
    answers = [(index, message) for index, message in messages if message.role == "assistant"]
    if loss_on == "all":
        return [index for index, message in answers if not message.train]
    learned = [index for index, message in answers if message.train]
    return learned[-1:] if loss_on == "last" else learned


def _between(spans: Sequence[Span], length: int) -> list[Span]:
    """Return what the spans leave of a text."""
    edges = [0, *(edge for span in spans for edge in span), length]
    return list(zip(edges[::2], edges[1::2], strict=True))


@dataclass(frozen=True)
class Prefix:
    """The first messages of a conversation, with the start of an answer after them if `prompt`."""

    conversation: Conversation
    length: int
    prompt: bool = False

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The messages as templates take them."""
        return [message.for_template() for message in self.conversation.messages[: self.length]]


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

    def marked(self, prefixes: Sequence[Prefix]) -> list[tuple[str, list[Span]]]:
        """Return text and marked spans of each; all are prompts, or none is."""
        texts, marks = self._render(prefixes, prompt=prefixes[0].prompt, masks=True)
        spans = ([(start, end) for start, end in found] for found in marks)
        return list(zip(texts, spans, strict=True))

    def _render(
        self, prefixes: Sequence[Prefix], *, prompt: bool = False, masks: bool = False
    ) -> tuple[list[str], list[Any]]:
        from transformers.utils.chat_template_utils import render_jinja_template

        def call(part: Sequence[Prefix]) -> tuple[list[str], list[Any]]:
            found: tuple[list[str], list[Any]] = render_jinja_template(
                conversations=[prefix.messages for prefix in part],
                tools=list(part[0].conversation.tools) or None,
                chat_template=self.text,
                add_generation_prompt=prompt,
                return_assistant_tokens_mask=masks,
                **self.special_tokens,
            )
            return found

        texts: list[str] = []
        marks: list[Any] = []
        # One call renders many conversations, with the same tools.
        for _, group in groupby(prefixes, key=lambda prefix: prefix.conversation.tools):
            part = list(group)
            try:
                more, found = call(part)
            except Exception:
                more, found = _one_by_one(call, part)
            texts += more
            marks += found
        return texts, marks


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


def _by_marks(
    template: Template, conversations: Sequence[Conversation], wanted: Sequence[Sequence[int]]
) -> list[tuple[str, list[Span]]]:
    """Return each text with what is marked in it of the wanted answers."""
    whole = [Prefix(conversation, len(conversation.messages)) for conversation in conversations]
    found = template.marked(whole)
    for number, (conversation, chosen) in enumerate(zip(conversations, wanted, strict=True)):
        answers = [i for i, m in enumerate(conversation.messages) if m.role == "assistant"]
        if list(chosen) != answers:
            text, spans = found[number]
            found[number] = text, _of_answers(template, conversation, spans, answers, chosen)
    return found


def _of_answers(
    template: Template,
    conversation: Conversation,
    spans: Sequence[Span],
    answers: Sequence[int],
    wanted: Sequence[int],
) -> list[Span]:
    """Marks are counted, for their places can move: the marks of an answer are those that its prompt lacks.

    A mark in a later turn, such as one on the role that ends an answer, belongs to the answer before it.
    """
    prompts = template.marked([Prefix(conversation, index, prompt=True) for index in answers])
    counts = [len(marks) for _, marks in prompts]
    parts = zip(answers, counts, [*counts[1:], len(spans)], strict=True)
    return [span for index, first, end in parts if index in wanted for span in spans[first:end]]


def _by_prefix(
    template: Template, conversations: Sequence[Conversation], wanted: Sequence[Sequence[int]]
) -> list[tuple[str, list[Span]]]:
    """Return each text with the spans that the wanted answers add to the text before them."""
    texts = template.apply([Prefix(item, len(item.messages)) for item in conversations])
    answers = [(number, index) for number, chosen in enumerate(wanted) for index in chosen]
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
    return list(zip(texts, spans, strict=True))


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
