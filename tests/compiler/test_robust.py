"""No input makes a traceback, a hang, or more than a gibibyte: not a spec, and not a file that a spec names."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tunec.compiler import files
from tunec.compiler.cli import main
from tunec.compiler.files import MAX_BYTES
from tunec.compiler.pipeline import MAX_FINDINGS, analyse

MIB = 2**20
TIME_LIMIT_S = 60
"""Nothing here takes a second; this only tells a hang from a slow machine."""

SOUND = """\
[run]
output_dir = "runs/a"
[model]
path = "org/name"
[data]
sources = [{ format = "messages", path = "d.jsonl" }]
[method]
type = "full"
[batch]
global_size = 2
micro_size = 1
"""
CHAT = '{"messages":[{"role":"user","content":"a"},{"role":"assistant","content":"b"}]}\n'


@pytest.fixture(autouse=True)
def _no_hang() -> Iterator[None]:
    """End a test that hangs, also one that waits in the operating system."""

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(TIME_LIMIT_S)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the data of the sound spec."""
    (tmp_path / "d.jsonl").write_text(CHAT)
    return tmp_path


Report = tuple[int, str]
Check = Callable[..., Report]


@pytest.fixture
def check(folder: Path, capsys: pytest.CaptureFixture[str]) -> Check:
    """Run `tunec check` on a spec of that content and return exit code and output."""

    def run(content: str | bytes, *flags: str) -> Report:
        path = folder / "spec.toml"
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return check_path(path, capsys, *flags)

    return run


def check_path(path: Path, capsys: pytest.CaptureFixture[str], *flags: str) -> Report:
    """Run `tunec check` and return exit code and output; nothing may go to standard error."""
    with pytest.raises(SystemExit) as end:
        main(["check", str(path), *flags])
    output, errors = capsys.readouterr()
    assert errors == ""
    assert isinstance(end.value.code, int)
    return end.value.code, output


def with_line(section: str, line: str) -> str:
    """Return the sound spec with a further line in a section."""
    if f"[{section}]" not in SOUND:
        return f"{SOUND}[{section}]\n{line}\n"
    return SOUND.replace(f"[{section}]\n", f"[{section}]\n{line}\n")


# --- the text of a spec ----------------------------------------------------------------------------------


def test_the_sound_spec_is_sound(check: Check) -> None:
    """The tests below fail for what they change, and for nothing else."""
    assert check(SOUND)[0] == 0


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"\xef\xbb\xbf" + SOUND.encode(), None),
        (SOUND.replace("\n", "\r\n").encode(), None),
        (SOUND.replace("\n", "\r").encode(), "P103"),
        (b"", "T202"),
        (b"\xef\xbb\xbf", "T202"),
        (b"\xef\xbb\xbf" * 2, "P120"),
        (b"\0", "P111"),
        (SOUND.encode() + bytes(1000), "P111"),
        (b"\xff\xfe\xfd", "P102"),
        (b"x = '\xe2\x82", "P102"),
        (b"x = '\xed\xa0\x80'", "P102"),
        ('x = "ü"'.encode("latin-1"), "P102"),
        (SOUND.encode("utf-16"), "P102"),
        (SOUND.encode("utf-16-le"), "P111"),
        (SOUND.encode("utf-16-be"), "P111"),
        (SOUND.encode("utf-32"), "P102"),
        (b"\x1b]0;owned\x07 = 1", "P120"),
        (b"\x7fELF\x02\x01\x01" + bytes(range(256)), "P102"),
        (b"PK\x03\x04\x14\x00", "P111"),
    ],
    ids=lambda value: value[:12].hex() if isinstance(value, bytes) else str(value),
)
def test_any_encoding_is_read_or_refused(content: bytes, code: str | None, check: Check) -> None:
    """Byte order marks and CRLF are accepted; other encodings and binary files are refused with a code."""
    exit_code, output = check(content)
    assert exit_code == (code is not None)
    assert code is None or f"[{code}]" in output
    assert "spec.toml" in output


