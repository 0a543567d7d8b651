"""Facts: what is read about models, data and folders, and that nothing of it can hold the compiler up or bring it down."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import tiny
from tunec.compiler.facts import data as data_facts
from tunec.compiler.facts import gather
from tunec.compiler.facts.data import DataFacts, read_data
from tunec.compiler.facts.folder import read_folder
from tunec.compiler.facts.model import ModelFacts, read_model, read_tokenizer
from tunec.compiler.spec import AlpacaSource, MessagesSource, ShareGptSource, Source
from tunec.compiler.structure import structure
from tunec.runtime.data import Alpaca, Messages, ShareGpt
from tunec.runtime.data import read as runtime_read
from tunec.runtime.errors import UserError

GOOD = {"messages": [{"role": "user", "content": "Hi."}, {"role": "assistant", "content": "Yes."}]}


@pytest.fixture
def copied(tiny_model: Path, tmp_path: Path) -> Path:
    """A model folder to damage."""
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def facts_of(folder: Path) -> ModelFacts:
    """Return the facts of a model folder."""
    return read_model(folder.parent, folder.name)


def write_safetensors(path: Path, header: Any, data: bytes = b"") -> Path:
    """Write a file with any header in the layout of safetensors."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)
    return path


def entry(shape: list[Any], start: Any, end: Any) -> dict[str, Any]:
    """Return the header entry of one fp32 tensor."""
    return {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}


# --- weights ---------------------------------------------------------------------------------------------


def test_tensors_are_those_of_the_file(tiny_model: Path) -> None:
    """Names, shapes and number formats are what safetensors itself reads from the file."""
    from safetensors import safe_open

    facts = facts_of(tiny_model)
    assert facts.tensors is not None
    with safe_open(str(tiny_model / "model.safetensors"), "pt") as file:
        names = list(file.keys())
        expected = {name: tuple(file.get_slice(name).get_shape()) for name in names}
    assert {name: tensor.shape for name, tensor in facts.tensors.items()} == expected
    assert {tensor.dtype for tensor in facts.tensors.values()} == {"F32"}


@pytest.mark.parametrize("tied", [True, False])
def test_parameters_are_counted_as_torch_counts_them(tied: bool, tmp_path: Path) -> None:
    """A tied output head is no second matrix: the count is that of the loaded model."""
    from transformers import AutoModelForCausalLM

    folder = tiny.make_model(tmp_path / "model", tied=tied, layers=1)
    model = AutoModelForCausalLM.from_pretrained(str(folder))
    assert facts_of(folder).parameter_count() == sum(p.numel() for p in model.parameters())


