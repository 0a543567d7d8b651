"""Texts, preferences, judged answers and prompts: what is learned of each, to the token."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tiny
from tunec.runtime import preview
from tunec.runtime.data import (
    Alpaca,
    Messages,
    Options,
    Preference,
    Prompts,
    ShareGpt,
    Source,
    Text,
    Tokenizer,
    join,
    load,
    pack,
    prepare,
)
from tunec.runtime.data.items import Kind
from tunec.runtime.data.read import read_items
from tunec.runtime.data.samples import IGNORED, Sample, Samples
from tunec.runtime.errors import UserError

ASKED = {"role": "user", "content": "Say it."}
YES, NO = {"role": "assistant", "content": "Yes."}, {"role": "assistant", "content": "No."}


def written(path: Path, rows: list[Any]) -> Path:
    """Write rows as JSON Lines."""
    path.write_text("\n".join(map(json.dumps, rows)))
    return path


def prepared(
    folder: Path,
    model: Path,
    source: Source,
    kind: Kind,
    *,
    max_length: int = 256,
    too_long: Literal["truncate", "drop", "split", "error"] = "truncate",
    **more: Any,
) -> Samples:
    """Prepare a source and return its training samples."""
    prepare(
        [source],
        tokenizer=Tokenizer(path=model),
        options=Options(kind=kind, max_length=max_length, too_long=too_long),
        seed=1,
        output=folder,
        cache_dir=folder / "cache",
        tell=False,
        **more,
    )
    return load(folder)[0]


@pytest.fixture(scope="module")
def decode(tiny_model: Path) -> Any:
    """A function from token ids to text, special tokens included."""
    return Tokenizer(path=tiny_model).load().decode


def learned(sample: Sample) -> list[int]:
    """Return the tokens that carry loss."""
    return [label for label in sample.labels if label != IGNORED]


PAIR_ROWS: dict[str, tuple[dict[str, Any], Source]] = {
    "texts": (
        {"prompt": "Say it.", "chosen": "Yes.", "rejected": "No."},
        Preference(path=Path("rows.jsonl"), name="rows"),
    ),
    "messages": (
        {"prompt": [ASKED], "chosen": [YES], "rejected": NO},
        Preference(path=Path("rows.jsonl"), name="rows"),
    ),
    "whole conversations": (
        {"chosen": [ASKED, YES], "rejected": [ASKED, NO]},
        Preference(path=Path("rows.jsonl"), name="rows"),
    ),
    "whole conversations beside their prompt": (
        {"prompt": "Say it.", "chosen": [ASKED, YES], "rejected": [ASKED, NO]},
        Preference(path=Path("rows.jsonl"), name="rows"),
    ),
    "alpaca": (
        {"instruction": "Say it.", "good": "Yes.", "bad": "No."},
        Alpaca(path=Path("rows.jsonl"), name="rows", chosen="good", rejected="bad"),
    ),
    "sharegpt": (
        {
            "conversations": [{"from": "human", "value": "Say it."}],
            "chosen": {"from": "gpt", "value": "Yes."},
            "rejected": {"from": "gpt", "value": "No."},
        },
        ShareGpt(path=Path("rows.jsonl"), name="rows", chosen="chosen", rejected="rejected"),
    ),
    "messages with an answer that makes way": (
        {"messages": [ASKED, {"role": "assistant", "content": "Maybe."}], "a": "Yes.", "b": "No."},
        Messages(path=Path("rows.jsonl"), name="rows", chosen="a", rejected="b"),
    ),
}


@pytest.mark.parametrize("name", PAIR_ROWS)
def test_a_preference_in_any_form(name: str, tmp_path: Path, tiny_model: Path, decode: Any) -> None:
    """Both answers follow the same prompt, and nothing but the answers carries loss."""
    row, source = PAIR_ROWS[name]
    from dataclasses import replace

    found = replace(source, path=written(tmp_path / "rows.jsonl", [row]))
    (sample,) = prepared(tmp_path, tiny_model, found, "pairs")
    assert sample.rejected is not None
    start = "<|im_start|>user\nSay it.<|im_end|>\n<|im_start|>assistant\n"
    assert decode(sample.input_ids) == f"{start}Yes.<|im_end|>\n"
    assert decode(sample.rejected.input_ids) == f"{start}No.<|im_end|>\n"
    assert decode(learned(sample)) == "Yes.<|im_end|>"
    assert decode(learned(sample.rejected)) == "No.<|im_end|>"


def test_earlier_answers_of_a_preference_are_read_only(
    tmp_path: Path, tiny_model: Path, decode: Any
) -> None:
    """What both conversations begin with is the prompt, answers in it included."""
    talk = [ASKED, YES, {"role": "user", "content": "Again."}]
    rows = [{"chosen": [*talk, NO], "rejected": [*talk, YES]}]
    source = Preference(path=written(tmp_path / "rows.jsonl", rows), name="rows")
    (sample,) = prepared(tmp_path, tiny_model, source, "pairs")
    assert decode(learned(sample)) == "No.<|im_end|>"


def test_margins_and_labels(tmp_path: Path, tiny_model: Path) -> None:
    """Margins and judgements reach the samples, also where they are written as text."""
    rows: list[dict[str, Any]] = [
        {"prompt": "q", "chosen": "a", "rejected": "b", "m": margin} for margin in (0.25, "3", -1)
    ]
    source = Preference(path=written(tmp_path / "a.jsonl", rows), name="a", margin="m")
    assert [s.value for s in prepared(tmp_path, tiny_model, source, "pairs")] == [0.25, 3.0, -1.0]
    rows = [
        {"instruction": "q", "output": "a", "good": label}
        for label in (True, False, "True", 0, 1.0, " false ")
    ]
    judged = Alpaca(path=written(tmp_path / "b.jsonl", rows), name="b", label="good")
    samples = prepared(tmp_path, tiny_model, judged, "labels")
    assert [sample.value for sample in samples] == [1, 0, 1, 0, 1, 0]


def test_prompts_end_where_an_answer_begins(tmp_path: Path, tiny_model: Path, decode: Any) -> None:
    """A prompt is what a server would be sent; a conversation's last answer is left off."""
    rows = [{"prompt": "q?", "right": 42}, {"prompt": [ASKED], "right": ["a", None]}]
    source = Prompts(path=written(tmp_path / "a.jsonl", rows), name="a", answer="right")
    first, second = prepared(tmp_path, tiny_model, source, "prompts")
    assert decode(first.input_ids) == "<|im_start|>user\nq?<|im_end|>\n<|im_start|>assistant\n"
    assert learned(first) == learned(second) == []
    talks = Messages(path=written(tmp_path / "b.jsonl", [{"messages": [ASKED, YES]}]), name="b")
    (asked,) = prepared(tmp_path, tiny_model, talks, "prompts")
    assert asked.input_ids == second.input_ids


