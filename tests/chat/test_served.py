"""What is trained is what is saved: prompts of a server, made with the saved tokenizer, against what was trained."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoTokenizer

import tiny
from chat.rendering import section
from chat.test_templates import TOOLS
from tunec.compiler.chat import build, describe, find, library
from tunec.runtime import models
from tunec.runtime.data import Messages, Options, Tokenizer, prepare
from tunec.runtime.data.conversation import Conversation, Message
from tunec.runtime.data.ends import named_in, stop_tokens
from tunec.runtime.data.prepared import read_report
from tunec.runtime.data.sequences import encoded
from tunec.runtime.data.served import check_served
from tunec.runtime.data.tool_calls import ToolCall
from tunec.runtime.errors import UserError
from tunec.runtime.models.saved import changed, save_tokenizer

OPTIONS = Options(max_length=4096, too_long="error")
CALL = ToolCall("weather", {"place": "Ur"}, "call00001")
GREETING = (Message("user", "Hi, 你好"), Message("assistant", "Hello 🙂"))
TALKS = [
    Conversation(GREETING, "chat", "chat.jsonl:1"),
    Conversation(
        (
            Message("system", "Be kind."),
            *GREETING,
            Message("user", "  Code?\n"),
            Message("assistant", "```\nx = 1\n```\n"),
        ),
        "chat",
        "chat.jsonl:2",
    ),
    Conversation(
        (
            Message("user", "Rain?"),
            Message("assistant", "", (CALL,)),
            Message("tool", "dry", notes={"tool_call_id": "call00001", "name": "weather"}),
            Message("assistant", "No rain."),
        ),
        "chat",
        "chat.jsonl:3",
        tuple(
            tool if "function" in tool else {"type": "function", "function": tool} for tool in TOOLS
        ),
    ),
]


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model."""
    return tiny.make_model(tmp_path_factory.mktemp("base") / "model")


OWN_ENDS = {"deepseekcoder": "<|EOT|>", "granite3": "<|end_of_text|>"}
"""Templates that write the end mark of their models as it is, instead of asking the tokenizer for it."""


def with_template(base: Path, folder: Path, name: str, **options: Any) -> tuple[Any, Path]:
    """Return the tokenizer with a named template as a run loads it, and the folder a run saves it to."""
    chosen = section(name, **options)
    known = describe(chosen)
    (folder / "chat.jinja").write_text(build(chosen), encoding="utf-8")
    raw = AutoTokenizer.from_pretrained(base)
    end = OWN_ENDS.get(name, known.eos_token)
    words = [word for word in (end, *known.stop_words) if word]
    raw.add_special_tokens({"additional_special_tokens": words})
    raw.save_pretrained(folder / "grown")
    tokenizer = models.load_tokenizer(
        folder / "grown",
        chat_template=folder / "chat.jinja",
        eos_token=end,
        stop_words=known.special_tokens,
    )
    saved = folder / "saved"
    saved.mkdir()
    save_tokenizer(saved, tokenizer, models.load_causal_lm(base, dtype="fp32"))
    return tokenizer, saved


@pytest.mark.parametrize("name", list(library()))
def test_what_a_server_asks(name: str, base: Path, tmp_path: Path) -> None:
    """For every template: saved, loaded by plain transformers, the prompt begins what was trained, and it stops."""
    tokenizer, saved = with_template(base, tmp_path, name)
    assert changed(saved, tokenizer) == []
    server = AutoTokenizer.from_pretrained(saved)
    stops = named_in(saved)
    for talk in TALKS:
        (sample,) = encoded(tokenizer, [talk], OPTIONS)[0]
        asked = [message.for_template() for message in talk.messages[:-1]]
        prompt = server.apply_chat_template(
            asked, tools=list(talk.tools) or None, add_generation_prompt=True
        )["input_ids"]
        assert sample.tokens[: len(prompt)].tolist() == prompt
        answer = server.decode(sample.tokens[len(prompt) :])
        assert talk.messages[-1].content.strip() in answer
        ids = sample.tokens[len(prompt) :][sample.loss[len(prompt) :]].tolist()
        if name != "empty":
            assert ids[-1] in (stops if isinstance(stops, list) else [stops])


@pytest.mark.parametrize("name", list(library()))
def test_the_check_is_silent_for_named_templates(name: str, base: Path, tmp_path: Path) -> None:
    """Nothing is found in a template of the library, but for the one whose answers have no end."""
    tokenizer, _ = with_template(base, tmp_path, name)
    stops = stop_tokens(tokenizer, named_in(base))
    found = check_served(tokenizer, TALKS, options=OPTIONS, stops=stops)
    if name == "empty":
        assert len(found) == 1
        assert "at which no server stops" in found[0]
    else:
        assert found == []


THOUGHT = Conversation(
    (
        Message("user", "1"),
        Message("assistant", "<think>\nhm\n</think>\n\none"),
        Message("user", "2"),
        Message("assistant", "two", notes={"reasoning_content": "well"}),
    ),
    "thoughts",
    "t.jsonl:1",
)


@pytest.mark.parametrize("thinking", ["on", "off", "mixed"])
@pytest.mark.parametrize("name", ["qwen3", "gpt_oss", "glm4_moe", "gemma4", "ernie_vl"])
def test_thinkers(name: str, thinking: Any, base: Path, tmp_path: Path) -> None:
    """A history without its thoughts is what a server asks with, too: the last answer alone has to match."""
    first, last = find(name).thought
    said = f"{first}hm{last}one"
    messages = (THOUGHT.messages[0], Message("assistant", said), *THOUGHT.messages[2:])
    talks = [*TALKS[:2], replace(THOUGHT, messages=messages)]
    tokenizer, _ = with_template(base, tmp_path, name, thinking=thinking)
    found = check_served(tokenizer, talks, options=OPTIONS, stops=stop_tokens(tokenizer))
    expected = ["reasoning_content"] if thinking == "off" else []
    assert [text.split("`")[1] for text in found] == expected


