"""The light tokenizer: where it is used it gives exactly what transformers gives, and elsewhere it is not used."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from tunec.runtime.data.chat import render
from tunec.runtime.data.conversation import Conversation, Message
from tunec.runtime.data.encode import encode
from tunec.runtime.data.light import backend_digest, check_same, light_tokenizer
from tunec.runtime.data.tokenizer import Tokenizer
from tunec.runtime.errors import UserError
from tunec.runtime.models.load import load_tokenizer

REAL = Path(__file__).parents[2] / "models" / "smollm2-135m"
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=60)


def folders(tiny_model: Path) -> list[Path]:
    """The tiny model, and the real one where it was fetched."""
    return [folder for folder in (tiny_model, REAL) if (folder / "tokenizer.json").is_file()]


@settings(max_examples=60, deadline=None)
@given(question=TEXTS, answer=TEXTS, system=st.none() | TEXTS)
def test_tokens_and_loss_are_those_of_transformers(
    question: str, answer: str, system: str | None, tiny_model: Path
) -> None:
    """Any conversation has the same text, tokens and loss flags by both."""
    messages = [Message("user", question), Message("assistant", answer)]
    if system is not None:
        messages.insert(0, Message("system", system))
    conversation = Conversation(tuple(messages), "test", "test:1")
    for folder in folders(tiny_model):
        light, full = light_tokenizer(folder), _full(folder)
        texts = [render(item, [conversation], loss_on="assistant") for item in (light, full)]
        assert texts[0] == texts[1]
        (found,), (wanted,) = encode(light, texts[0]), encode(full, texts[1])
        assert found.tokens.tolist() == wanted.tokens.tolist()
        assert found.loss.tolist() == wanted.loss.tolist()


_LOADED: dict[Path, Any] = {}


def _full(folder: Path) -> Any:
    if folder not in _LOADED:
        _LOADED[folder] = load_tokenizer(folder)
    return _LOADED[folder]


def test_named_tokens_and_digest_are_the_same(tiny_model: Path) -> None:
    """Templates see the same named tokens, and training accepts the data."""
    for folder in folders(tiny_model):
        light, full = light_tokenizer(folder), _full(folder)
        assert light is not None
        assert light.special_tokens_map == full.special_tokens_map
        assert (light.eos_token_id, light.bos_token_id) == (full.eos_token_id, full.bos_token_id)
        check_same(backend_digest(light), full)


def test_the_template_of_a_run_is_taken(tiny_model: Path, tmp_path: Path) -> None:
    """A template file and an end mark of the spec go before those of the folder."""
    (tmp_path / "chat.jinja").write_text("{{ eos_token }}")
    light = light_tokenizer(
        tiny_model, chat_template=tmp_path / "chat.jinja", eos_token="<|endoftext|>"
    )
    assert light is not None
    assert light.get_chat_template() == "{{ eos_token }}"
    assert light.eos_token_id == 0


@pytest.mark.parametrize(
    "change",
    [
        {"tokenizer_class": "LlamaTokenizer"},
        {"tokenizer_class": None},
        {"auto_map": {"AutoTokenizer": "x.Y"}},
        {"added_tokens_decoder": {"7": {"content": "<x>"}}},
        {"eos_token": "<not a token>"},
    ],
    ids=str,
)
def test_what_transformers_might_change_is_left_to_it(
    change: dict[str, Any], tiny_model: Path, tmp_path: Path
) -> None:
    """Other classes, code, added tokens and unknown end marks are not guessed at."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    config = json.loads((folder / "tokenizer_config.json").read_text())
    (folder / "tokenizer_config.json").write_text(json.dumps({**config, **change}))
    assert light_tokenizer(folder) is None


def test_older_files_beside_it_are_left_to_transformers(tiny_model: Path, tmp_path: Path) -> None:
    """A special_tokens_map.json of an older version may say something else."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    (folder / "special_tokens_map.json").write_text("{}")
    assert light_tokenizer(folder) is None


def test_other_tokens_are_refused_before_training(tiny_model: Path, tmp_path: Path) -> None:
    """Data of another tokenizer never reach the model."""
    other = tiny.make_tokenizer(tmp_path / "other")
    other.add_tokens(["<new>"])
    with pytest.raises(UserError, match="prepared with another tokenizer"):
        check_same(backend_digest(light_tokenizer(tiny_model)), other)
    assert Tokenizer(path=tiny_model).load_light().get_vocab() == _full(tiny_model).get_vocab()
