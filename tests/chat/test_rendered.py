"""What carries loss, and how much: weights of answers, thoughts that are left out, notes that reach the template."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from chat.rendering import section
from chat.test_templates import REASONING, TOOLS, think
from tunec.compiler.chat import build, library, thought_marks
from tunec.compiler.spec.tokenizer import FileTemplate
from tunec.runtime.data import Messages, Options, read
from tunec.runtime.data.chat import Rendered, rendered
from tunec.runtime.data.conversation import Conversation, Message
from tunec.runtime.data.sequences import encoded
from tunec.runtime.errors import UserError

END = "<|im_end|>"
MARKED = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


@pytest.fixture
def tokenizer(tmp_path: Path) -> Any:
    """A tiny tokenizer."""
    return tiny.make_tokenizer(tmp_path / "tokenizer")


def from_file(tmp_path: Path, *messages: dict[str, Any], **columns: Any) -> Conversation:
    """Return the conversation that a row with these messages holds."""
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"messages": messages, **columns}))
    (found,) = read([Messages(path=path, name="rows", tools="tools")])
    return found


def user(text: str) -> dict[str, Any]:
    return {"role": "user", "content": text}


def says(text: str, **more: Any) -> dict[str, Any]:
    return {"role": "assistant", "content": text, **more}


def shown(found: Rendered) -> list[tuple[str, float]]:
    return [(found.text[start:end], w) for (start, end), w in zip(found.spans, found.weights, strict=True)]  # fmt: skip


TALK = [
    user("1"), says("a", weight=0.5), user("2"), says("b", weight=0), user("3"), says("c"),
    user("4"), says("d", train=False, weight=3), user("5"), says("e", weight=2),
]  # fmt: skip


@pytest.mark.parametrize("template", [MARKED, tiny.TEMPLATE], ids=["marked", "plain"])
def test_weights(tokenizer: Any, tmp_path: Path, template: str) -> None:
    """Every answer counts with its weight, in the text of the template with marks and without."""
    tokenizer.chat_template = template
    talk = from_file(tmp_path, *TALK)
    (found,) = rendered(tokenizer, [talk], loss_on="assistant")
    assert shown(found) == [(f"a{END}", 0.5), (f"c{END}", 1.0), (f"e{END}", 2.0)]
    (found,) = rendered(tokenizer, [talk], loss_on="last")
    assert shown(found) == [(f"e{END}", 2.0)]


@pytest.mark.parametrize("template", [MARKED, tiny.TEMPLATE], ids=["marked", "plain"])
def test_weights_of_all(tokenizer: Any, tmp_path: Path, template: str) -> None:
    """Where all of the text is learned, answers count with their weight and the rest once."""
    tokenizer.chat_template = template
    (found,) = rendered(tokenizer, [from_file(tmp_path, *TALK)], loss_on="all")
    weights = {text: weight for text, weight in shown(found) if text.endswith(END)}
    assert weights == {f"a{END}": 0.5, f"e{END}": 2.0}
    left_out = set(range(len(found.text)))
    for start, end in found.spans:
        left_out -= set(range(start, end))
    assert "".join(found.text[place] for place in sorted(left_out)) == f"b{END}d{END}"
    assert [weight for text, weight in shown(found) if not text.endswith(END)] == [1.0] * 5
    (plain,) = rendered(tokenizer, [from_file(tmp_path, user("1"), says("a"))], loss_on="all")
    assert shown(plain) == [(plain.text, 1.0)]


@pytest.mark.parametrize("weight", [True, "1", -1, 1001, [1]])
def test_bad_weights(tmp_path: Path, weight: Any) -> None:
    """A weight is a number that can be one."""
    with pytest.raises(UserError, match=r"`weight` of message 2 is .*, expected a number from 0 to 1000"):  # fmt: skip
        from_file(tmp_path, user("1"), says("a", weight=weight))


# Thoughts.


def learned(found: Rendered) -> list[str]:
    return [text for text, _ in shown(found)]


@pytest.mark.parametrize("template", [MARKED, tiny.TEMPLATE], ids=["marked", "plain"])
def test_thoughts_without_loss(tokenizer: Any, template: str) -> None:
    """A thought, its marks and the white space after it carry no loss; what is said before and after it does."""
    tokenizer.chat_template = template
    answers = {
        "<think>\nhm </think > \n</think>\n\nyes": [f"yes{END}"],
        "<think></think>yes": [f"yes{END}"],
        "first <think>a</think> then <think>b\n</think> last": ["first ", "then ", f"last{END}"],
        "no thought, 1 < 2": [f"no thought, 1 < 2{END}"],
        "hm\n</think>\n\nyes": [f"yes{END}"],
        "<think>unended": [f"<think>unended{END}"],
    }
    for answer, expected in answers.items():
        talk = Conversation((Message("user", "q"), Message("assistant", answer)), "s", "p")
        marks = thought_marks(FileTemplate(type="file", path="x"))
        (found,) = rendered(tokenizer, [talk], loss_on="assistant", unlearned_thoughts=marks)
        assert learned(found) == expected
        (found,) = rendered(tokenizer, [talk], loss_on="all", unlearned_thoughts=marks)
        text = "".join(learned(found))
        assert text == f"<|im_start|>user\nq{END}\n<|im_start|>assistant\n{''.join(expected)}\n"


@pytest.mark.parametrize("name", REASONING)
def test_thoughts_of_every_template(tokenizer: Any, name: str) -> None:
    """In the words of every reasoning template, exactly the answer and its end are learned, to the token."""
    chosen = section(name, keep_thoughts=True)
    tokenizer.chat_template = build(chosen)
    answer = think(name, "hm\nso 天", "The lamp is violet.")
    talk = Conversation((Message("user", "q"), Message("assistant", answer)), "s", "p")
    options = Options(max_length=999, too_long="error", unlearned_thoughts=thought_marks(chosen))
    ((sample,),) = encoded(tokenizer, [talk], options)
    said = tokenizer.decode(sample.tokens[sample.loss])
    assert said.startswith("The lamp is violet.")
    assert "hm" not in said
    before = tokenizer.decode(sample.tokens[: int(np.argmax(sample.loss))])
    assert "so 天" in before


def test_marks_of_a_template_that_does_not_think() -> None:
    """Without words of its own, a template's answers hold thoughts in the usual ones."""
    assert thought_marks(section("qwen")) == ("<think>", "</think>")
    assert all(thought_marks(section(name)) for name in library())