@pytest.mark.parametrize(
    ("content", "code"),
    [
        ("a = " + "[" * 10_000 + "]" * 10_000, "P105"),
        ("a = " + "[" * (MAX_BYTES - 10), "P105"),
        ("a = " + "{a=" * 10_000 + "1" + "}" * 10_000, "P105"),
        ("a = " + "[{a=" * 5_000 + "1" + "}]" * 5_000, "P105"),
        (".".join(["a"] * 10_000) + " = 1", "P106"),
        (f"[{'.'.join(['a'] * 10_000)}]", "P106"),
        (f"[[{'.'.join(['a'] * 10_000)}]]", "P106"),
        ("a = {" + ".".join(["a"] * 10_000) + " = 1}", "P106"),
        ("#" * (MAX_BYTES - 1), "T202"),
        ("\n" * (MAX_BYTES - 1), "T202"),
        ('"' * (MAX_BYTES - 1), "P120"),
        ("'" * (MAX_BYTES - 1), "P120"),
        ('a = "' + "\\" * (MAX_BYTES - 10), "P121"),
        ('a = "' + "x" * (MAX_BYTES - 10), "P121"),
        ("[a]\n" * 20_000, "P104"),
        ("[[a]]\n" * 20_000, "T201"),
        ("a = [\n" * 20_000, "P123"),
        ("".join(f"k{i} = 1\n" for i in range(20_000)), "T207"),
        (with_line("run", "".join(f"k{i} = 1\n" for i in range(20_000))), "T207"),
        (with_line("allow", "".join(f'c{i} = "x"\n' for i in range(20_000))), "T214"),
        (SOUND.replace('{ format = "messages", path = "d.jsonl" }', "1," * 2_000), "T207"),
        (SOUND.replace('path = "d.jsonl" }', 'path = "e.jsonl" },' + "{}," * 2_000), "T207"),
        (SOUND.replace('type = "full"', f'type = "lora"\ntargets = [{"1," * 20_000}]'), "T207"),
        ("x = " + "1" * 500_000, "P108"),
        ("x = 0." + "1" * 500_000, "T201"),
        ("x = 1e" + "1" * 500_000, "P109"),
    ],
    ids=lambda value: value[:16] if isinstance(value, str) else str(value),
)  # fmt: skip
def test_whatever_is_large_or_deep_is_soon_told(content: str, code: str, check: Check) -> None:
    """Up to the size limit, a spec of any shape ends in findings, in a report that someone can read."""
    exit_code, output = check(content)
    assert exit_code == 1
    assert f"[{code}]" in output
    assert output.count("\n -->") + output.count(" --> ") <= 2 * (MAX_FINDINGS + 1)
    assert len(output) < 5 * MIB


@pytest.mark.parametrize(
    "piece",
    [
        *("a.", "a-", "a://", "a://a:", "eyJaaaaaaaa-", "eyJaaaaaaaa.", "hf_", "sk-", "xoxb-", "-----BEGIN A "),
        *("x_env = ", "<|", "<|a", "{{ ", "(", "(.*", "a*", "layers.0.", "0", "\U0001f600", "\u0301", "../", "%s"),
    ],
)  # fmt: skip
def test_a_long_text_is_judged_in_no_time(piece: str, check: Check) -> None:
    """A long repetition of one pattern in a path, a name, a target or a key makes no search quadratic."""
    text = piece * (150_000 // len(piece.encode()))
    for content in (
        SOUND.replace("org/name", text),
        SOUND.replace("d.jsonl", text),
        SOUND.replace('type = "full"', f'type = "lora"\ntargets = ["{text}"]'),
        with_line("run", f'"{text}" = "{text}"'),
        with_line("template", f'type = "named"\nname = "{text}"'),
    ):
        exit_code, output = check(content)
        assert exit_code in (0, 1)
        assert len(output) < MIB


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a = 1\na = 2\n", 2),
        ("[a]\n[b]\n[a]\n", 3),
        ("a = 1\na.b = 2\n", 2),
        ("[a]\nb.c = 1\n[a.b]\n", 3),
        ("a = []\n[[a]]\n", 2),
        ("[[a]]\n[a]\n", 2),
        ("a = {b = 1}\na.c = 2\n", 2),
        ("a = {b = 1}\n[a.c]\n", 2),
        ("[a.b]\n[a]\nb = 1\n", 3),
        ("'a' = 1\n\"\\u0061\" = 2\n", 2),
    ],
)
def test_what_is_defined_twice_shows_both_places(text: str, line: int, check: Check) -> None:
    """Keys, tables, dotted keys and lists of tables: the second place is the finding, the first a label."""
    exit_code, output = check(text)
    assert exit_code == 1
    assert "error[P104]" in output
    assert f"spec.toml:{line}:" in output
    assert "first defined here" in output