def test_long_prompts_keep_their_end(tmp_path: Path, tiny_model: Path, decode: Any) -> None:
    """An answer follows the end of a prompt, so the beginning is what is cut."""
    path = written(tmp_path / "a.jsonl", [{"prompt": "word " * 90 + "last?"}])
    (sample,) = prepared(
        tmp_path, tiny_model, Prompts(path=path, name="a"), "prompts", max_length=24
    )
    assert len(sample.input_ids) == 24
    assert decode(sample.input_ids).endswith("last?<|im_end|>\n<|im_start|>assistant\n")


def test_a_long_pair_keeps_one_prompt(tmp_path: Path, tiny_model: Path) -> None:
    """Both answers are cut after the same words; a pair that is cut to the same tokens is dropped."""
    rows = [
        {"prompt": "word " * 60, "chosen": "Yes " * 9, "rejected": "No."},
        {"prompt": "q", "chosen": "a " * 90 + "x", "rejected": "a " * 90 + "y"},
    ]
    source = Preference(path=written(tmp_path / "a.jsonl", rows), name="a")
    samples = prepared(tmp_path, tiny_model, source, "pairs", max_length=32)
    (sample,) = samples
    assert samples.num_dropped == 1
    assert sample.rejected is not None
    starts = [s.labels.index(learned(s)[0]) for s in (sample, sample.rejected)]
    assert starts[0] == starts[1]
    assert sample.input_ids[: starts[0]] == sample.rejected.input_ids[: starts[0]]
    assert max(len(sample.input_ids), len(sample.rejected.input_ids)) <= 32


