"""What is trained is what is asked: a server's prompt is the beginning of the trained text, token for token.

A server renders `messages` with the saved template and its default arguments, then the model goes on. That equals
the training only where the prompt is how the trained text begins, the answer follows it, and the token that ends
the answer is one that the server stops at. Some conversations are looked at before any is prepared.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from itertools import islice
from typing import Any, Literal

import numpy as np

from ..errors import ExitCode, UserError
from .chat import Prefix, Rendered, Template, rendered
from .conversation import Conversation
from .encode import Encoded, encode
from .fitting import Options
from .items import Item, Judged, Pair

LOOKED_AT = 8
"""Conversations of a source that are looked at."""
THOUGHTS = ("reasoning_content", "reasoning", "thinking")
Kind = Literal["text", "tokens", "opening", "end", "thought"]
TEXTS: dict[Kind, str] = {
    "text": "a server's prompt is not how the trained text begins",
    "tokens": "the end of a server's prompt and the answer share a token",
    "opening": "the template opens no answer when it is asked to (`add_generation_prompt`): {what} is learned as a "
    "part of the answer",
    "end": "the trained answer ends with {what}, at which no server stops",
    "thought": "`{what}` of the messages is not written by the template",
}


@dataclass
class Findings:
    """What was found, each kind with its first place."""

    looked_at: int = 0
    counts: Counter[Kind] = field(default_factory=Counter)
    first: dict[Kind, tuple[str, str]] = field(default_factory=dict)
    """Where and what."""

    def note(self, kind: Kind, place: str, what: str) -> None:
        """Count one."""
        self.counts[kind] += 1
        self.first.setdefault(kind, (place, what))

    def told(self) -> Iterator[str]:
        """Yield a sentence for each kind."""
        for kind, count in self.counts.items():
            place, what = self.first[kind]
            text = TEXTS[kind].format(what=what)
            rest = f": {what}" if kind in ("text", "tokens") else ""
            yield f"{text} (in {count} of {self.looked_at} conversations looked at), first in {place}{rest}"


def conversations_in(items: Iterable[Item]) -> Iterator[Conversation]:
    """Yield the conversations that items are made of, those with answers."""
    for item in items:
        if isinstance(item, Pair):
            yield from (item.chosen, item.rejected)
        elif isinstance(item, Judged):
            yield item.conversation
        elif isinstance(item, Conversation):
            yield item


def check_served(
    tokenizer: Any,
    items: Iterable[Item],
    *,
    options: Options,
    stops: Sequence[int],
    limit: int = LOOKED_AT,
) -> list[str]:
    """Return warnings about where a server's prompts, or where it stops, differ from what is trained.

    Items that the template refuses are passed over: they are bad rows.

    Raises:
        UserError: (DATA) no prompt of a server is how the trained text begins: nothing that is trained would ever be
            asked.
    """
    findings = Findings()
    template = Template(tokenizer)
    for conversation in islice(conversations_in(items), limit):
        with suppress(UserError):
            _look(template, tokenizer, conversation, options, stops, findings)
    if findings.looked_at and findings.counts["text"] == findings.looked_at:
        place, what = findings.first["text"]
        raise UserError(
            f"{TEXTS['text']} in any of {findings.looked_at} conversations, first in {place}: {what}",
            help="mend the template: with `add_generation_prompt` it must write what stands before an answer; "
            'if the prompt opens a thought and the data hold none: `[template] thinking = "off"`',
            code=ExitCode.DATA,
        )
    found = list(findings.told())
    if "strftime_now" in template.text:
        found.append(
            "the template writes the day's date (`strftime_now`): on other days a server's prompt is another one"
        )
    return found


def _look(
    template: Template,
    tokenizer: Any,
    conversation: Conversation,
    options: Options,
    stops: Sequence[int],
    findings: Findings,
) -> None:
    answers = [i for i, m in enumerate(conversation.messages) if m.role == "assistant" and m.train]
    if not answers:
        return
    # A server renders what was said before anew for every answer, so only the end of a text is ever asked for.
    asked = replace(conversation, messages=conversation.messages[: answers[-1] + 1])
    trained = rendered(tokenizer, [asked], loss_on="last")[0]
    wanted = Prefix(asked, answers[-1], prompt=True)
    prompt = template.apply([wanted])[0]
    sample, beginning = encode(tokenizer, [(trained.text, trained.spans), (prompt, [])])
    findings.looked_at += 1
    place = _place(conversation)
    if not trained.text.startswith(prompt):
        findings.note("text", place, _first_difference(trained.text, prompt))
        return
    if not np.array_equal(sample.tokens[: len(beginning)], beginning.tokens):
        findings.note("tokens", place, _shared_token(sample, beginning, tokenizer))
    opening = _opening(template, wanted, trained, prompt)
    if opening:
        findings.note("opening", place, repr(opening))
    end = _end(sample, tokenizer)
    if options.loss_on != "all" and end is not None and end not in stops:
        findings.note("end", place, repr(tokenizer.backend_tokenizer.id_to_token(end)))
    # A template that reads one of these names is given all of them.
    is_written = any(name in template.text for name in THOUGHTS)
    thoughts = {name for message in asked.messages for name in THOUGHTS if name in message.notes}
    for name in sorted(thoughts if not is_written else ()):
        findings.note("thought", place, name)


def _end(sample: Encoded, tokenizer: Any) -> int | None:
    """Return the last token that is learned; white space that a template marks after it is never written."""
    for token in sample.tokens[sample.loss][::-1].tolist():
        if tokenizer.backend_tokenizer.decode([token], skip_special_tokens=False).strip():
            return int(token)
    return None


def _opening(template: Template, wanted: Prefix, trained: Rendered, prompt: str) -> str:
    """Return what the template puts before an answer and keeps from a server's prompt."""
    said = wanted.conversation.messages[wanted.length].content.strip()
    if not trained.spans or not said or template.apply([replace(wanted, prompt=False)]) != [prompt]:
        return ""
    start = trained.spans[0][0]
    found = trained.text.find(said, start)
    return trained.text[start:found].strip() if found >= 0 else ""


def _first_difference(trained: str, asked: str) -> str:
    pairs = enumerate(zip(trained, asked, strict=False))
    place = next((i for i, (left, right) in pairs if left != right), min(len(trained), len(asked)))
    before = trained[max(0, place - 20) : place]
    shown = [repr(text[place : place + 30]) for text in (trained, asked)]
    return f"after {before!r} (character {place:,}) trained is {shown[0]}, asked {shown[1]}"


def _shared_token(sample: Encoded, beginning: Encoded, tokenizer: Any) -> str:
    length = min(len(sample), len(beginning))
    differs = sample.tokens[:length] != beginning.tokens[:length]
    place = int(np.argmax(differs)) if differs.any() else length
    names = [
        tokenizer.backend_tokenizer.id_to_token(int(part.tokens[place]))
        if place < len(part)
        else "the end"
        for part in (sample, beginning)
    ]
    return f"token {place:,} of the trained text is {names[0]!r}, of the prompt {names[1]!r}"


def _place(conversation: Conversation) -> str:
    """Return source and line: the same data may lie at another path the next time."""
    line = conversation.place.rpartition(":")[2]
    return f"`{conversation.source}`, line {line}" if line.isdigit() else conversation.source