@pytest.mark.parametrize(
    ("key", "value", "code"),
    [
        ("steps", "2020-01-01T00:00:00Z", "T203"),
        ("steps", "10:00:00", "T203"),
        ("schedule", "2020-01-01", "T203"),
        ("learning_rate", "nan", "P109"),
        ("learning_rate", "-nan", "P109"),
        ("learning_rate", "inf", "P109"),
        ("epochs", "-inf", "P109"),
        ("learning_rate", "1e400", "P109"),
        ("learning_rate", "-1e400", "P109"),
        ("learning_rate", "1e-400", "T210"),
        ("steps", "9" * 10_000, "P108"),
        ("steps", "-" + "9" * 10_000, "P108"),
        ("steps", "0x" + "f" * 10_000, "P108"),
        ("steps", "1" + "_0" * 10_000, "P108"),
        ("steps", "9223372036854775808", "P108"),
        ("seed", "9223372036854775807", "T210"),
        ("steps", "true", "T203"),
        ("steps", '"4"', "T203"),
        ("steps", "[4]", "T203"),
        ("steps", "{ a = 4 }", "T203"),
        ("steps", "4.0", "T203"),
    ],
    ids=lambda value: value[:20],
)
def test_values_of_another_type_are_refused(key: str, value: str, code: str, check: Check) -> None:
    """Dates, infinities, numbers beyond 64 bits and the like are told at their place, whatever their length."""
    exit_code, output = check(with_line("training", f"{key} = {value}"))
    assert exit_code == 1
    assert f"error[{code}]" in output
    assert "spec.toml:13:" in output
    assert max(map(len, output.splitlines())) < 200


def test_numbers_at_the_edge_do_not_break_any_rule(folder: Path) -> None:
    """Every number of the spec at the largest and smallest value that TOML can hold: findings, no exception."""
    for number in ("9223372036854775807", "-9223372036854775808", "1.7e308", "5e-324", "-0.0"):
        lines = "\n".join(
            [
                *(f"[training]\nepochs = {number}\nlearning_rate = {number}", f"warmup_ratio = {number}"),
                *("[optimizer]\ntype = 'adamw'", f"beta1 = {number}\nepsilon = {number}"),
                *("[export]", f"max_shard_gib = {number}", "[launch]", "device = 'cpu'"),
                *([] if "." in number or "e" in number else [f"processes = {number}"]),
            ]
        )  # fmt: skip
        path = folder / "spec.toml"
        path.write_text(SOUND + lines)
        assert analyse(path, {}).spec is not None


@pytest.mark.parametrize(
    ("key", "odd"),
    [
        ('"m\u0430x_length"', "U+0430"),
        ("m\u0430x_length", "U+0430"),
        ('"max\u200b_length"', "U+200B"),
        ('"max_length\\u00a0"', "U+00A0"),
        ('"max\u2010length"', "U+2010"),
        ('"\uff4dax_length"', "U+FF4D"),
        ("max_length\u00a0", "U+00A0"),
    ],
    ids=ascii,
)
def test_a_letter_that_only_looks_right_is_named(key: str, odd: str, check: Check) -> None:
    """A key with a letter of another script, or an invisible one, gets a finding that names the odd letter."""
    exit_code, output = check(with_line("data", f"{key} = 512"))
    assert exit_code == 1
    assert odd in output
    assert "spec.toml:6:" in output