def test_linear_modules_are_those_peft_adapts(tiny_model: Path) -> None:
    """`all-linear` means the same modules here as for PEFT, with its reasons of its own."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    model = AutoModelForCausalLM.from_pretrained(str(tiny_model))
    config = LoraConfig(task_type="CAUSAL_LM", target_modules="all-linear")
    adapted = get_peft_model(model, config)
    chosen = {
        name.removeprefix("base_model.model.")
        for name, module in adapted.named_modules()
        if hasattr(module, "lora_A")
    }
    assert set(facts_of(tiny_model).linear_modules()) == chosen


DAMAGE: dict[str, tuple[Any, bytes, str]] = {
    "no object": ([], b"", "its header is not safetensors"),
    "no JSON": (b"{", b"", "its header is not safetensors"),
    "no UTF-8": (b'{"\xff": 1}', b"", "its header is not safetensors"),
    "deep": (b'{"a":' + b"[" * 100_000, b"", "its header is not safetensors"),
    "entry is a number": ({"a": 1}, b"", "its header is not safetensors"),
    "no offsets": ({"a": {"dtype": "F32", "shape": [1]}}, b"", "its header is not safetensors"),
    "one offset": (
        {"a": {"dtype": "F32", "shape": [1], "data_offsets": [0]}},
        b"",
        "its header is not safetensors",
    ),
    "text for an offset": ({"a": entry([1], 0, "4")}, b"1234", "its header is not safetensors"),
    "text for a size": ({"a": entry(["1"], 0, 4)}, b"1234", "its header is not safetensors"),
    "a negative size": ({"a": entry([-1], 0, 4)}, b"1234", "its header is not safetensors"),
    "too short": ({"a": entry([2], 0, 8)}, b"1234", "is truncated"),
    "too long": ({"a": entry([1], 0, 4)}, b"12345", "is longer than its header says"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_header_is_a_fact(name: str, copied: Path) -> None:
    """Whatever stands in the header, the fault is named and nothing is raised."""
    header, data, expected = DAMAGE[name]
    write_safetensors(copied / "model.safetensors", header, data)
    facts = facts_of(copied)
    assert facts.tensors is None
    assert facts.weights_fault is not None
    assert expected in facts.weights_fault
    assert facts.linear_modules() == {}
    assert facts.parameter_count() is None


@pytest.mark.parametrize("content", [b"", b"1234567", b"\xff" * 8, b"\xff" * 5000, b"GGUF" * 9])
def test_a_file_without_header_is_damaged(content: bytes, copied: Path) -> None:
    """Empty files, garbage, and a length that no file can have."""
    (copied / "model.safetensors").write_bytes(content)
    assert (
        facts_of(copied).weights_fault
        == "model.safetensors is damaged: it has no safetensors header"
    )


def test_truncation_is_seen_without_the_weights(copied: Path) -> None:
    """The header says how long the file must be; every shorter one is told by its sizes."""
    weights = copied / "model.safetensors"
    size = weights.stat().st_size
    os.truncate(weights, size - 1)
    assert (
        facts_of(copied).weights_fault
        == f"model.safetensors is truncated: {size - 1:,} bytes, {size:,} expected"
    )


def test_shards_are_read_through_their_index(copied: Path) -> None:
    """The tensors of all shards are there; a shard that is not is named, and none is looked for elsewhere."""
    (copied / "model.safetensors").unlink()
    write_safetensors(copied / "a.safetensors", {"x.weight": entry([2, 3], 0, 24)}, b"." * 24)
    write_safetensors(copied / "b.safetensors", {"y.weight": entry([1], 0, 4)}, b"." * 4)
    index = copied / "model.safetensors.index.json"
    index.write_text(
        json.dumps({"weight_map": {"x.weight": "a.safetensors", "y.weight": "b.safetensors"}})
    )
    assert facts_of(copied).parameter_count() == 7
    (copied / "b.safetensors").unlink()
    assert facts_of(copied).weights_fault == "b.safetensors, which the index names, is missing"
    index.write_text(json.dumps({"weight_map": {"x.weight": "../model.safetensors"}}))
    assert facts_of(copied).weights_fault == (
        "model.safetensors.index.json names a file outside the folder: '../model.safetensors'"
    )
    index.write_text("{}")
    assert facts_of(copied).weights_fault == "model.safetensors.index.json has no weight_map"


def test_pickles_are_never_accepted(copied: Path) -> None:
    """A folder with pickles only is refused by name; one without any weights says that."""
    (copied / "model.safetensors").unlink()
    assert facts_of(copied).weights_fault == "no model.safetensors is there"
    (copied / "pytorch_model.bin").write_bytes(b"")
    assert facts_of(copied).weights_fault == ("only pytorch_model.bin is there, a pickle")


# --- places ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("HuggingFaceTB/SmolLM2-135M", "hub"),
        ("org/name.v1_x", "hub"),
        ("gpt2", "missing"),
        ("./org/name", "missing"),
        ("../org", "missing"),
        ("/org/name", "missing"),
        ("~/models/x", "missing"),
        ("a/b/c", "missing"),
        ("a b/c", "missing"),
        ("org/name.gguf", "missing"),
        ("models/smollm2", "missing"),
        ("-x/y", "missing"),
        ("file.gguf", "gguf"),
        ("file.txt", "file"),
        ("", "no-config"),
        ("empty", "no-config"),
        ("broken", "bad-config"),
        ("loop", "missing"),
        ("x" * 5000, "impossible"),
    ],
)
def test_where_a_model_is(path: str, state: str, tmp_path: Path) -> None:
    """Hub ids are `org/name` and nothing else; what is on disk is told apart, what cannot be is no fault."""
    (tmp_path / "file.gguf").touch()
    (tmp_path / "file.txt").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "config.json").write_text("{")
    (tmp_path / "loop").symlink_to("loop")
    assert read_model(tmp_path, path).state == state


def test_a_hub_id_beside_a_folder_is_told(tmp_path: Path) -> None:
    """`weights/small` with a folder `weights` here was probably meant as a path."""
    (tmp_path / "weights").mkdir()
    assert read_model(tmp_path, "weights/small").beside
    assert not read_model(tmp_path, "org/small").beside


def test_a_tokenizer_folder_is_read_like_a_models(tiny_model: Path, tmp_path: Path) -> None:
    """A tokenizer alone needs no config.json; its template may stand in either of its two files."""
    shutil.copy(tiny_model / "tokenizer.json", tmp_path)
    (tmp_path / "tokenizer_config.json").write_text('{"chat_template": "x"}')
    facts = read_tokenizer(tmp_path, ".")
    assert (facts.state, facts.has_tokenizer, facts.template) == ("folder", True, "x")
    (tmp_path / "chat_template.jinja").write_text("y")
    assert read_tokenizer(tmp_path, ".").template == "y"


@pytest.mark.parametrize(
    "name",
    ["config.json", "tokenizer_config.json", "chat_template.jinja", "model.safetensors"],
)
def test_a_pipe_in_a_model_folder_does_not_hang(name: str, copied: Path) -> None:
    """A named pipe where a file is expected is passed over, never opened."""
    (copied / name).unlink(missing_ok=True)
    os.mkfifo(copied / name)
    began = time.monotonic()
    facts_of(copied)
    assert time.monotonic() - began < 5


def test_a_pipe_as_template_does_not_hang(workspace: Path) -> None:
    """`template.path` may name anything; only a regular file is read."""
    os.mkfifo(workspace / "chat.jinja")
    data = structured("[template]\ntype = 'file'\npath = 'chat.jinja'\n")
    assert gather(data, workspace / "spec.toml", {}).template_text is None


def structured(text: str) -> Any:
    """Return the base spec with `text` over it."""
    import tomli

    sections: dict[str, Any] = tomli.loads(tiny.BASE)
    for name, values in tomli.loads(text).items():
        sections[name] = {**sections.get(name, {}), **values}
    return structure(sections).spec


# --- the run folder --------------------------------------------------------------------------------------


def test_states_of_a_run_folder(tmp_path: Path) -> None:
    """Absent, empty, a file, below a file, behind a dead link, impossible: each is told apart."""
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "dead").symlink_to("nowhere")
    (tmp_path / "loop").symlink_to("loop")
    states = {
        "a/b/c": "absent",
        "empty": "ready",
        "file": "file",
        "file/x": "blocked",
        "dead": "broken-link",
        "dead/x": "broken-link",
        "loop": "broken-link",
        "x" * 5000: "impossible",
    }
    assert {name: read_folder(tmp_path / name).state for name in states} == states


def test_a_folder_that_may_not_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The nearest folder that exists decides whether the run folder can be made."""
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) != tmp_path)
    facts = read_folder(tmp_path / "runs" / "first")
    assert (facts.state, facts.blocker) == ("not-writable", tmp_path)


