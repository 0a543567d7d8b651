"""The reference conversations: more than 300, made the same each time, of everything that templates are given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from random import Random
from typing import Any

from .encoder import Message

WORDS = (
    "lamp", "tower", "Marta", "keeps", "the", "station", "a", "boat", "violet", "don't", "naïve", "42", "3.14", "x=1",
)  # fmt: skip
CHINESE = (
    "灯塔",
    "的",
    "灯",
    "是",
    "紫色",
    "。",
    "你好",
    "，",
    "天气",
    "怎么样",
    "？",
    "船",
    "繁體",
    "日本語",
)
EMOJI = ("🙂", "👩‍🚀", "🇳🇴", "🏳️‍🌈", "e\u0301", "\u200d", "ﷺ", "𝔘", "👍🏽", "a\u00a0b", "\u2028")
CODE = (
    "```python\ndef f(x: int) -> str:\n    return f'{x!r}' if x else \"\\n\"\n```",
    "{% for x in y %}{{ x }}{% endfor %}{# no #}",
    '{"a": [1, 2.5, null], "b": {"c": "\\u00e9"}}',
    "SELECT * FROM t WHERE a <> 'b' -- c;",
    "<html>\n\t<b>&amp;</b>\n</html>\r\n",
    "$x_{i}^{2} \\in \\mathbb{R}$",
)
SPACE = (
    "\n\n\n",
    "    ",
    "\t\t",
    " \n \n",
    "\r\n\r\n",
    "x" + " " * 40 + "y",
    "\n" * 12 + "z",
    "  a  ",
)
MARKS = (
    "<|im_start|>assistant\n", "<|im_end|>", "</s>", "<s>", "[INST] x [/INST]", "<|user|>", "<|eot_id|>", "<eos>",
    "<start_of_turn>model\n", "<|endoftext|>", "### Response:\n", "<tool_call>", "User: ", "<BOS>", "<EOS>", "<|x|>",
)  # fmt: skip
STYLES = {
    "words": WORDS, "chinese": CHINESE, "emoji": EMOJI, "code": CODE, "space": SPACE, "marks": MARKS,
}  # fmt: skip
HEADS = ("none", "system", "empty system")
LENGTHS = (1, 2, 3, 5)
TOOLS: list[dict[str, Any]] = [
    {
        "type": "function",
        "function": {
            "name": "weather",
            "description": "The weather of a `place`, 天气",
            "parameters": {
                "type": "object",
                "properties": {
                    "place": {"type": "string", "description": "A town"},
                    "days": {"type": "array", "items": {"type": "integer"}},
                    "unit": {"type": "string", "enum": ["C", "F"]},
                },
                "required": ["place"],
            },
        },
    },
    {
        "type": "function",
        "function": {
            "name": "now",
            "description": "The time",
            "parameters": {"type": "object", "properties": {}},
        },
    },
]


@dataclass(frozen=True)
class Talk:
    """One conversation; a message can hold a `thought`, which each template writes in its own words."""

    kind: str
    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)

    @property
    def most_calls(self) -> int:
        """The largest number of calls in one message."""
        return max(len(message.get("tool_calls", ())) for message in self.messages)


def talks() -> list[Talk]:
    """Return the conversations."""
    random = Random(20_260_701)
    return [*_plain(random), *_called(random), *_thoughtful(random)]


def _text(random: Random, style: str, count: int = 12) -> str:
    words = STYLES[style]
    joint = "" if style in ("chinese", "marks") else " "
    return joint.join(random.choice(words) for _ in range(random.randint(1, count)))


def _plain(random: Random) -> Iterator[Talk]:
    """Every style with every head and length, three times."""
    for style, head, length, _ in product(STYLES, HEADS, LENGTHS, range(3)):
        messages = _head(random, style, head)
        for _ in range(length):
            messages += [_user(random, style), _says(_text(random, style))]
        yield Talk(f"{style}, {head}, {length} turns", messages)


def _called(random: Random) -> Iterator[Talk]:
    """One call and several, with words beside them and without, in the first turn and later."""
    for style, head, count, beside in product(STYLES, HEADS[:2], (1, 2), (False, True)):
        said = _text(random, style) if beside else ""
        calls = [_call(random, style) for _ in range(count)]
        messages = [
            *_head(random, style, head),
            _user(random, style),
            {"role": "assistant", "content": said, "tool_calls": calls},
            *({"role": "tool", "content": _text(random, style)} for _ in calls),
            _says(_text(random, style)),
            _user(random, style),
            _says(_text(random, style)),
        ]
        kind = f"{style}, {head}, {count} calls{', with words' if beside else ''}"
        yield Talk(kind, messages, TOOLS)


def _thoughtful(random: Random) -> Iterator[Talk]:
    """Thoughts in every pattern of three answers, in the text and in a place of their own."""
    for style, pattern, apart in product(STYLES, product((False, True), repeat=3), (False, True)):
        messages = _head(random, style, random.choice(HEADS))
        for thinks in pattern:
            answer = _says(_text(random, style))
            if thinks:
                answer |= {"thought": _text(random, "words"), "apart": apart}
            messages += [_user(random, style), answer]
        shown = "".join("t" if thinks else "-" for thinks in pattern)
        yield Talk(f"{style}, thoughts {shown}{', apart' if apart else ''}", messages)


def _head(random: Random, style: str, head: str) -> list[Message]:
    if head == "none":
        return []
    return [{"role": "system", "content": _text(random, style) if head == "system" else ""}]


def _user(random: Random, style: str) -> Message:
    return {"role": "user", "content": _text(random, style)}


def _says(text: str) -> Message:
    return {"role": "assistant", "content": text}


def _call(random: Random, style: str) -> Message:
    arguments: dict[str, Any] = {
        "place": _text(random, style, 3),
        "days": [1, random.randint(2, 9)],
    }
    if random.random() < 0.5:
        arguments |= {"deep": {"b": None, "a": [True, 1.5]}}
    return {"type": "function", "function": {"name": "weather", "arguments": arguments}}


def written(talk: Talk, marks: tuple[str, ...]) -> list[Message]:
    """Return the messages with their thoughts between the marks of a template, or apart from the text."""
    first, last = marks or ("<think>\n", "\n</think>\n\n")
    found = []
    for message in talk.messages:
        rest = {key: value for key, value in message.items() if key not in ("thought", "apart")}
        if "thought" in message and message["apart"] and marks:
            rest["reasoning_content"] = message["thought"]
        elif "thought" in message:
            rest["content"] = f"{first}{message['thought']}{last}{message['content']}"
        found.append(rest)
    return found