def test_control_characters_do_not_reach_the_terminal(check: Check) -> None:
    """Escape sequences in keys, values, comments and data are shown as what they are."""
    for text in (
        with_line("data", '"\\u001b]0;x\\u0007" = 3'),
        SOUND.replace("runs/a", "\\u001b[31mred\\u009b1m"),
        SOUND.replace("runs/a", "\x1b[31mred"),
        SOUND.replace("org/name", "none \\u001b[2J"),
        SOUND.replace("d.jsonl", "\\u001b[2J.jsonl"),
        SOUND + "# \x1b[31m\n",
        "\x1b[31m",
    ):
        for form in ("text", "json", "sarif", "github"):
            output = check(text, "--format", form)[1]
            assert output
            assert not set(output) & {
                chr(code) for code in (*range(10), *range(11, 32), *range(127, 160))
            }


# --- what a spec's name may lead to -----------------------------------------------------------------------


def test_what_is_no_regular_file_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folders, pipes, devices, loops, dangling links, and names that are too long or impossible: one finding each."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    Path("loop").symlink_to("loop")
    Path("dangling").symlink_to("nowhere")
    Path("zero").symlink_to("/dev/zero")
    Path("file").touch()
    for name, code in {
        ".": "P114",
        "fifo": "P114",
        "/dev/zero": "P114",
        "zero": "P114",
        "/dev/null": "P114",
        "loop": "P115",
        "dangling": "P113",
        "missing": "P113",
        "file/below": "P115",
        "x" * 300: "P115",
        "y/" * 3000: "P115",
    }.items():
        exit_code, output = check_path(Path(name), capsys)
        assert exit_code == 1
        assert f"error[{code}]" in output, name
        assert name[:40] in output


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_without_permission_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """What may not be read is told in the words of the system."""
    path = tmp_path / "secret.toml"
    path.write_text(SOUND)
    path.chmod(0)
    exit_code, output = check_path(path, capsys)
    assert exit_code == 1
    assert "P115" in output