@pytest.mark.parametrize(
    "text",
    ["{", "[]", '{"name": "a web page", "icons": []}', '{"tunec": "1", "files": []}', "[" * 10**5],
)
def test_a_manifest_of_something_else_is_not_ours(text: str, tmp_path: Path) -> None:
    """A file of the name manifest.json does not make a folder a run folder."""
    (tmp_path / "manifest.json").write_text(text)
    facts = read_folder(tmp_path)
    assert facts.manifest is None
    assert facts.foreign


def test_the_newest_complete_checkpoint_counts(tmp_path: Path) -> None:
    """Folders of checkpoints without a manifest are torn and do not count."""
    for step, complete in ((2, True), (10, True), (11, False)):
        folder = tmp_path / "checkpoints" / f"step-{step}"
        folder.mkdir(parents=True)
        if complete:
            (folder / "MANIFEST.json").touch()
    (tmp_path / "checkpoints" / "notes").mkdir()
    facts = read_folder(tmp_path)
    assert (facts.step, facts.started, facts.finished) == (10, True, False)


# --- data ------------------------------------------------------------------------------------------------


def messages(path: str = "rows.jsonl", **options: Any) -> MessagesSource:
    """Return a source of messages."""
    return MessagesSource(format="messages", path=path, **options)


def alpaca(path: str = "rows.jsonl", **options: Any) -> AlpacaSource:
    """Return a source of instructions."""
    return AlpacaSource(format="alpaca", path=path, **options)