@pytest.fixture
def trimming(tmp_path: Path) -> Path:
    """A tokenizer whose template takes blanks around an answer away."""
    tokenizer = tiny.make_tokenizer(tmp_path / "trimming")
    tokenizer.chat_template = tiny.TEMPLATE.replace("m['content']", "m['content'] | trim")
    tokenizer.save_pretrained(str(tmp_path / "trimming"))
    return tmp_path / "trimming"


def test_pairs_of_the_same_tokens_are_told(tmp_path: Path, trimming: Path) -> None:
    """Answers that differ in what the template takes away are dropped: how many, and where the first stands, is said."""
    rows = [
        {"prompt": "q", "chosen": "Yes.", "rejected": "No."},
        {"prompt": "q", "chosen": "Yes.", "rejected": " Yes. "},
        {"prompt": "q", "chosen": "a " * 90 + "x", "rejected": "a " * 90 + "y"},
    ]
    source = Preference(path=written(tmp_path / "a.jsonl", rows), name="a")
    samples = prepared(tmp_path, trimming, source, "pairs", max_length=32)
    assert (len(samples), samples.num_dropped) == (1, 2)
    (warning,) = samples.warnings
    assert warning == (
        "2 pairs were dropped, there is nothing to prefer, the first: "
        f"{tmp_path / 'a.jsonl'}:2: both answers are the same tokens"
    )


@pytest.mark.parametrize("kind", ["pairs", "labels"])
def test_weights_of_compared_answers(tmp_path: Path, tiny_model: Path, kind: Kind) -> None:
    """A weight on an answer that is chosen, rejected or judged would do nothing, and is told instead."""
    weighed = {**YES, "weight": 0.5}
    row = {"messages": [ASKED, weighed], "label": True, "chosen": weighed, "rejected": NO}
    columns = (
        {"label": "label"} if kind == "labels" else {"chosen": "chosen", "rejected": "rejected"}
    )
    source = Messages(path=written(tmp_path / "a.jsonl", [row]), name="a", **columns)
    with pytest.raises(UserError, match=r"a\.jsonl:1: an answer that is compared has a weight"):
        prepared(tmp_path, tiny_model, source, kind)


def test_nothing_but_pairs_of_the_same_tokens(tmp_path: Path, trimming: Path) -> None:
    """Where no pair is left, the reason is not their length."""
    rows = [{"prompt": "q", "chosen": "Yes.", "rejected": " Yes. "}]
    source = Preference(path=written(tmp_path / "a.jsonl", rows), name="a")
    with pytest.raises(UserError, match="none of 1 pairs is left: in 1 both answers are the same"):
        prepared(tmp_path, trimming, source, "pairs", max_length=32)


def test_texts_end_with_their_mark(tmp_path: Path, tiny_model: Path, decode: Any) -> None:
    """Every token of a text is learned, and the end-of-sequence token closes it."""
    path = written(tmp_path / "a.jsonl", [{"text": "Once upon a time."}, {"text": "The end"}])
    first, second = prepared(tmp_path, tiny_model, Text(path=path, name="a"), "text")
    assert decode(first.input_ids) == "Once upon a time.<|im_end|>"
    assert second.labels == second.input_ids


def test_long_texts_are_split(tmp_path: Path, tiny_model: Path) -> None:
    """The pieces of a text are the text; a single token left over, which nothing predicts, is not a piece."""
    texts = ["word " * 50, "short"]
    path = written(tmp_path / "a.jsonl", [{"text": text} for text in texts])
    source = Text(path=path, name="a")
    whole = prepared(tmp_path, tiny_model, source, "text", max_length=4096)
    pieces = prepared(tmp_path, tiny_model, source, "text", max_length=16, too_long="split")
    assert max(pieces.lengths) == 16
    assert [i for s in pieces for i in s.input_ids] == [i for s in whole for i in s.input_ids]
    length = len(whole[0].input_ids) - 1
    shorter = prepared(tmp_path, tiny_model, source, "text", max_length=length, too_long="split")
    assert [len(sample.input_ids) for sample in shorter] == [length, len(whole[1].input_ids)]