# Templates of users.

CHATML = (
    "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' }}{% if m.role == 'assistant' %}"
    "{% generation %}{{ m.content + '<|im_end|>' }}{% endgeneration %}{% else %}{{ m.content + '<|im_end|>' }}"
    "{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
BROKEN = {
    "another opening": (
        CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>bot\n' }}"),
        "after 'm_end|>\\n<|im_start|>' (character 46) trained is 'assistant\\nHello 🙂<|im_end|>\\n', "
        "asked 'bot\\n'",
    ),
    "an empty thought in the prompt": (
        CHATML.replace("assistant\n' }}{% endif %}", "assistant\n<think>\n' }}{% endif %}"),
        "trained is 'Hello 🙂<|im_end|>\\n', asked '<think>\\n'",
    ),
}


@pytest.mark.parametrize(("template", "message"), BROKEN.values(), ids=list(BROKEN))
def test_broken_templates(base: Path, template: str, message: str) -> None:
    """A prompt that is never how a trained text begins is an error, with the place where they part."""
    tokenizer = models.load_tokenizer(base)
    tokenizer.chat_template = template
    with pytest.raises(UserError) as caught:
        check_served(tokenizer, TALKS[:2], options=OPTIONS, stops=[2])
    assert "in any of 2 conversations, first in `chat`, line 1" in caught.value.message
    assert message in caught.value.message
    assert "add_generation_prompt" in caught.value.help


def found_in(base: Path, template: str, talks: Any = tuple(TALKS[:2]), **options: Any) -> list[str]:
    tokenizer = models.load_tokenizer(base)
    tokenizer.chat_template = template
    stops = options.pop("stops", stop_tokens(tokenizer))
    return check_served(tokenizer, talks, options=OPTIONS, stops=stops)


def test_sound_template(base: Path) -> None:
    """A template that does it right gives no warning, with marks and without."""
    assert found_in(base, CHATML) == []
    assert found_in(base, tiny.TEMPLATE) == []


def test_only_some_prompts_differ(base: Path) -> None:
    """What differs in some conversations is a warning that counts them."""
    template = CHATML.replace("{{ '<|im_start|>assistant\n' }}", "{{ '<|im_start|>assistant\n' if messages|length < 2 else 'x' }}")  # fmt: skip
    (found,) = found_in(base, template)
    assert found.startswith("a server's prompt is not how the trained text begins (in 1 of 2 ")
    assert "first in `chat`, line 2: after" in found


def test_no_opening(base: Path) -> None:
    """A template that knows no `add_generation_prompt` makes the model write the role mark itself."""
    template = "{% for m in messages %}{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}"
    (found,) = found_in(base, template)
    assert "the template opens no answer" in found
    assert "'<|im_start|>assistant' is learned as a part of the answer" in found


def test_ends_at_which_nobody_stops(base: Path) -> None:
    """An end mark that no server knows lets it run on."""
    (found,) = found_in(base, CHATML, stops=[0])
    assert "the trained answer ends with '<|im_end|>', at which no server stops" in found


def test_shared_tokens(base: Path) -> None:
    """A token that reaches over the border of prompt and answer is never asked for."""
    template = (
        "{% for m in messages %}{{ m.content if m.role == 'assistant' else 'the boat is cal' }}{% endfor %}"
        "{{ eos_token if not add_generation_prompt }}"
    )
    talk = replace(TALKS[0], messages=(GREETING[0], Message("assistant", "led Thimble")))
    (found,) = found_in(base, template, [talk])
    assert found.startswith("the end of a server's prompt and the answer share a token")
    assert "token 3 of the trained text is 'Ġcalled', of the prompt 'Ġ" in found


def test_dates_and_thoughts_that_are_lost(base: Path) -> None:
    """What depends on the day, and thoughts that a template does not write, are told."""
    assert "strftime_now" in found_in(base, CHATML + "{# strftime_now #}")[0]
    (found,) = found_in(base, CHATML, [THOUGHT])
    assert found.startswith("`reasoning_content` of the messages is not written by the template")


def test_in_the_preparation(base: Path, tmp_path: Path) -> None:
    """The check runs before anything is prepared; warnings are kept with the data and told again."""
    rows = [[message.for_template() for message in talk.messages] for talk in TALKS[:2]]
    data = tmp_path / "chat.jsonl"
    data.write_text("".join(json.dumps({"messages": row}) + "\n" for row in rows))

    def run(template: str, **more: Any) -> Path:
        (tmp_path / "chat.jinja").write_text(template, encoding="utf-8")
        return prepare(
            [Messages(path=data, name="chat")],
            tokenizer=Tokenizer(path=base, chat_template=tmp_path / "chat.jinja"),
            options=OPTIONS,
            seed=0,
            output=tmp_path,
            cache_dir=tmp_path / "cache",
            **more,
        )

    with pytest.raises(UserError, match="in any of 2 conversations, first in `chat`, line 1"):
        run(BROKEN["another opening"][0])
    assert list((tmp_path / "cache").iterdir()) == []
    folder = run(CHATML.replace("<|im_end|>", "<|endoftext|>"))
    (warning,) = read_report(folder)["served"]
    assert "the trained answer ends with '<|endoftext|>'" in warning
    assert read_report(run(CHATML))["served"] == []
