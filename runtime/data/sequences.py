"""Items become sequences of tokens: one, or two for a pair."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from .chat import Prefix, Template, rendered
from .conversation import Conversation
from .encode import Encoded, encode, encode_documents, encode_weighed
from .fitting import Options
from .items import Document, Item, Judged, Pair, Prompt

Sequences = tuple[Encoded, ...]


def encoded(tokenizer: Any, items: Sequence[Item], options: Options) -> list[Sequences]:
    """Return the sequences of each item; all items are of one class.

    Raises:
        UserError: (DATA) the template refuses one of them.
    """
    return _ENCODERS[type(items[0])](tokenizer, items, options) if items else []


def _conversations(
    tokenizer: Any, items: Sequence[Conversation], options: Options
) -> list[Sequences]:
    texts = rendered(
        tokenizer, items, loss_on=options.loss_on, unlearned_thoughts=options.unlearned_thoughts
    )
    return [(found,) for found in encode_weighed(tokenizer, texts)]


def _documents(tokenizer: Any, items: Sequence[Document], options: Options) -> list[Sequences]:
    return [(found,) for found in encode_documents(tokenizer, [item.text for item in items])]


def _judged(tokenizer: Any, items: Sequence[Judged], options: Options) -> list[Sequences]:
    """The judgement is of the last answer."""
    texts = rendered(tokenizer, [item.conversation for item in items], loss_on="last")
    return [(found,) for found in encode_weighed(tokenizer, texts)]


def _pairs(tokenizer: Any, items: Sequence[Pair], options: Options) -> list[Sequences]:
    both = [side for item in items for side in (item.chosen, item.rejected)]
    found = encode_weighed(tokenizer, rendered(tokenizer, both, loss_on="assistant"))
    return list(zip(found[::2], found[1::2], strict=True))


def _prompts(tokenizer: Any, items: Sequence[Prompt], options: Options) -> list[Sequences]:
    asked = [item.conversation for item in items]
    wanted = [Prefix(talk, len(talk.messages), prompt=True) for talk in asked]
    texts = Template(tokenizer).apply(wanted)
    return [(found,) for found in encode(tokenizer, [(text, ()) for text in texts])]


_ENCODERS: dict[type, Callable[[Any, Sequence[Any], Options], list[Sequences]]] = {
    Conversation: _conversations,
    Document: _documents,
    Judged: _judged,
    Pair: _pairs,
    Prompt: _prompts,
}