@settings(max_examples=60, deadline=None)
@given(lengths=st.lists(st.integers(1, 40), min_size=1, max_size=20), length=st.integers(2, 30))
def test_joined_rows_are_the_texts_end_to_end(lengths: list[int], length: int) -> None:
    """Rows of one length hold every token once and in order; at most one token is left over."""
    numbers = iter(range(sum(lengths)))
    rows = [[next(numbers) for _ in range(count)] for count in lengths]
    joined = join(Samples([Sample(row, row) for row in rows]), max_length=length)
    ids = [token for row in joined for token in row.input_ids]
    assert ids == list(range(sum(lengths)))[: len(ids)]
    assert sum(lengths) - len(ids) <= (1 if sum(lengths) % length == 1 else 0)
    assert all(len(row.input_ids) == length for row in list(joined)[:-1])
    assert [len(row.input_ids) for row in joined] == list(joined.lengths)
    assert all(row.labels == row.input_ids for row in joined)


BAD: dict[str, tuple[Kind, dict[str, Any], str]] = {
    "same": ("pairs", {"prompt": "q", "chosen": "a", "rejected": "a"}, "`chosen` and `rejected` are the same, there is nothing to prefer"),
    "empty": ("pairs", {"prompt": "q", "chosen": " ", "rejected": "a"}, "`chosen` is empty: there is no answer to learn"),
    "number": ("pairs", {"prompt": "q", "chosen": 1, "rejected": "a"}, "`chosen` is a number, expected text, a message or a list of messages"),
    "from the user": ("pairs", {"prompt": "q", "chosen": [ASKED], "rejected": "a"}, "message 1 of `chosen` is from `user`, expected `assistant`"),
    "no prompt": ("pairs", {"chosen": "a", "rejected": "b"}, "`chosen` is text, but without a prompt both answers are whole conversations"),
    "apart": ("pairs", {"chosen": [ASKED, YES], "rejected": [{"role": "user", "content": "x"}, NO]}, "`chosen` and `rejected` do not begin alike: what they share is the prompt"),
    "other prompt": ("pairs", {"prompt": "x", "chosen": [ASKED, YES], "rejected": [ASKED, NO]}, "the answers are whole conversations that do not begin with `prompt`"),
    "missing": ("pairs", {"prompt": "q", "chosen": "a"}, "the row has no column `rejected`"),
    "null prompt": ("prompts", {"prompt": None}, "`prompt` is null, expected text or a list of messages"),
    "answered": ("prompts", {"prompt": [ASKED, YES]}, "`prompt` ends with an answer, expected the user or the result of a tool"),
    "system alone": ("prompts", {"prompt": [{"role": "system", "content": "s"}]}, "`prompt` has no question"),
    "empty text": ("text", {"text": "\n"}, "`text` is empty: there is nothing to learn"),
    "no text": ("text", {"texts": "a"}, "the row has no column `text`"),
    "label": ("labels", {"instruction": "q", "output": "a", "label": 2}, "`label` is 2, expected true or false"),
    "null label": ("labels", {"instruction": "q", "output": "a", "label": None}, "`label` is null, expected true or false"),
    "word": ("labels", {"instruction": "q", "output": "a", "label": "good"}, '`label` is "good", expected true or false'),
}  # fmt: skip


def source_for(kind: Kind, path: Path) -> Source:
    """Return a source of that kind with the columns' usual names."""
    if kind == "labels":
        return Alpaca(path=path, name="rows", label="label")
    sources: dict[Kind, type[Any]] = {"pairs": Preference, "prompts": Prompts, "text": Text}
    found: Source = sources[kind](path=path, name="rows")
    return found


@pytest.mark.parametrize("name", BAD)
def test_bad_rows(name: str, tmp_path: Path) -> None:
    """File and line, what was found, what was expected."""
    kind, row, message = BAD[name]
    path = written(tmp_path / "rows.jsonl", [row])
    with pytest.raises(UserError) as caught:
        read_items([source_for(kind, path)], kind)
    assert caught.value.message == f"{path}:1: {message}"