def sharegpt(path: str = "rows.jsonl") -> ShareGptSource:
    """Return a ShareGPT source with columns for tools and the system prompt."""
    return ShareGptSource(format="sharegpt", path=path, tools="tools", system="system")


def reader_of(source: Source, path: Path) -> Any:
    """Return the same source as the runtime has it."""
    beside = {"tools": "tools", "system": "system"} if isinstance(source, ShareGptSource) else {}
    return READERS[source.format](path=path, name="rows", **beside)


def written(folder: Path, content: bytes | str, source: Source) -> DataFacts:
    """Write the file of a source and return its facts."""
    raw = content if isinstance(content, bytes) else content.encode()
    (folder / source.path).write_bytes(raw)
    return read_data(folder, source)


def row_texts(count: int) -> Iterator[str]:
    """Yield sound rows as JSON."""
    return (json.dumps(GOOD) for _ in range(count))


@pytest.mark.parametrize(
    "content",
    [
        "\n".join(row_texts(3)),
        "\n\n" + "\n \n".join(row_texts(3)) + "\n\n",
        "\r\n".join(row_texts(3)) + "\r\n",
        "\r".join(row_texts(3)),
        "\ufeff" + "\n".join(row_texts(3)),
        "[" + ",\n".join(row_texts(3)) + "]",
        "\ufeff \n[\n" + ",".join(row_texts(3)) + "\n]\n",
        json.dumps([GOOD] * 3, indent=2),
    ],
    ids=["lines", "blank-lines", "crlf", "cr", "bom", "array", "bom-array", "pretty"],
)
def test_rows_are_counted_in_every_layout(content: str, tmp_path: Path) -> None:
    """Byte-order marks, line ends, blank lines and arrays: both readers see the same three rows."""
    facts = written(tmp_path, content, messages())
    assert (facts.state, facts.num_rows, facts.bad_row) == ("ok", 3, None)
    assert len(runtime_read([Messages(path=tmp_path / "rows.jsonl", name="x")])) == 3


def test_the_limit_ends_the_reading(tmp_path: Path) -> None:
    """Rows behind the limit are neither counted nor checked, here as there."""
    content = "\n".join([*row_texts(3), "{", "{"])
    for limit in (2, 3):
        facts = written(tmp_path, content, messages(limit=limit))
        assert (facts.num_rows, facts.bad_row) == (limit, None)
        source = Messages(path=tmp_path / "rows.jsonl", name="x", limit=limit)
        assert len(runtime_read([source])) == limit


