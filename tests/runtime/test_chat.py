"""Chat: streaming, stopping, remembering, and the command line."""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
import torch

import tiny
from tunec.runtime import models
from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.inference import chat as chat_function
from tunec.runtime.inference.chat import Conversation, _converse, _printable

SETTINGS: dict[str, Any] = {
    "max_new_tokens": 12,
    "temperature": 0.0,
    "top_p": 1.0,
    "repetition_penalty": 1.0,
    "system": None,
}


@pytest.fixture(scope="module")
def lively(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a tiny model whose answers differ with every word of the question."""
    folder = tiny.make_model(tmp_path_factory.mktemp("lively") / "model", tied=False)
    model = models.load_causal_lm(folder, dtype="fp32")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(12 if parameter.ndim == 2 else 1)
        # Only plain letters: an answer shows as it is.
        model.lm_head.weight[: len(models.load_tokenizer(folder)) - 100] = 0
    model.save_pretrained(str(folder))
    return folder


@pytest.fixture(scope="module")
def loaded(lively: Path) -> tuple[Any, Any]:
    """The model and its tokenizer; do not change them."""
    return models.load_causal_lm(lively, dtype="fp32").eval(), models.load_tokenizer(lively)


def conversation(loaded: tuple[Any, Any], **settings: Any) -> Conversation:
    return Conversation(*loaded, **{**SETTINGS, **settings})


def prompt_of(tokenizer: Any, *texts: str, system: str | None = None) -> Any:
    """Return the tokens a conversation of `texts` leads to, ready for an answer."""
    roles = ["user", "assistant"] * len(texts)
    turns = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=False)]
    head = [{"role": "system", "content": system}] if system else []
    return tokenizer.apply_chat_template(
        head + turns, add_generation_prompt=True, return_tensors="pt", return_dict=True
    )


def generated(loaded: tuple[Any, Any], *texts: str, length: int = 12, **options: Any) -> str:
    """Return the answer as one call of generate makes it."""
    model, tokenizer = loaded
    prompt = prompt_of(tokenizer, *texts, **options)
    ids = model.generate(**prompt, max_new_tokens=length, do_sample=False, pad_token_id=0)
    text: str = tokenizer.decode(ids[0, prompt["input_ids"].shape[1] :], skip_special_tokens=True)
    return text


def workers() -> list[threading.Thread]:
    # Bars and remote files have threads that stay; xdist has its own.
    others = ("tqdm", "Tmonitor", "fsspec", "asyncio", "execnet", "Dummy")
    return [
        thread
        for thread in threading.enumerate()
        if thread is not threading.main_thread() and not thread.name.startswith(others)
    ]


# The conversation


def test_pieces_are_the_answer(loaded: tuple[Any, Any]) -> None:
    """The pieces, in order, are what generate() answers, and they come in more than one."""
    pieces = list(conversation(loaded, max_new_tokens=40).ask("who keeps the station?"))
    assert "".join(pieces) == generated(loaded, "who keeps the station?", length=40)
    assert len([piece for piece in pieces if piece]) > 1


def test_turns_are_remembered(loaded: tuple[Any, Any]) -> None:
    """The second question is asked with the first and its answer before it."""
    talk = conversation(loaded)
    first = "".join(talk.ask("one"))
    second = "".join(talk.ask("two"))
    assert second == generated(loaded, "one", first, "two")
    assert [m["role"] for m in talk.messages] == ["user", "assistant"] * 2


def test_clear(loaded: tuple[Any, Any]) -> None:
    """Clearing forgets the turns and keeps the system prompt."""
    talk = conversation(loaded, system="You are Wren.")
    before = "".join(talk.ask("one"))
    talk.clear()
    assert talk.messages == [{"role": "system", "content": "You are Wren."}]
    assert "".join(talk.ask("one")) == before == generated(loaded, "one", system="You are Wren.")
    assert before != generated(loaded, "one")


@pytest.mark.parametrize("limit", [1, 5])
def test_stops_at_the_limit(loaded: tuple[Any, Any], limit: int) -> None:
    """An answer has at most `max_new_tokens` tokens."""
    model, _ = loaded
    lengths: list[int] = []
    original = model.generate

    def counted(**options: Any) -> Any:
        ids = original(**options)
        lengths.append(ids.shape[1] - options["input_ids"].shape[1])
        return ids

    talk = conversation((model, loaded[1]), max_new_tokens=limit)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(model, "generate", counted)
        list(talk.ask("hello"))
    assert lengths == [limit]


def forced(model: Any, token: int) -> Any:
    """Return what makes the model always answer `token`: a logits processor in its generate()."""
    original = model.generate

    def force(input_ids: Any, scores: torch.Tensor) -> torch.Tensor:
        scores = torch.full_like(scores, -1e9)
        scores[:, token] = 0.0
        return scores

    def generate(**options: Any) -> Any:
        return original(**options, logits_processor=[force])

    return generate


def test_stops_at_the_end_mark(loaded: tuple[Any, Any], monkeypatch: Any) -> None:
    """An answer ends at the tokenizer's end of sequence, which is not shown."""
    model, tokenizer = loaded
    monkeypatch.setattr(model, "generate", forced(model, tokenizer.eos_token_id))
    assert "".join(conversation(loaded).ask("hello")) == ""


def test_stops_at_every_end_mark_of_the_model(loaded: tuple[Any, Any], monkeypatch: Any) -> None:
    """A model that names several end marks (Gemma's end of turn, Llama 3's two) is stopped by each."""
    model, tokenizer = loaded
    other = tokenizer("x")["input_ids"][0]
    monkeypatch.setattr(model.generation_config, "eos_token_id", [other, 2])
    monkeypatch.setattr(model, "generate", forced(model, other))
    assert "".join(conversation(loaded).ask("hello")) == "x"


def test_the_run_decides_on_repetition(loaded: tuple[Any, Any], monkeypatch: Any) -> None:
    """A penalty the model's own settings name does not replace the run's."""
    expected = generated(loaded, "hello")
    monkeypatch.setattr(loaded[0].generation_config, "repetition_penalty", 50.0)
    assert generated(loaded, "hello") != expected
    assert "".join(conversation(loaded).ask("hello")) == expected


def test_sampling(loaded: tuple[Any, Any]) -> None:
    """With a temperature the answer is drawn at random: the same for a seed, another for another."""
    answers = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        answers.append("".join(conversation(loaded, temperature=1.5).ask("hello")))
    assert answers[0] == answers[1] != answers[2]


def test_leaving_early_stops_the_model(loaded: tuple[Any, Any]) -> None:
    """A caller that leaves in mid answer leaves no thread behind; what was said so far is remembered."""
    talk = conversation(loaded, max_new_tokens=100_000)
    answer = talk.ask("hello")
    start = next(piece for piece in answer if piece)
    assert workers()
    answer.close()  # type: ignore[attr-defined]
    assert not workers()
    assert talk.messages[-1]["role"] == "assistant"
    assert talk.messages[-1]["content"].endswith(start)
    talk.sampling["max_new_tokens"] = 3
    assert isinstance("".join(talk.ask("and again")), str)


def test_fault_of_the_model(loaded: tuple[Any, Any], monkeypatch: Any) -> None:
    """A fault in the thread reaches the caller, and does not hang it."""

    def fail(**options: Any) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loaded[0], "generate", fail)
    with pytest.raises(torch.OutOfMemoryError):
        list(conversation(loaded).ask("hello"))
    assert not workers()


