"""Options for the tokenizer's own template and for a user's: whoever renders the saved text gets what they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import tiny
from chat.printed import TOOLS as PRINTED
from chat.test_templates import TOOLS
from tunec.compiler.chat import around
from tunec.compiler.spec.tokenizer import TokenizerTemplate
from tunec.runtime import models
from tunec.runtime.data import Tokenizer
from tunec.runtime.data.chat import rendered
from tunec.runtime.data.conversation import Conversation, Message
from tunec.runtime.data.tool_calls import ToolCall, parse
from tunec.runtime.errors import UserError

ASKED = {"role": "user", "content": "Hi"}
ANSWERED = {"role": "assistant", "content": "Yes."}
THINKS = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.reasoning_content %}"
    "{{ '<think>' + m.reasoning_content + '</think>' }}{% elif loop.last and m.role == 'assistant' %}"
    "{{ '<think></think>' }}{% endif %}{{ m.content + '<|im_end|>\n' }}"
    "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is defined and not enable_thinking %}{{ '<think></think>' }}{% endif %}{% endif %}\n"
)


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """The folder of a tokenizer."""
    tiny.make_tokenizer(tmp_path / "model")
    return tmp_path / "model"


def with_options(model: Path, template: str | None = None, **options: Any) -> Any:
    """Return the tokenizer with the options as plain transformers loads what a run has saved."""
    text = around(TokenizerTemplate(**options))
    assert text is not None
    (model / "around.jinja").write_text(text, encoding="utf-8")
    if template is not None:
        (model / "chat_template.jinja").write_text(template, encoding="utf-8")
    chosen = Tokenizer(path=model, around_template=model / "around.jinja")
    loaded, light = chosen.load(), chosen.load_light()
    assert loaded.chat_template == light.get_chat_template()
    loaded.save_pretrained(model / "saved")
    return AutoTokenizer.from_pretrained(model / "saved")


def text_of(tokenizer: Any, *messages: dict[str, Any], **names: Any) -> str:
    text: str = tokenizer.apply_chat_template(list(messages), tokenize=False, **names)
    return text


def test_nothing_said() -> None:
    """A section without options puts nothing around."""
    assert around(TokenizerTemplate()) is None
    assert around(TokenizerTemplate(efficient_eos=False)) is None


def test_system(model: Path) -> None:
    """The system prompt is that of conversations that have none, or an empty one."""
    tokenizer = with_options(model, system="Be 'brief' {{ x }}\n")
    said = "<|im_start|>system\nBe 'brief' {{ x }}\n<|im_end|>\n"
    plain = "<|im_start|>user\nHi<|im_end|>\n"
    assert text_of(tokenizer, ASKED) == said + plain
    assert text_of(tokenizer, {"role": "system", "content": ""}, ASKED) == said + plain
    other = text_of(tokenizer, {"role": "system", "content": "Be long."}, ASKED)
    assert other == "<|im_start|>system\nBe long.<|im_end|>\n" + plain


@pytest.mark.parametrize("format", sorted(PRINTED))
def test_tool_format(model: Path, format: Any) -> None:
    """Tools and calls are written in any format by a template that knows none, and can be read back."""
    tokenizer = with_options(model, tool_format=format)
    function = {"name": "weather", "arguments": {"place": "Ur"}}
    called = {"role": "assistant", "content": "Wait.", "tool_calls": [{"type": "function", "function": function}]}  # fmt: skip
    text = text_of(tokenizer, {"role": "system", "content": "S"}, ASKED, called, tools=TOOLS)
    assert text.startswith(f"<|im_start|>system\nS{PRINTED[format](TOOLS)}<|im_end|>\n")
    assert parse(text.partition("Wait.")[2].removesuffix("<|im_end|>\n"), format, tools=TOOLS) == [
        ToolCall("weather", {"place": "Ur"})
    ]
    bare = text_of(tokenizer, ASKED, tools=TOOLS)
    assert bare.startswith(f"<|im_start|>system\n{PRINTED[format](TOOLS)}<|im_end|>\n")
    assert text_of(tokenizer, ASKED, ANSWERED) == (
        "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\nYes.<|im_end|>\n"
    )


def test_thinking_off(model: Path) -> None:
    """Thoughts are removed, however they are written, and the prompt holds an empty one, whatever is asked."""
    tokenizer = with_options(model, THINKS, thinking="off")
    end = "<|im_start|>assistant\n<think></think>Yes.<|im_end|>\n"
    for answer in (
        ANSWERED,
        {**ANSWERED, "content": "<think>\nhm\n</think>\n\nYes."},
        {**ANSWERED, "reasoning_content": "hm"},
    ):
        assert text_of(tokenizer, ASKED, answer).endswith(end)
    prompt = text_of(tokenizer, ASKED, add_generation_prompt=True, enable_thinking=True)
    assert prompt.endswith("assistant\n<think></think>")
    turns = (Message("user", "Hi"), Message("assistant", "<think>hm</think>Yes."))
    ((text, spans, _),) = rendered(tokenizer, [Conversation(turns, "s", "p")], loss_on="assistant")
    assert [text[start:end] for start, end in spans] == ["Yes.<|im_end|>"]


def test_thinking_on(model: Path) -> None:
    """The prompt is open, and the thought, or an empty one, is learned."""
    tokenizer = with_options(model, THINKS, thinking="on")
    prompt = text_of(tokenizer, ASKED, add_generation_prompt=True, enable_thinking=False)
    assert prompt.endswith("assistant\n")
    answer = Message("assistant", "Yes.", notes={"reasoning_content": "hm"})
    for said, expected in ((answer, "<think>hm</think>"), (Message("assistant", "Yes."), "<think></think>")):  # fmt: skip
        talk = Conversation((Message("user", "Hi"), said), "s", "p")
        ((text, spans, _),) = rendered(tokenizer, [talk], loss_on="assistant")
        assert [text[start:end] for start, end in spans] == [f"{expected}Yes.<|im_end|>"]


def test_keep_thoughts(model: Path) -> None:
    """The switch that a template has for it is set; either of the names that are in use will do."""
    for switch in ("preserve_thinking", "not clear_thinking | default(true)"):
        template = f"{{{{ 'kept' if {switch} else 'dropped' }}}}"
        tokenizer = with_options(model, template, keep_thoughts=True)
        assert text_of(tokenizer, ASKED) == "kept"


@pytest.mark.parametrize(
    ("option", "names"),
    [
        ({"thinking": "off"}, "`enable_thinking`"),
        ({"keep_thoughts": True}, "`preserve_thinking` nor `clear_thinking`"),
    ],
)
def test_options_without_effect(model: Path, option: dict[str, Any], names: str) -> None:
    """An option that the template cannot be asked for is refused where the template is known."""
    with pytest.raises(UserError) as caught:
        with_options(model, **option)
    name = next(iter(option))
    assert caught.value.message == (
        f"`template.{name}` has no effect: the chat template does not read {names}"
    )


MARKED = (
    "{% for m in messages %}{{ m.role + ':' }}{% generation %}{{ m.content }}{% endgeneration %}{% endfor %}"
    "{% if add_generation_prompt %}{{ 'assistant:' }}{% endif %}"
)


@pytest.mark.parametrize("template", [MARKED, MARKED.replace("{% generation %}", "").replace("{% endgeneration %}", "")])  # fmt: skip
def test_efficient_eos(model: Path, template: str) -> None:
    """The last answer is followed by the end of the text, which is learned, and earlier ones are not."""
    tokenizer = with_options(model, template + "\n", efficient_eos=True)
    turns = tuple(Message(role, role) for role in ("user", "assistant") * 2)  # type: ignore[arg-type]
    ((text, spans, _),) = rendered(tokenizer, [Conversation(turns, "s", "p")], loss_on="assistant")
    assert text == "user:userassistant:assistantuser:userassistant:assistant<|im_end|>"
    learned = "".join(text[start:end] for start, end in spans)
    if "generation %" in template:
        assert learned.endswith("assistant<|im_end|>")
    else:
        assert learned == "assistantassistant<|im_end|>"
    assert text_of(tokenizer, ASKED, add_generation_prompt=True) == "user:Hiassistant:"


def test_all_together_and_digests(model: Path) -> None:
    """Options decide the name of prepared data."""
    keys = set()
    for options in ({"system": "a"}, {"system": "b"}, {"tool_format": "qwen"}):
        with_options(model, **options)
        keys.add(Tokenizer(path=model, around_template=model / "around.jinja").digest())
    assert len({*keys, Tokenizer(path=model).digest()}) == 4


def test_two_templates(model: Path) -> None:
    """A tokenizer with a template of its own for tools is trained with the one that a server takes."""
    tokenizer = models.load_tokenizer(model)
    tokenizer.chat_template = {"default": tiny.TEMPLATE, "tool_use": "{{ tools | length }}" + tiny.TEMPLATE}  # fmt: skip
    tokenizer.save_pretrained(model)
    chosen = Tokenizer(path=model)
    turns = (Message("user", "Hi"), Message("assistant", "Yes."))
    for tools in ((), tuple(TOOLS)):
        ((text, _, _),) = rendered(
            chosen.load_light(), [Conversation(turns, "s", "p", tools)], loss_on="assistant"
        )
        server = AutoTokenizer.from_pretrained(model)
        assert text == text_of(server, ASKED, ANSWERED, tools=list(tools) or None)