def test_large_files_are_checked_at_their_head(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a large file the first rows are checked and the lines counted; an array cannot be counted."""
    monkeypatch.setattr(data_facts, "WHOLE_BYTES", 1000)
    facts = written(tmp_path, "\n".join([*row_texts(100), "{"]), messages())
    assert (facts.num_rows, facts.bad_row, facts.sha256) == (101, None, None)
    assert written(tmp_path, "\n".join(row_texts(100)), messages(limit=50)).num_rows == 50
    assert written(tmp_path, "\n".join(row_texts(100)), messages(limit=2)).num_rows == 2
    bad = written(tmp_path, "\n".join(["{", *row_texts(100)]), messages()).bad_row
    assert bad is not None
    assert bad.line == 1
    array = written(tmp_path, json.dumps([GOOD] * 100, indent=1), messages())
    assert (array.num_rows, array.bad_row) == (None, None)
    endless_line = written(tmp_path, '{"messages": "' + "x" * 5000, messages())
    assert endless_line.state == "ok"


def test_very_large_files_are_not_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond a size nobody wants to wait for, the number of rows is unknown, not guessed."""
    monkeypatch.setattr(data_facts, "WHOLE_BYTES", 1000)
    monkeypatch.setattr(data_facts, "COUNT_BYTES", 2000)
    assert written(tmp_path, "\n".join(row_texts(100)), messages()).num_rows is None


def test_a_file_is_known_by_its_content(tmp_path: Path) -> None:
    """The digest is that of the bytes."""
    import hashlib

    content = "\n".join(row_texts(3)).encode()
    facts = written(tmp_path, content, messages())
    assert (facts.sha256, facts.num_bytes) == (hashlib.sha256(content).hexdigest(), len(content))


@pytest.mark.parametrize(
    ("path", "state"),
    [
        ("none.jsonl", "missing"),
        ("folder.jsonl", "folder"),
        ("rows.csv", "ok"),
        ("rows.odd", "unknown-kind"),
        ("none.csv", "missing"),
        ("pipe.jsonl", "unreadable"),
        ("loop.jsonl", "missing"),
        ("x" * 5000 + ".jsonl", "unreadable"),
    ],
)
def test_what_is_no_data_file(path: str, state: str, tmp_path: Path) -> None:
    """Folders, pipes, links in a circle and impossible names are facts; nothing hangs, nothing is raised."""
    (tmp_path / "folder.jsonl").mkdir()
    (tmp_path / "rows.csv").touch()
    (tmp_path / "rows.odd").touch()
    os.mkfifo(tmp_path / "pipe.jsonl")
    (tmp_path / "loop.jsonl").symlink_to("loop.jsonl")
    assert read_data(tmp_path, messages(path)).state == state


def chat(*turns: tuple[Any, Any]) -> str:
    """Return a row of messages."""
    return json.dumps({"messages": [{"role": r, "content": c} for r, c in turns]})


def instruction(**row: Any) -> str:
    """Return a row of instructions."""
    return json.dumps(row)


BAD_MESSAGES: dict[str, str] = {
    "broken": '{"messages": [',
    "trailing": '{"messages": []} x',
    "single quotes": "{'messages': []}",
    "number": "17",
    "text": '"hello"',
    "null": "null",
    "boolean": "true",
    "deep": "[" * 100_000,
    "no column": '{"conversations": []}',
    "no columns": "{}",
    "not a list": '{"messages": {"role": "user"}}',
    "empty list": '{"messages": []}',
    "message is text": '{"messages": ["hi"]}',
    "no role": '{"messages": [{"content": "x"}]}',
    "role of another format": chat(("human", "x"), ("gpt", "y")),
    "role is a list": chat(([], "x")),
    "tool": chat(("user", "x"), ("tool", "y")),
    "no content": '{"messages": [{"role": "user"}]}',
    "content is null": chat(("user", "x"), ("assistant", None)),
    "content in parts": chat(("user", [{"type": "text", "text": "x"}])),
    "empty answer": chat(("user", "x"), ("assistant", " \n")),
    "system only": chat(("system", "x")),
    "two systems": chat(("system", "x"), ("system", "y")),
    "assistant first": chat(("assistant", "x"), ("user", "y")),
    "two users": chat(("system", "s"), ("user", "x"), ("user", "y")),
    "user last": chat(("user", "x"), ("assistant", "y"), ("user", "z")),
    "not UTF-8": chat(("user", "caf\\xe9")),
    "array, broken row": '[{"messages": [}]',
    "array, open": "[" + json.dumps(GOOD),
    "array, comma": "[\n" + json.dumps(GOOD) + ",\n]",
    "array, no comma": "[\n" + json.dumps(GOOD) + "\n" + json.dumps(GOOD) + "]",
    "array, text behind": "[\n" + json.dumps(GOOD) + "]\n\n" + json.dumps(GOOD),
    "array, deep": "[\n" + "[" * 100_000,
    "many digits": '{"messages": ' + "1" * 5000 + "}",
    "array, many digits": "[\n" + "1" * 5000 + "]",
    "half a character": chat(("user", "x\ud83d")),
    "half a character as name": '{"\\ud83d": 1}',
    "role is null": chat((None, "x")),
    "long role": chat(("x" * 1000, "x")),
    "array, bad row": "[\n\n" + json.dumps(GOOD) + ",\n{}]",
    "empty": "",
}
BAD_ALPACA: dict[str, str] = {
    "no instruction": instruction(output="x"),
    "no output": instruction(instruction="x"),
    "number": instruction(instruction="x", output=4),
    "null": instruction(instruction=None, output="x"),
    "input is a number": instruction(instruction="x", input=1, output="y"),
    "system is a list": instruction(instruction="x", system=[], output="y"),
    "empty question": instruction(instruction="", output="x"),
    "empty question, empty input": instruction(instruction="", input="", output="x"),
    "empty answer": instruction(instruction="x", output=" "),
    "two faults": instruction(instruction="", output="", input=3),
    "history is text": instruction(instruction="x", output="y", history="z"),
    "history of three": instruction(instruction="x", output="y", history=[["a", "b", "c"]]),
    "history without answer": instruction(instruction="x", output="y", history=[["a", " "]]),
    "half a character": instruction(instruction="x\ud83d", output="y"),
    "half a character in history": instruction(
        instruction="x", output="y", history=[["a", "b"], ["\udc00", "c"]]
    ),
    "blank question": instruction(instruction=" ", input="\t", output="x"),
    "history of numbers": instruction(instruction="x", output="y", history=[[1, 2]]),
}


def shared(*turns: tuple[Any, Any], **columns: Any) -> str:
    """Return a row in ShareGPT's words."""
    return json.dumps({"conversations": [{"from": r, "value": c} for r, c in turns], **columns})


CALL = ("function_call", '{"name": "f", "arguments": {"a": 1}}')
BAD_SHAREGPT: dict[str, str] = {
    "no column": '{"messages": []}',
    "unknown tag": shared(("user", "x")),
    "tag is a number": shared((1, "x")),
    "two users": shared(("human", "x"), ("human", "y")),
    "assistant first": shared(("gpt", "x")),
    "user last": shared(("human", "x"), ("gpt", "y"), ("human", "z")),
    "result without call": shared(("human", "x"), ("observation", "y")),
    "second result": shared(("human", "x"), CALL, ("observation", "y"), ("observation", "y")),
    "call without result": shared(("human", "x"), CALL, ("human", "y")),
    "result last": shared(("human", "x"), CALL, ("observation", "y")),
    "call is no JSON": shared(("human", "x"), ("function_call", "f(1)")),
    "call is null": shared(("human", "x"), ("function_call", None)),
    "call is deep": shared(("human", "x"), ("function_call", "[" * 100_000)),
    "no call": shared(("human", "x"), ("function_call", "[]")),
    "call is a number": shared(("human", "x"), ("function_call", "[1]")),
    "call without name": shared(("human", "x"), ("function_call", '{"arguments": {}}')),
    "half a character in a call": shared(("human", "x"), ("function_call", '{"name": "\\ud83d"}')),
    "arguments in a list": shared(
        ("human", "x"), ("function_call", '{"name": "f", "arguments": [1]}')
    ),
    "arguments are no JSON": shared(
        ("human", "x"), ("function_call", '{"name": "f", "arguments": "a=1"}')
    ),
    "tools are no JSON": shared(("human", "x"), ("gpt", "y"), tools="f(x)"),
    "tools are a number": shared(("human", "x"), ("gpt", "y"), tools=3),
    "tool is text": shared(("human", "x"), ("gpt", "y"), tools='["f"]'),
    "tool without name": shared(("human", "x"), ("gpt", "y"), tools=[{"type": "function"}]),
    "system is a number": shared(("human", "x"), ("gpt", "y"), system=3),
    "two systems": shared(("system", "s"), ("human", "x"), ("gpt", "y"), system="t"),
    "user calls": json.dumps(
        {"conversations": [{"from": "human", "value": "x", "tool_calls": [{"name": "f"}]}]}
    ),
    "calls are an object": json.dumps(
        {"conversations": [{"from": "gpt", "value": "x", "tool_calls": {"name": "f"}}]}
    ),
    "train is text": json.dumps({"conversations": [{"from": "gpt", "value": "x", "train": "no"}]}),
    "weight below 0": json.dumps({"conversations": [{"from": "gpt", "value": "x", "weight": -1}]}),
    "thought is a list": json.dumps(
        {"conversations": [{"from": "gpt", "value": "x", "reasoning_content": []}]}
    ),
    "id is a list": json.dumps(
        {
            "conversations": [
                {"from": "gpt", "value": "x", "tool_calls": [{"id": [], "name": "f"}]},
            ]
        }
    ),
    "nothing is trained": json.dumps(
        {
            "conversations": [
                {"from": "human", "value": "x"},
                {"from": "gpt", "value": "y", "train": False},
            ]
        }
    ),
}
BAD_ROWS = [(messages(), name, row) for name, row in BAD_MESSAGES.items()]
BAD_ROWS += [(alpaca(), name, row) for name, row in BAD_ALPACA.items()]  # type: ignore[misc]


BAD_ROWS += [(sharegpt(), name, row) for name, row in BAD_SHAREGPT.items()]  # type: ignore[misc]
GOOD_ROWS: dict[str, dict[str, Any]] = {
    "messages": GOOD,
    "alpaca": {"instruction": "x", "output": "y"},
    "sharegpt": {"conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]},
}
READERS: dict[str, Any] = {"messages": Messages, "alpaca": Alpaca, "sharegpt": ShareGpt}


@pytest.mark.parametrize(
    ("source", "name", "row"), BAD_ROWS, ids=[f"{s.format}-{n}" for s, n, _ in BAD_ROWS]
)
def test_both_readers_say_the_same(source: Source, name: str, row: str, tmp_path: Path) -> None:
    """The compiler's finding about a row is the runtime's, word for word, with the same line and help."""
    good = GOOD_ROWS[source.format]
    above = "" if name.startswith("array") or not row else f"\ufeff{json.dumps(good)}\r\n\r\n"
    content = (above + row).encode().replace(b"\\\\xe9", b"\xe9")
    facts = written(tmp_path, content, source)
    path = tmp_path / source.path
    with pytest.raises(UserError) as raised:
        runtime_read([reader_of(source, path)])
    said = (raised.value.message, raised.value.help)
    if facts.bad_row is None:
        assert (facts.num_rows, said) == (0, (f"{path}: the data set is empty", ""))
    else:
        assert said == (f"{path}:{facts.bad_row.line}: {facts.bad_row.message}", facts.bad_row.help)


@pytest.mark.parametrize(
    "row",
    [
        GOOD,
        {"messages": [{"role": "system", "content": ""}, *GOOD["messages"]]},
        {**GOOD, "extra": [1, {"x": None}], "messages": GOOD["messages"] * 3},
    ],
)
def test_both_readers_take_the_same(row: dict[str, Any], tmp_path: Path) -> None:
    """What the compiler lets pass, the runtime reads."""
    assert written(tmp_path, json.dumps(row), messages()).num_rows == 1
    assert len(runtime_read([Messages(path=tmp_path / "rows.jsonl", name="x")])) == 1


def test_both_readers_take_the_same_columns(tmp_path: Path) -> None:
    """Renamed columns are followed on both sides, and named in the finding."""
    names = {"instruction": "frage", "output": "antwort", "input": "dazu"}
    content = json.dumps({"frage": "", "dazu": "x", "antwort": "y"})
    assert written(tmp_path, content, alpaca(**names)).num_rows == 1
    assert len(runtime_read([Alpaca(path=tmp_path / "rows.jsonl", name="x", **names)])) == 1
    bad = written(tmp_path, '{"frage": "x"}', alpaca(**names)).bad_row
    assert bad is not None
    assert bad.message == "the row has no column `antwort`"


ANY = st.recursive(
    st.none() | st.booleans() | st.integers(0, 2) | st.sampled_from(["", "x", "[]", '{"name": "f"}']),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(st.sampled_from(["name", "arguments", "function"]), inner, max_size=2),
    max_leaves=4,
)  # fmt: skip
TAGS = ["human", "gpt", "system", "function_call", "observation", "user", "assistant", "tool"]


@st.composite
def any_rows(draw: st.DrawFn) -> dict[str, Any]:
    """Return rows that are nearly right: known tags, values of any kind, calls, tools and marks."""
    keys = draw(
        st.sampled_from([("from", "value", "conversations"), ("role", "content", "messages")])
    )
    beside = {"tool_calls": ANY, "train": ANY, "weight": ANY, "name": ANY}
    said = st.fixed_dictionaries(
        {keys[0]: st.sampled_from(TAGS), keys[1]: ANY | st.just('{"name": "f"}')}, optional=beside
    )
    return {
        keys[2]: draw(st.lists(said, max_size=5)),
        **draw(st.fixed_dictionaries({}, optional={"tools": ANY, "system": ANY})),
    }


@settings(
    max_examples=400, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(row=any_rows())
def test_both_readers_judge_any_row_alike(row: dict[str, Any], tmp_path: Path) -> None:
    """Whatever a row holds, both take it, or both refuse it with the same words."""
    for source in (messages(), sharegpt()):
        facts = written(tmp_path, json.dumps(row), source)
        try:
            runtime_read([reader_of(source, tmp_path / "rows.jsonl")])
            said = None
        except UserError as fault:
            said = (fault.message, fault.help)
        bad = facts.bad_row
        expected = bad and (f"{tmp_path / 'rows.jsonl'}:{bad.line}: {bad.message}", bad.help)
        assert said == expected


# --- the whole -------------------------------------------------------------------------------------------


def test_gathering_never_raises(tmp_path: Path) -> None:
    """With nothing there at all, everything missing is a fact."""
    facts = gather(structured(""), tmp_path / "none" / "spec.toml", {})
    assert (facts.model.state, facts.output.state) == ("missing", "absent")
    assert [fact.state for fact in facts.data] == ["missing"]


def test_the_environment_is_asked_by_name_only(workspace: Path) -> None:
    """Facts say whether a variable is set, and never hold its value."""
    spec = structured('[model]\ntoken_env = "HF_TOKEN"\n')
    facts = gather(spec, workspace / "spec.toml", {"HF_TOKEN": "hf_secret"})
    assert facts.environment == {"HF_TOKEN": True}
    assert "hf_secret" not in repr(facts)