@pytest.mark.parametrize("change", ["grow", "touch", "vanish", "truncate"])
def test_a_spec_that_changes_while_it_is_read(
    change: str, folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half an old text and half a new one are never taken for a spec; one that vanishes was read whole."""
    path = folder / "spec.toml"
    path.write_text(SOUND)
    read = os.read

    def read_and_change(descriptor: int, size: int) -> bytes:
        data = read(descriptor, min(size, 64))
        if change == "grow":
            path.write_text(SOUND * 2)
        elif change == "truncate":
            os.truncate(path, 10)
        elif change == "touch":
            os.utime(path, ns=(1, 1))
        else:
            path.unlink(missing_ok=True)
        return data

    monkeypatch.setattr(files.os, "read", read_and_change)
    exit_code, output = check_path(path, capsys)
    assert exit_code == int(change != "vanish")
    assert ("P116" in output) == (change != "vanish")


def test_a_file_that_never_ends_is_given_up(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that grows as fast as it is read stops at the limit."""
    path = folder / "spec.toml"
    path.write_text(SOUND)
    monkeypatch.setattr(files.os, "read", lambda _, size: b"#" * min(size, 1 << 16))
    exit_code, output = check_path(path, capsys)
    assert exit_code == 1
    assert "P107" in output or "P116" in output


# --- files that a spec names -----------------------------------------------------------------------------

CONFIG = {"model_type": "llama", "vocab_size": 10, "hidden_size": 4, "num_hidden_layers": 1}
SPEC = SOUND.replace("org/name", "model").replace('type = "full"', 'type = "lora"') + (
    '[template]\ntype = "file"\npath = "chat.jinja"\n[adapters]\npaths = ["adapter"]\n'
    '[tokenizer]\nadd_tokens = ["<a>"]\n'
)


@pytest.fixture
def checkout(folder: Path) -> Path:
    """A spec that names a model, an adapter, a template and data, all of them sound enough to be read."""
    (folder / "spec.toml").write_text(SPEC)
    (folder / "chat.jinja").write_text("{{ messages }}")
    (folder / "model").mkdir()
    (folder / "model" / "config.json").write_text(json.dumps(CONFIG))
    (folder / "model" / "tokenizer.json").write_text('{"model": {"vocab": {"a": 0}}}')
    (folder / "model" / "tokenizer_config.json").write_text('{"eos_token": "a"}')
    (folder / "model" / "generation_config.json").write_text("{}")
    (folder / "model" / "model.safetensors").write_bytes(weights({}))
    (folder / "adapter").mkdir()
    (folder / "adapter" / "adapter_config.json").write_text('{"peft_type": "LORA", "r": 4}')
    (folder / "adapter" / "adapter_model.safetensors").write_bytes(weights({}))
    return folder


def weights(header: Any, size: int = 0) -> bytes:
    """Return a safetensors file of that header and so many bytes of data."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + bytes(size)


NAMED = (
    "d.jsonl", "chat.jinja", "model", "model/config.json", "model/tokenizer.json",
    "model/tokenizer_config.json", "model/generation_config.json", "model/chat_template.jinja",
    "model/model.safetensors", "model/model.safetensors.index.json", "adapter",
    "adapter/adapter_config.json", "adapter/adapter_model.safetensors", "runs", "runs/a",
    "runs/a/manifest.json", "runs/a/result.json", "runs/a/checkpoints",
)  # fmt: skip
OBSTACLES = ("fifo", "loop", "zero", "folder", "binary", "empty", "surrogates", "sparse", "socket")


def put(path: Path, kind: str) -> None:
    """Put something in the place of a file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        path.rename(path.with_name(f"{path.name}.before"))
    path.unlink(missing_ok=True)
    if kind == "fifo":
        os.mkfifo(path)
    elif kind == "socket":
        os.mknod(path, 0o140644)
    elif kind in ("loop", "zero"):
        path.symlink_to(path.name if kind == "loop" else "/dev/zero")
    elif kind == "folder":
        path.mkdir()
    elif kind == "sparse":
        with path.open("wb") as file:
            file.truncate(2**40)
    else:
        contents = {
            "binary": bytes(range(256)) * 40,
            "empty": b"",
            "surrogates": b'{"a": "\\ud800", "weight_map": {"a": "\\udfff"}, "chat_template": "\\ud800"}\n',
        }
        path.write_bytes(contents[kind])


@pytest.mark.parametrize("kind", OBSTACLES)
@pytest.mark.parametrize("name", NAMED)
def test_no_named_file_can_hold_the_compiler_up(
    name: str, kind: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A pipe, a loop, a device, a folder, noise or a tebibyte in the place of any file: findings, in every format."""
    put(checkout / name, kind)
    form = "sarif" if kind == "surrogates" else "text"
    exit_code, output = check_path(checkout / "spec.toml", capsys, "--format", form)
    assert exit_code in (0, 1)
    assert output


DEEP = b'{"a":' * 50_000 + b"1" + b"}" * 50_000
JSONS: dict[str, bytes] = {
    "deep object": DEEP,
    "deep list": b"[" * 50_000 + b"]" * 50_000,
    "deep inside": b'{"text_config": ' + DEEP + b"}",
    "nan": b'{"vocab_size": NaN, "hidden_size": Infinity, "num_hidden_layers": -Infinity, "r": NaN}',
    "huge numbers": b'{"vocab_size": 1' + b"0" * 4000 + b', "hidden_size": 1e999, "r": ' + b"9" * 30 + b"}",
    "too many digits": b'{"vocab_size": ' + b"9" * 10_000 + b"}",
    "negative": b'{"vocab_size": -1, "hidden_size": -4, "num_hidden_layers": -1, "max_position_embeddings": -1,'
    b' "num_experts": -8, "r": -1}',
    "zero": b'{"vocab_size": 0, "hidden_size": 0, "num_hidden_layers": 0, "max_position_embeddings": 0, "r": 0}',
    "duplicates": b'{"vocab_size": 1, "vocab_size": {}, "vocab_size": 2}',
    "surrogates": b'{"model_type": "\\ud800", "eos_token": "\\udc00", "chat_template": "\\ud800", "\\ud800": 1,'
    b' "peft_type": "\\ud800", "base_model_name_or_path": "\\ud800"}',
    "escapes": b'{"model_type": "\\u001b[2J", "peft_type": "\\u001b]0;x\\u0007", "base_model_name_or_path":'
    b' "\\u001b[31m", "chat_template": "\\u001b[31m", "eos_token": "\\u0000", "target_modules": ["\\u001b"]}',
    "no object": b"[1, 2]",
    "text": b'"text"',
    "null": b"null",
    "cut": b'{"vocab_size": 1',
    "not UTF-8": b'{"model_type": "\xff"}',
    "mark": b"\xef\xbb\xbf{}",
    "utf-16": '{"vocab_size": 1}'.encode("utf-16"),
}  # fmt: skip
KEYS = (
    "model_type", "architectures", "vocab_size", "hidden_size", "intermediate_size", "num_hidden_layers",
    "num_attention_heads", "num_key_value_heads", "max_position_embeddings", "tie_word_embeddings", "rope_scaling",
    "rope_parameters", "rope_theta", "text_config", "vision_config", "quantization_config", "num_experts",
    "torch_dtype", "dtype", "auto_map", "sliding_window", "eos_token_id", "pad_token_id", "eos_token", "pad_token",
    "chat_template", "model", "added_tokens", "vocab", "peft_type", "r", "lora_alpha", "target_modules",
    "modules_to_save", "base_model_name_or_path", "task_type", "weight_map", "metadata", "temperature", "top_p",
    "files", "tunec", "status", "step", "transformers_version",
)  # fmt: skip
WRONG: tuple[Any, ...] = (
    None, True, -1, 10**30, 1e308, "", "\ud800", [], [[]], [None], {}, {"": {}}, {"type": 1, "rope_type": []},
    {"quant_method": 7, "bits": "x"}, [{"content": 1, "id": "x"}], {"vocab": [[1], [], "a"]}, {"vocab": {"a": "b"}},
    {"a": "../../etc/passwd"}, {"a": ""}, {"a": ".."}, {"a": "x" * 100_000}, {"a": 1}, "x" * 100_000,
)  # fmt: skip
JSON_FILES = tuple(name for name in NAMED if name.endswith(".json"))


@pytest.mark.parametrize("name", JSON_FILES)
def test_no_json_breaks_the_compiler(
    name: str, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Deep, infinite, wrong or strange JSON in the place of any file ends in findings without control characters."""
    path = checkout / name
    path.parent.mkdir(parents=True, exist_ok=True)
    contents = [
        *JSONS.values(),
        *(json.dumps(dict.fromkeys(KEYS, value)).encode() for value in WRONG),
    ]
    for number, content in enumerate(contents):
        path.write_bytes(content)
        for form in ("text", "json", "sarif", "github")[number % 4 : number % 4 + 1]:
            exit_code, output = check_path(checkout / "spec.toml", capsys, "--format", form)
            assert exit_code in (0, 1)
            assert not set(output) & {"\x1b", "\x07", "\0"}
            assert len(output) < MIB


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\0" * 7,
        b"\xff" * 8,
        (2**63).to_bytes(8, "little") + b"{}",
        weights(b"[]"),
        weights(b"null"),
        weights(b'{"a": 1}'),
        weights(DEEP),
        weights(b"\xff\xff"),
        weights({"__metadata__": {}}),
        weights({"a": {}}),
        weights({"a": {"dtype": "F32", "shape": [-1], "data_offsets": [0, 4]}}),
        weights({"a": {"dtype": "F32", "shape": [True], "data_offsets": [0, 4]}}),
        weights({"a": {"dtype": "F32", "shape": [1.0], "data_offsets": [0, 4]}}),
        weights({"a": {"dtype": "F32", "shape": "12", "data_offsets": [0, 4]}}),
        weights({"a": {"dtype": None, "shape": [1], "data_offsets": [0, 4]}}, 4),
        weights({"a": {"dtype": "F32", "shape": [2**62, 2**62], "data_offsets": [0, 4]}}, 4),
        weights({"a": {"dtype": "F32", "shape": [10**4000] * 100, "data_offsets": [0, 4]}}, 4),
        weights({"a": {"dtype": "F32", "shape": [1] * 100_000, "data_offsets": [0, 4]}}, 4),
        weights({"a": {"dtype": "F32", "shape": [0], "data_offsets": [0, 10**4000]}}),
        weights({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4]}}),
        weights({"a": {"dtype": "F32", "shape": [1], "data_offsets": {"1": 4}}}),
        weights({"a": {"dtype": "F32", "shape": [1], "data_offsets": [4, 0]}}),
        weights(b'{"a": {"dtype": "F32", "shape": [NaN], "data_offsets": [0, Infinity]}}'),
        weights({".weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}, 4),
        weights({"\ud800.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}, 4),
        weights({"m.\x1b[2J.weight": {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}, 4),
    ],
    ids=lambda value: ascii(value[8:40]),
)  # fmt: skip
def test_no_safetensors_header_breaks_the_compiler(
    content: bytes, checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Lengths, shapes, offsets and names that cannot be are a finding about that file, or no finding."""
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        (checkout / name).write_bytes(content)
        exit_code, output = check_path(checkout / "spec.toml", capsys)
        assert exit_code in (0, 1)
        assert "\x1b" not in output


def test_no_pattern_of_a_spec_takes_for_ever(
    checkout: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A regular expression that backtracks without end is not tried on the names of modules."""
    name = f"model.layers.0.{'a' * 200}.weight"
    header = {name: {"dtype": "F32", "shape": [1, 1], "data_offsets": [0, 4]}}
    (checkout / "model" / "model.safetensors").write_bytes(weights(header, 4))
    for pattern in ("(a+)+b", "(a|a)*b", "(a|aa){1,99}b", "a*" * 30 + "b", ".*.*.*.*.*.*.*.*b"):
        for field in ("rank_pattern", "alpha_pattern"):
            line = f'type = "lora"\n{field} = {{ "{pattern}" = 4 }}'
            (checkout / "spec.toml").write_text(SPEC.replace('type = "lora"', line))
            assert check_path(checkout / "spec.toml", capsys)[0] in (0, 1)


ROWS: tuple[bytes, ...] = (
    DEEP, b"[" * 200_000, b'"', b"[" + b"1," * 300_000, b"[,]", b"[1 2]", b"[] []", b"\xff", b"\xef\xbb\xbf",
    b"\0" * 1000, b"9" * 10_000, b"[" + b"9" * 10_000 + b"]", b"NaN", b"[NaN]", b"{}\r{}\r", b"\n" * 100_000,
    CHAT.encode() * 3 + b'{"messages": ', b'{"messages": "a"}', b'{"messages": [[]]}', b'{"messages": [{}]}',
    b'{"messages": [{"role": [], "content": {}}]}', b'{"messages": [{"role": "\\ud800", "content": "\\ud800"}]}',
    b'{"messages": [{"role": "user", "content": "\\u001b[2J"}]}', b'{"\\u001b[2J": 1}', b'{"\\ud800": 1}',
    b'{"messages": null}', b"[null]", b'[{"messages": 1}, ' + DEEP + b"]", CHAT.encode("utf-16"),
    b'{"messages": [{"role": "' + b"x" * 200_000 + b'", "content": "a"}]}', b'{"' + b"k" * 200_000 + b'": 1}',
    b'{"messages": ' + b"[" * 2_000 + b"]" * 2_000 + b"}",
)  # fmt: skip


@pytest.mark.parametrize(
    "source",
    [
        'format = "messages"', 'format = "alpaca"', 'format = "sharegpt"', 'format = "text"',
        'format = "preference"', 'format = "prompt"',
        'format = "messages"\nlimit = -1', 'format = "messages"\nlimit = 9223372036854775807',
    ],
    ids=str.splitlines,
)  # fmt: skip
def test_no_row_breaks_the_compiler(
    source: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Whatever stands in a data file of any format is a row, or a finding that fits on a screen."""
    spec = folder / "spec.toml"
    line = 'sources = [{ format = "messages", path = "d.jsonl" }]'
    for name in ("d.jsonl", "d.json"):
        spec.write_text(f'{SOUND.replace(line, "")}[[data.sources]]\n{source}\npath = "{name}"\n')
        for content in ROWS:
            (folder / name).write_bytes(content)
            exit_code, output = check_path(spec, capsys)
            assert exit_code in (0, 1)
            assert not set(output) & {"\x1b", "\0"}
            assert len(output) < 20_000


@pytest.mark.parametrize("name", NAMED)
def test_files_that_vanish_between_two_looks(
    name: str, checkout: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that is seen but gone, or another kind, when it is opened, is no exception."""
    real = os.open
    for kind in ("gone", "fifo"):

        def open_late(
            path: Any, flags: int, mode: int = 0o777, *, kind: str = kind, **more: Any
        ) -> int:
            target = checkout / name
            if Path(os.fsdecode(path)) == target and target.is_file():
                target.unlink()
                if kind == "fifo":
                    os.mkfifo(target)
            return real(path, flags, mode, **more)

        monkeypatch.setattr(os, "open", open_late)
        exit_code, output = check_path(checkout / "spec.toml", capsys)
        monkeypatch.undo()
        assert exit_code in (0, 1)
        assert output


# --- memory ----------------------------------------------------------------------------------------------

CHILD = """
import resource, sys
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
from tunec.compiler.cli import main
main(sys.argv[1:])
"""


def limited(*words: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command line in a process that cannot have more than a gibibyte."""
    return subprocess.run(
        [sys.executable, "-c", CHILD, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
        timeout=TIME_LIMIT_S,
    )


@pytest.mark.parametrize("piece", [b"#", b"\n", b"k = 1\n", b"[a]\n", b"a = ["], ids=ascii)
def test_a_large_spec_is_not_even_read(piece: bytes, tmp_path: Path) -> None:
    """Fifty megabytes of whatever shape are refused by their size, with the name of the file."""
    path = tmp_path / "large.toml"
    path.write_bytes(piece * (50 * MIB // len(piece)))
    done = limited("check", path)
    assert (done.returncode, done.stderr) == (1, "")
    assert "P107" in done.stdout
    assert str(path) in done.stdout


@pytest.mark.parametrize(
    ("name", "piece", "size"),
    [
        ("model/tokenizer.json", b'{"":0},', 40 * MIB),
        ("model/model.safetensors.index.json", b'"a",', 100 * MIB),
        ("adapter/adapter_config.json", b"{},", 14 * 10**6),
        ("model/model.safetensors", b'{"":0},', 100 * MIB),
        ("model/model.safetensors", b"[],", 40 * MIB),
        ("chat.jinja", "\U0001f600".encode(), 47 * MIB),
        ("d.jsonl", b" ", 100 * MIB),
    ],
    ids=lambda value: value if isinstance(value, str) else ascii(value),
)  # fmt: skip
def test_large_files_stay_within_a_gibibyte(
    name: str, piece: bytes, size: int, checkout: Path
) -> None:
    """Files made to fill the memory are refused before they do, by their size or by what is in them."""
    content = b'{"a": [' + piece * (size // len(piece)) + b"0]}"
    is_weights = name.endswith(".safetensors")
    (checkout / name).write_bytes(weights(content) if is_weights else content)
    done = limited("check", checkout / "spec.toml")
    assert done.stderr == ""
    assert done.returncode in (0, 1)