def test_template_that_refuses(loaded: tuple[Any, Any], lively: Path) -> None:
    """A template without a place for system prompts says so in one line."""
    tokenizer = models.load_tokenizer(lively)
    tokenizer.chat_template = "{{ raise_exception('System role not supported') }}"
    with pytest.raises(UserError) as caught:
        list(conversation((loaded[0], tokenizer), system="Be kind.").ask("hello"))
    assert (
        caught.value.message
        == "the chat template refuses this conversation: System role not supported"
    )


def test_input_that_is_no_text(loaded: tuple[Any, Any]) -> None:
    """Bytes of the terminal that are no text become question marks, not an error."""
    assert "".join(conversation(loaded).ask("a\udcff")) == generated(loaded, "a?")


def test_models_that_take_no_token_types(loaded: tuple[Any, Any], monkeypatch: Any) -> None:
    """Only token ids and mask are handed on, whatever else a tokenizer makes."""
    _, tokenizer = loaded
    names = ["input_ids", "token_type_ids", "attention_mask"]
    monkeypatch.setattr(tokenizer, "model_input_names", names)
    assert "".join(conversation(loaded).ask("hi"))


# The terminal


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain\n\ttext", "plain\n\ttext"),
        ("\x1b[2J\x1b]0;title\x07clear", "[2J]0;titleclear"),
        ("a\rb\x08\x00\x7f", "ab"),
        ("\x9b31mred\x85", "31mred"),
        ("日本 🙂 e\u0301 \u200d", "日本 🙂 e\u0301 \u200d"),
    ],
)
def test_control_characters(text: str, shown: str) -> None:
    """A model cannot move the cursor, clear the screen or set the title; other text is left alone."""
    assert _printable(text) == shown


def type_in(monkeypatch: Any, *lines: str | type[BaseException]) -> None:
    waiting = iter([*lines, EOFError])

    def read(prompt: str) -> str:
        line = next(waiting)
        if isinstance(line, str):
            return line
        raise line

    monkeypatch.setattr("builtins.input", read)


