"""Chat templates: a conversation becomes text, and the spans of it that carry loss."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from typing import Any, Literal, NamedTuple

from ..errors import ExitCode, UserError
from .around import GENERATION
from .conversation import Conversation
from .jinja import render as render_template
from .jinja import render_marked

Span = tuple[int, int]
"""Start and end of a piece of text, in characters, end exclusive."""
LossOn = Literal["assistant", "last", "all"]
ThoughtMarks = tuple[str, str]
"""What stands before and after a thought."""
_Placed = tuple[str, list[tuple[int, Span]]]
"""A text, and the spans of its answers with the number of the message that each is of."""


class Rendered(NamedTuple):
    """A conversation as the template writes it."""

    text: str
    spans: list[Span]
    """What carries loss, in order and apart."""
    weights: list[float]
    """How much the loss of each span counts."""


def render(
    tokenizer: Any, conversations: Sequence[Conversation], *, loss_on: LossOn
) -> list[tuple[str, list[Span]]]:
    """Return text and spans of `rendered`, for those who need no weights."""
    found = rendered(tokenizer, conversations, loss_on=loss_on)
    return [(text, spans) for text, spans, _ in found]


def rendered(
    tokenizer: Any,
    conversations: Sequence[Conversation],
    *,
    loss_on: LossOn,
    unlearned_thoughts: ThoughtMarks | None = None,
) -> list[Rendered]:
    """Return each conversation as the template writes it, and the spans of it that carry loss.

    These are the answers (`last`: the last one), or `all` of the text. An answer counts with its weight, which is 0
    for `train = false`. With `{% generation %}` marks in the template an answer is exactly what they mark. Without
    them it is what the template adds when the turn is appended, up to and including the end-of-sequence mark.
    Between `unlearned_thoughts`, these marks and the white space after them included, nothing carries loss.

    Raises:
        UserError: (DATA) the template fails on a conversation, or rewrites earlier turns when one is
            appended, so that a turn's place cannot be known without marks.
    """
    template = Template(tokenizer)
    for item in conversations:
        _check_written(template, item)
    all_answers = unlearned_thoughts is not None
    wanted = [_wanted(item, loss_on, all_answers=all_answers) for item in conversations]
    if template.has_marks and any(wanted):
        found = _by_marks(template, conversations, wanted)
    else:
        found = _by_prefix(template, conversations, wanted)
    return [
        _weighed(text, spans, conversation, loss_on, unlearned_thoughts)
        for (text, spans), conversation in zip(found, conversations, strict=True)
    ]


def _check_written(template: Template, conversation: Conversation) -> None:
    """What a template does not write would be left out in silence."""
    given = {
        "tools": bool(conversation.tools),
        "tool_calls": any(message.tool_calls for message in conversation.messages),
    }
    for name, is_given in given.items():
        if is_given and name not in template.text_with_tools:
            raise UserError(
                f"{conversation.place}: the chat template does not write `{name}`",
                help='let tunec write them: `[template] tool_format = "qwen"`, or use a template that does',
                code=ExitCode.DATA,
            )


def _wanted(conversation: Conversation, loss_on: LossOn, *, all_answers: bool) -> list[int]:
    """Return the messages whose place must be known: the learned answers, or those that `all` does not learn alike."""
    messages = enumerate(conversation.messages)
    answers = [(index, message) for index, message in messages if message.role == "assistant"]
    if loss_on == "all":
        return [index for index, message in answers if all_answers or message.weight != 1]
    learned = [index for index, message in answers if message.train]
    return learned[-1:] if loss_on == "last" else learned


def _weighed(
    text: str,
    placed: Sequence[tuple[int, Span]],
    conversation: Conversation,
    loss_on: LossOn,
    unlearned_thoughts: ThoughtMarks | None,
) -> Rendered:
    """Return the text with the spans that carry loss, and their weights."""
    pieces = [(conversation.messages[index].weight, span) for index, span in placed]
    kept = list(pieces)
    if unlearned_thoughts is not None:
        cut = _thought_pattern(unlearned_thoughts)
        kept = [(weight, part) for weight, span in pieces for part in _outside(cut, text, span)]
    if loss_on == "all":
        kept += [(1.0, span) for span in _between([span for _, span in pieces], len(text))]
        kept.sort(key=lambda piece: piece[1])
    kept = [(weight, span) for weight, span in kept if weight > 0 and span[0] < span[1]]
    return Rendered(text, [span for _, span in kept], [weight for weight, _ in kept])


def _between(spans: Sequence[Span], length: int) -> list[Span]:
    """Return what the spans leave of a text."""
    edges = [0, *(edge for span in spans for edge in span), length]
    return list(zip(edges[::2], edges[1::2], strict=True))


@cache
def _thought_pattern(marks: ThoughtMarks) -> re.Pattern[str]:
    """Match a thought with its marks, the white space after it, and before it where it begins the answer.

    The mark before the first thought may be in the prompt.
    """
    first, last = (re.escape(mark.strip()) for mark in marks)
    opened = rf"(?:\A\s*)?{first}|\A(?=(?:(?!{first}).)*{last})"
    return re.compile(rf"(?:{opened}).*?{last}\s*", re.DOTALL)


def _outside(pattern: re.Pattern[str], text: str, span: Span) -> Iterator[Span]:
    """Yield what a pattern leaves of a span."""
    place, end = span
    for found in pattern.finditer(text[place:end]):
        yield place, span[0] + found.start()
        place = span[0] + found.end()
    yield place, end


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
        """Look the template up once; a tokenizer may have another one for conversations with tools."""
        self.text: str = tokenizer.get_chat_template()
        self.text_with_tools: str = tokenizer.get_chat_template(tools=[{}])
        self.special_tokens: dict[str, Any] = tokenizer.special_tokens_map
        self.eos_token: str | None = tokenizer.eos_token
        self.has_marks = all(map(GENERATION.search, (self.text, self.text_with_tools)))

    def apply(self, prefixes: Sequence[Prefix], **names: Any) -> list[str]:
        """Return the text of each, in order; the template sees `names` too."""
        texts = [""] * len(prefixes)
        for prompt in (False, True):
            chosen = [index for index, prefix in enumerate(prefixes) if prefix.prompt is prompt]
            found, _ = self._render([prefixes[index] for index in chosen], names, prompt=prompt)
            for index, text in zip(chosen, found, strict=True):
                texts[index] = text
        return texts

    def marked(self, prefixes: Sequence[Prefix]) -> list[tuple[str, list[Span]]]:
        """Return text and marked spans of each; all are prompts, or none is."""
        texts, marks = self._render(prefixes, {}, prompt=prefixes[0].prompt, masks=True)
        spans = ([(start, end) for start, end in found] for found in marks)
        return list(zip(texts, spans, strict=True))

    def _render(
        self,
        prefixes: Sequence[Prefix],
        names: dict[str, Any],
        *,
        prompt: bool = False,
        masks: bool = False,
    ) -> tuple[list[str], list[Any]]:
        names = {**names, **self.special_tokens}

        def call(part: Sequence[Prefix]) -> tuple[list[str], list[Any]]:
            tools = list(part[0].conversation.tools) or None
            template = self.text_with_tools if tools else self.text
            if not masks:
                return [
                    render_template(template, p.messages, tools=tools, prompt=prompt, names=names)
                    for p in part
                ], []
            found = [
                render_marked(template, p.messages, tools=tools, prompt=prompt, names=names)
                for p in part
            ]
            return [text for text, _ in found], [spans for _, spans in found]

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
) -> list[_Placed]:
    """Return each text with what is marked in it of the wanted answers."""
    whole = [Prefix(conversation, len(conversation.messages)) for conversation in conversations]
    return [
        (text, _of_answers(template, conversation, spans, chosen))
        for (text, spans), conversation, chosen in zip(
            template.marked(whole), conversations, wanted, strict=True
        )
    ]


def _of_answers(
    template: Template, conversation: Conversation, spans: Sequence[Span], wanted: Sequence[int]
) -> list[tuple[int, Span]]:
    """Marks are counted, for their places can move: the marks of an answer are those that its prompt lacks.

    A mark in a later turn, such as one on the role that ends an answer, belongs to the answer before it.
    """
    messages = conversation.messages
    answers = [index for index, message in enumerate(messages) if message.role == "assistant"]
    if list(wanted) == answers and len({messages[index].weight for index in answers}) == 1:
        # All count alike, so it does not matter which is whose.
        return [(answers[0], span) for span in spans]
    prompts = template.marked([Prefix(conversation, index, prompt=True) for index in answers])
    counts = [len(marks) for _, marks in prompts]
    parts = zip(answers, counts, [*counts[1:], len(spans)], strict=True)
    return [
        (index, span) for index, first, end in parts if index in wanted for span in spans[first:end]
    ]


def _by_prefix(
    template: Template, conversations: Sequence[Conversation], wanted: Sequence[Sequence[int]]
) -> list[_Placed]:
    """Return each text with the spans that the wanted answers add to the text before them."""
    texts = template.apply([Prefix(item, len(item.messages)) for item in conversations])
    answers = [(number, index) for number, chosen in enumerate(wanted) for index in chosen]
    before = template.apply([Prefix(conversations[n], i, prompt=True) for n, i in answers])
    # The last turn's text is the whole conversation, which is there already.
    inner = [(n, i) for n, i in answers if i + 1 < len(conversations[n].messages)]
    after = dict(
        zip(inner, template.apply([Prefix(conversations[n], i + 1) for n, i in inner]), strict=True)
    )
    spans: list[list[tuple[int, Span]]] = [[] for _ in conversations]
    for (number, index), start in zip(answers, before, strict=True):
        end = after.get((number, index), texts[number])
        if not texts[number].startswith(end):
            # Where the end of the text follows the last answer alone, earlier ones are without it.
            end = end.removesuffix(template.eos_token or "")
        if not (end.startswith(start) and texts[number].startswith(end)):
            raise _rewritten(conversations[number])
        learned = (len(start), _end_of_turn(template.eos_token, end, len(start)))
        spans[number].append((index, learned))
    return list(zip(texts, spans, strict=True))


def _end_of_turn(mark: str | None, text: str, start: int) -> int:
    """The turn ends with its end-of-sequence mark; white space the template adds after it is not learned."""
    found = text.rfind(mark, start) if mark else -1
    return found + len(mark) if mark and found >= 0 else len(text.rstrip())


def _rewritten(conversation: Conversation) -> UserError:
    return UserError(
        f"{conversation.place}: the chat template changes earlier text when a turn is added, "
        "so the answers cannot be told from the prompt",
        help='use a template of the library (`[template] type = "named"`) or one with {% generation %} marks, '
        'or learn the last answer only: `objective.loss_on = "last"`',
        code=ExitCode.DATA,
    )


def _template_fault(conversation: Conversation, fault: Exception) -> UserError:
    cause = str(fault).splitlines()[0] if str(fault) else type(fault).__name__
    return UserError(
        f"{conversation.place}: the chat template refuses this conversation: {cause}",
        code=ExitCode.DATA,
    )