@pytest.mark.parametrize(
    ("margin", "message"),
    [
        (True, "`m` is a boolean, expected a number"),
        ("x", '`m` is "x", expected a number'),
        (math.inf, "`m` is not finite"),
        ([1], "`m` is a list, expected a number"),
    ],
)
def test_bad_margins(margin: Any, message: str, tmp_path: Path) -> None:
    """A margin is a finite number."""
    row = {"prompt": "q", "chosen": "a", "rejected": "b", "m": margin}
    path = written(tmp_path / "rows.jsonl", [row])
    with pytest.raises(UserError) as caught:
        read_items([Preference(path=path, name="rows", margin="m")], "pairs")
    assert caught.value.message == f"{path}:1: {message}"


def test_a_pair_in_a_preview(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Both answers are shown, each under its name, with the margin."""
    rows = [{"prompt": "q", "chosen": "a", "rejected": "b", "m": 0.5}]
    path = written(tmp_path / "rows.jsonl", rows)
    prepared(tmp_path, tiny_model, Preference(path=path, name="rows", margin="m"), "pairs")
    preview.show(
        tmp_path,
        name="run",
        tokenizer=Tokenizer(path=tiny_model),
        max_length=256,
        options=preview.options(["--row", "1", "--no-color"]),
    )
    text = capsys.readouterr().out.split("training")[1]
    assert text == (
        ", margin 0.5\n"
        "-- chosen\n‹<|im_start|>›user↵\nq‹<|im_end|>›↵\n‹<|im_start|>›assistant↵\n⟦a⟧⟦‹<|im_end|>›⟧↵\n"
        "-- rejected\n‹<|im_start|>›user↵\nq‹<|im_end|>›↵\n‹<|im_start|>›assistant↵\n⟦b⟧⟦‹<|im_end|>›⟧↵\n"
    )


def test_places_are_those_of_the_run_that_asks(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Two runs with the same content share prepared data; each is shown its own files."""
    for name in ("one", "two"):
        folder = tmp_path / name
        folder.mkdir()
        rows = [{"text": "good"}, {"text": ""}]
        source = Text(path=written(folder / f"{name}.jsonl", rows), name="rows")
        shared = {"bad_rows": "skip", "max_bad_share": 0.5, "cache_dir": tmp_path / "cache"}
        prepare(
            [source],
            tokenizer=Tokenizer(path=tiny_model),
            options=Options(kind="text", max_length=64, too_long="split"),
            seed=1,
            output=folder,
            **shared,  # type: ignore[arg-type]
        )
        assert f"the first: {folder}/{name}.jsonl:2: `text` is empty" in load(folder)[0].warnings[0]
    assert len([path for path in (tmp_path / "cache").iterdir() if path.is_dir()]) == 1


def test_packing_keeps_pairs_out(tmp_path: Path) -> None:
    """Rows of several pairs make no sense, and are refused."""
    pair = Sample([1, 2], [1, 2], rejected=Sample([1, 3], [1, 3]))
    with pytest.raises(ValueError, match="pairs"):
        pack(Samples([pair, pair]), max_length=8)[0]


def test_weights_of_tokens(tmp_path: Path) -> None:
    """A weight of each token is kept to the bit, for tokens written before the first of them too."""
    from tunec.runtime.data.prepared import Part, StoredRows, Writer

    def part(tokens: list[int], weights: list[float] | None) -> Part:
        count = np.array([len(tokens)], np.int64)
        return Part(
            tokens=np.array(tokens, np.uint32),
            loss=np.array([False, *[True] * (len(tokens) - 1)]),
            weights=None if weights is None else np.array(weights, np.float32),
            lengths=count,
            trainable=count - 1,
            origins=np.array([[0, 1]], np.int64),
            files=np.array([0], np.int64),
        )

    writer = Writer(tmp_path)
    writer.append(part([5, 6, 7], None))
    writer.append(part([8, 9, 10], [0, 0.1, 1]))
    writer.append(part([11, 12], None))
    writer.finish()
    rows = StoredRows(tmp_path, np.arange(3, dtype=np.int64))
    tenth = float(np.float32(0.1))
    assert [row.weights for row in rows] == [[0, 1, 1], [0, tenth, 1], [0, 1]]