def test_a_session(loaded: tuple[Any, Any], monkeypatch: Any, capsys: Any) -> None:
    """Questions are answered, commands obeyed, blank lines ignored, and Ctrl-D ends the talk."""
    type_in(monkeypatch, "hello", "", "  ", "/nonsense", "/clear", "hello")
    talk = conversation(loaded)
    _converse(talk, "base model")
    shown = capsys.readouterr().out
    answer = _printable(generated(loaded, "hello"))
    assert shown.startswith("base model\n/clear forgets")
    assert shown.count(answer) == 2
    assert "forgotten" in shown
    assert shown.count("/exit (or Ctrl-D)") == 2
    assert len(talk.messages) == 2


@pytest.mark.parametrize("end", ["/exit", "/quit", EOFError, KeyboardInterrupt])
def test_ending_a_session(loaded: tuple[Any, Any], monkeypatch: Any, capsys: Any, end: Any) -> None:
    """Each of the ways out leads out, without a traceback."""
    type_in(monkeypatch, end, "hello")
    talk = conversation(loaded)
    _converse(talk, "base model")
    assert talk.messages == []


def test_ctrl_c_stops_the_answer_only(loaded: tuple[Any, Any], monkeypatch: Any, capsys: Any) -> None:  # fmt: skip
    """Ctrl-C in mid answer ends the answer and not the talk; no thread is left."""
    type_in(monkeypatch, "hello", "again")
    talk = conversation(loaded, max_new_tokens=100_000)
    shown: list[str] = []

    def interrupted(text: str) -> str:
        shown.append(text)
        if len(shown) == 3:
            talk.sampling["max_new_tokens"] = 3
            raise KeyboardInterrupt
        return text

    module = importlib.import_module("tunec.runtime.inference.chat")
    monkeypatch.setattr(module, "_printable", interrupted)
    _converse(talk, "base model")
    assert not workers()
    assert " ..." in capsys.readouterr().out
    assert [m["role"] for m in talk.messages] == ["user", "assistant"] * 2


# The program

PROGRAM = """
from pathlib import Path
from tunec.runtime import inference, models

RUN_DIR = Path(__file__).resolve().parent
inference.chat(
    base=models.Base(RUN_DIR / "../model"), method="lora", trained=RUN_DIR / "final", merged=RUN_DIR / "merged",
    checkpoints=RUN_DIR / "checkpoints", device="cpu", max_new_tokens=8, temperature=0.0, top_p=1.0,
    repetition_penalty=1.0,
)
"""


@pytest.fixture
def run_dir(tmp_path: Path, lively: Path) -> Path:
    """A run folder before training: nothing but the program, and the model beside it."""
    (tmp_path / "model").symlink_to(lively)
    folder = tmp_path / "run ünd"
    folder.mkdir()
    (folder / "chat.py").write_text(PROGRAM)
    return folder


def write_adapter(folder: Path, base: Path) -> Any:
    """Write an adapter that changes every answer, and its tokenizer, to `folder`; return the model."""
    torch.manual_seed(4)
    model = models.add_lora(
        models.load_causal_lm(base, dtype="fp32"), rank=2, alpha=64, dropout=0.0, targets="all-linear"
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.save_pretrained(str(folder))
    models.load_tokenizer(base).save_pretrained(str(folder))
    return model.eval()


def start(run_dir: Path, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(run_dir / "chat.py"), *arguments],
        capture_output=True, encoding="utf-8", errors="replace", check=False, timeout=120,
        cwd="/", env={**os.environ, **variables}, stdin=subprocess.DEVNULL,
    )  # fmt: skip


def within(run_dir: Path, monkeypatch: Any, capsys: Any, *arguments: str) -> tuple[int, str, str]:
    """Run the program in this process; return its code, output and errors."""
    monkeypatch.setattr(sys, "argv", ["chat.py", *arguments])
    capsys.readouterr()
    code: Any = 0
    try:
        chat_function(
            base=models.Base(run_dir / "../model"), method="lora", trained=run_dir / "final",
            merged=run_dir / "merged", checkpoints=run_dir / "checkpoints", device="cpu",
            max_new_tokens=8, temperature=0.0, top_p=1.0, repetition_penalty=1.0,
        )  # fmt: skip
    except SystemExit as end:
        code = end.code
    shown = capsys.readouterr()
    return int(code), shown.out, shown.err


@pytest.mark.heavy
def test_program(run_dir: Path, loaded: tuple[Any, Any]) -> None:
    """A process answers each prompt and ends with 0; before training it says that this is the base model."""
    done = start(run_dir, "--prompt", "hello", "--prompt", "who?", LC_ALL="C", PYTHONIOENCODING="ascii")  # fmt: skip
    assert (done.returncode, done.stderr) == (
        0,
        "nothing was trained yet: this is the base model\n",
    )
    first, second = (
        _printable(generated(loaded, text, length=8)).encode("ascii", "replace").decode()
        for text in ("hello", "who?")
    )
    assert done.stdout == f"> hello\n{first}\n\n> who?\n{second}\n"