# What else templates read.

NOTED = (
    "{% for m in messages %}{{ m.role + ':' + m.content }}"
    "{% if m.reasoning_content %}{{ '(' + m.reasoning_content + ')' }}{% endif %}"
    "{% for call in m.tool_calls or [] %}{{ '[' + call.id + ' ' + call.function.name + ']' }}{% endfor %}"
    "{% if m.tool_call_id %}{{ '<' + m.tool_call_id + ' ' + m.name + '>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{# tools #}"
)


def called(**more: Any) -> list[dict[str, Any]]:
    call = {"id": "c1", "type": "function", "function": {"name": "now", "arguments": "{}"}}
    return [
        user("Time?"),
        says("Let me look.", tool_calls=[call], **more),
        {"role": "tool", "content": "noon", "tool_call_id": "c1", "name": "now"},
        says("Noon."),
    ]


def test_notes_reach_the_template(tokenizer: Any, tmp_path: Path) -> None:
    """Ids, names, thoughts and what is said beside a call are in the text, for rows that have them."""
    tokenizer.chat_template = NOTED
    talk = from_file(tmp_path, *called(reasoning_content="hm"), tools=TOOLS)
    (found,) = rendered(tokenizer, [talk], loss_on="last")
    assert found.text.splitlines() == [
        "user:Time?",
        "assistant:Let me look.(hm)[c1 now]",
        "tool:noon<c1 now>",
        "assistant:Noon.",
    ]


@pytest.mark.parametrize("key", ["reasoning_content", "reasoning", "thinking"])
def test_names_of_thoughts(tokenizer: Any, tmp_path: Path, key: str) -> None:
    """A thought reaches the template under any of its names."""
    tokenizer.chat_template = build(section("qwen3"))
    talk = from_file(tmp_path, user("q"), says("yes", **{key: "hm"}))
    (found,) = rendered(tokenizer, [talk], loss_on="assistant")
    assert learned(found) == [f"<think>\nhm\n</think>\n\nyes{END}"]


def test_nothing_is_left_out_in_silence(tokenizer: Any, tmp_path: Path) -> None:
    """A template that knows no tools, or no calls, is refused for rows that have some."""
    talk = from_file(tmp_path, *called(), tools=TOOLS)
    for template, missing in ((tiny.TEMPLATE, "tools"), (tiny.TEMPLATE + "{{ tools }}", "tool_calls")):  # fmt: skip
        tokenizer.chat_template = template
        with pytest.raises(UserError) as caught:
            rendered(tokenizer, [talk], loss_on="assistant")
        assert caught.value.message.endswith(f"the chat template does not write `{missing}`")
        assert "tool_format" in caught.value.help


@pytest.mark.parametrize("key", ["name", "tool_call_id", "reasoning_content"])
def test_notes_are_text(tmp_path: Path, key: str) -> None:
    """What is no text is said, and not passed over."""
    with pytest.raises(UserError, match=rf"`{key}` of message 2 is .*, expected text"):
        from_file(tmp_path, user("q"), says("a", **{key: {"x": 1}}))