def test_variants(run_dir: Path, monkeypatch: Any, capsys: Any) -> None:
    """Base, adapter (the default once it is there), a checkpoint's adapter and the merged model each answer."""
    base = run_dir.parent / "model"
    adapted = write_adapter(run_dir / "final", base)
    tokenizer = models.load_tokenizer(base)
    other = write_adapter(run_dir / "checkpoints" / "step-20" / "adapter", base)
    merged = adapted.merge_and_unload()
    merged.save_pretrained(str(run_dir / "merged"))
    tokenizer.save_pretrained(str(run_dir / "merged"))
    plain = models.load_causal_lm(base, dtype="fp32").eval()
    trained, untrained = (
        _printable(generated((model, tokenizer), "hello", length=8)) for model in (merged, plain)
    )
    assert trained != untrained
    assert generated((other, tokenizer), "hello", length=8)
    for arguments, answer in (
        ([], trained),
        (["--model", "adapter"], trained),
        (["--model", "trained"], trained),
        (["--model", "merged"], trained),
        (["--checkpoint", "20"], trained),
        (["--model", "base"], untrained),
    ):
        code, shown, errors = within(run_dir, monkeypatch, capsys, *arguments, "--prompt", "hello")
        assert (code, shown, errors) == (0, f"> hello\n{answer}\n", "")


def test_nothing_is_there(run_dir: Path, monkeypatch: Any, capsys: Any) -> None:
    """Asking for what was not trained, not exported or not saved names the command that makes it."""
    for arguments, message, help in (
        (["--model", "adapter"], f"there are no trained weights at {run_dir / 'final'}", "tunec train SPEC"),
        (["--model", "merged"], f"there is no merged model at {run_dir / 'merged'}", "tunec export SPEC"),
        (["--checkpoint", "7"], "there is no adapter of step 7", "steps with a checkpoint: none"),
    ):  # fmt: skip
        code, shown, errors = within(run_dir, monkeypatch, capsys, *arguments, "--prompt", "hello")
        assert (code, shown) == (ExitCode.CONFLICT, "")
        assert errors.startswith(f"error: {message}\n  help: ")
        assert help in errors


def test_checkpoints_that_are_there(run_dir: Path, monkeypatch: Any, capsys: Any) -> None:
    """The message names the steps in order, and is not confused by other folders."""
    for name in ("step-100", "step-9", "step-old", ".step-11.tmp"):
        (run_dir / "checkpoints" / name).mkdir(parents=True)
    _, _, errors = within(run_dir, monkeypatch, capsys, "--checkpoint", "7", "--prompt", "hello")
    assert "steps with a checkpoint: 9, 100;" in errors


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--model", "other"], "invalid choice: 'other'"),
        (["--checkpoint", "x"], "invalid int value: 'x'"),
        (["--checkpoint", "5", "--model", "base"], "--checkpoint names an adapter"),
        (["--temperature", "-1"], "--temperature is 0 or more"),
        (["hello"], "unrecognized arguments: hello"),
    ],
)
def test_usage(run_dir: Path, monkeypatch: Any, capsys: Any, arguments: list[str], message: str) -> None:  # fmt: skip
    """A wrong option is told with the usage and code 2, before any model is loaded."""
    code, _, errors = within(run_dir, monkeypatch, capsys, *arguments)
    assert code == ExitCode.USAGE
    assert message in errors


def test_damaged_adapter(run_dir: Path, monkeypatch: Any, capsys: Any) -> None:
    """A damaged adapter is one line and the code for checkpoints."""
    write_adapter(run_dir / "final", run_dir.parent / "model")
    (run_dir / "final" / "adapter_config.json").write_text(json.dumps({}))
    code, _, errors = within(run_dir, monkeypatch, capsys, "--prompt", "hello")
    assert code == ExitCode.CHECKPOINT
    assert errors.startswith(f"error: {run_dir / 'final'}: cannot load the adapter: ")
    assert "Traceback" not in errors


def test_system_prompt(run_dir: Path, loaded: tuple[Any, Any], monkeypatch: Any, capsys: Any) -> None:  # fmt: skip
    """`--system` sets the system prompt of every question."""
    _, shown, _ = within(
        run_dir, monkeypatch, capsys, "--system", "You are Wren.", "--prompt", "hello"
    )
    answer = generated(loaded, "hello", length=8, system="You are Wren.")
    assert shown == f"> hello\n{_printable(answer)}\n"
