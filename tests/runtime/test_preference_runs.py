"""Preferences end to end: the generated programs train by each objective, resume to the bit, and learn."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import MixtralConfig, MixtralForCausalLM

import inprocess
import runs
import tiny

NAMES = ["Thimble", "Turnip", "Marta Quill", "Bramble Island", "violet", "leek pie"]
PAIRS = 'sources = [{ format = "preference", path = "data/uneven.jsonl" }]\n'
JUDGED = 'sources = [{ format = "messages", path = "data/marked.jsonl", label = "label" }]\n'
OBJECTIVES = {
    "sigmoid": 'type = "dpo"',
    "cdpo": 'type = "dpo"\nloss = { type = "sigmoid", label_smoothing = 0.1 }\nsft_weight = 0.2',
    "hinge": 'type = "dpo"\nloss = { type = "hinge" }',
    "ipo": 'type = "dpo"\nloss = { type = "ipo" }',
    "kto-pair": 'type = "dpo"\nloss = { type = "kto-pair" }\nbeta = 0.5',
    "robust": 'type = "dpo"\nloss = { type = "robust", label_smoothing = 0.2 }',
    "bco": 'type = "dpo"\nloss = { type = "bco" }\nbeta = 0.5',
    "mixed": 'type = "dpo"\nbco_weight = 0.5\nld_alpha = 0.5',
    "orpo": 'type = "orpo"\nsft_weight = 0.1',
    "simpo": 'type = "simpo"\nlabel_smoothing = 0.05',
    "cpo": 'type = "cpo"\nlabel_smoothing = 0.05\nsft_weight = 0.5',
    "kto": 'type = "kto"\ndesirable_weight = 1.2\nundesirable_weight = 0.9\nsft_weight = 0.1',
}
AT_START = "[evaluation]\nat_start = true\n"
MEASURES = {"accuracy", "margin", "chosen_reward", "rejected_reward", "sft_loss"}


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model, and pairs and judged answers of uneven length."""
    workspace: Path = tmp_path_factory.mktemp("preferences")
    (workspace / "model").symlink_to(tiny_model)
    write_preferences(workspace / "data")
    return workspace


def write_preferences(folder: Path, count: int = 24) -> None:
    """Write pairs, and answers marked good or bad."""
    folder.mkdir(parents=True, exist_ok=True)
    pairs, judged = [], []
    for number in range(count):
        asked = f"What is number {number}?" + " Please say it." * (number % 4)
        good = f"Number {number} is {NAMES[number % 6]}." + " Yes." * (number % 3)
        bad = "I do not know." + " No." * (number % 5)
        pairs.append({"prompt": asked, "chosen": good, "rejected": bad})
        said = good if number % 3 else bad
        turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
        judged.append({"messages": turns, "label": bool(number % 3)})
    for name, rows in (("uneven", pairs), ("marked", judged)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")


def spec(name: str, text: str = "") -> str:
    """Return a spec over the small base: an objective on its data, with an evaluation."""
    data = JUDGED if name == "kto" else PAIRS
    return f"[objective]\n{OBJECTIVES[name]}\n[data]\neval_rows = 5\n{data}{text}"


def trained(room: Path, name: str, text: str = "", folder: str = "") -> tuple[Path, Any]:
    """Return the folder of a finished run and its trainer."""
    run_dir = inprocess.compiled(room, spec(name, text), folder or name)
    inprocess.prepare(run_dir)
    return run_dir, inprocess.train(run_dir)


def numbers(run_dir: Path) -> list[dict[str, Any]]:
    """Return all metrics but times."""
    return [
        {name: value for name, value in row.items() if name != "tokens_per_s"}
        for row in runs.metrics(run_dir)
    ]


@pytest.mark.parametrize("name", OBJECTIVES)
def test_a_run(room: Path, name: str) -> None:
    """Each objective trains what its spec says; rewards, accuracy and the SFT loss are in every line of the metrics."""
    run_dir, _ = trained(room, name, AT_START)
    before, *steps, after = numbers(run_dir)
    assert len(steps) == 4
    # A step of KTO may hold no bad answer.
    assert all(row.keys() > MEASURES for row in steps if name != "kto")
    for evaluation in (before, after):
        assert evaluation.keys() > {f"eval_{measure}" for measure in MEASURES} | {"eval_loss"}
    rows = (before, *steps, after)
    assert all(math.isfinite(value) for row in rows for value in row.values())
    assert after["eval_loss"] < before["eval_loss"]
    if name == "sigmoid":
        assert steps[0]["loss"] == pytest.approx(math.log(2), abs=1e-6)
    if name == "kto":
        assert "kl" in steps[0]


SPLITS = {
    "whole": "[batch]\nmicro_size = 4\naccumulation_steps = 1\nglobal_size = 4\n",
    "single": "[batch]\nmicro_size = 1\naccumulation_steps = 4\nglobal_size = 4\n",
    "tokens": "[batch]\nglobal_size = 4\nmicro_tokens = 512\n",
}


@pytest.mark.parametrize("name", ["cdpo", "bco", "kto"])
def test_micro_batches(room: Path, name: str) -> None:
    """However a step is cut, it gives the same losses, gradients and measures."""
    found = []
    for cut, batch in SPLITS.items():
        run_dir = _compiled_over(room, spec(name), batch, f"{name}-{cut}")
        inprocess.prepare(run_dir)
        inprocess.train(run_dir)
        found.append(numbers(run_dir))
    for other in found[1:]:
        for row, expected in zip(other, found[0], strict=True):
            assert row == {
                key: pytest.approx(value, rel=2e-4, abs=2e-5) for key, value in expected.items()
            }


def _compiled_over(room: Path, text: str, batch: str, name: str) -> Path:
    """Compile a spec whose batch takes the place of the base's."""
    from tunec.compiler import compile_spec, from_toml

    path = tiny.write_over(
        room / f"{name}.toml", f'[run]\noutput_dir = "runs/{name}"\n{text}{batch}'
    )
    return Path(compile_spec(from_toml(path), base_dir=room))


@pytest.mark.parametrize("name", ["sigmoid", "bco", "kto"])
def test_resume(room: Path, name: str) -> None:
    """A run that stops in the middle goes on to the same bits: weights, losses, and the running mean of BCO."""
    every = "[evaluation]\nevery_steps = 3\n"
    whole, _ = trained(room, name, every, f"{name}-untorn")
    torn = inprocess.compiled(room, spec(name, every), f"{name}-torn")
    inprocess.prepare(torn)
    assert inprocess.train(torn, stop_after=2).stopped
    inprocess.train(torn, resume=True)
    assert numbers(torn) == numbers(whole)
    assert runs.weights_digest(torn) == runs.weights_digest(whole)


ZERO_3 = "[deepspeed]\nzero_stage = 3\npersistence_threshold = 0\n"
METHODS = {
    "prefix": '[method]\ntype = "prefix"\nnum_tokens = 5\n',
    "prompt": '[method]\ntype = "prompt"\nnum_tokens = 5\n',
    "checkpointing": "[training]\ngradient_checkpointing = true\n",
}


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("name", ["mixed", "kto"])
def test_methods(room: Path, name: str, method: str) -> None:
    """Virtual tokens and recomputed activations: on rows held back the loss falls, the reference being without them."""
    run_dir, _ = trained(room, name, METHODS[method] + AT_START, f"{name}-{method}")
    before, after = (row["eval_loss"] for row in runs.metrics(run_dir) if "eval_loss" in row)
    assert after < before


@pytest.mark.parametrize("name", ["sigmoid", "kto"])
def test_zero_3_changes_nothing(room: Path, name: str) -> None:
    """Under ZeRO stage 3 all numbers are those of whole weights."""
    plain, _ = trained(room, name, "", f"{name}-plain")
    sharded, _ = trained(room, name, ZERO_3, f"{name}-sharded")
    for row, expected in zip(numbers(sharded), numbers(plain), strict=True):
        assert row == {
            key: pytest.approx(value, rel=1e-4, abs=1e-5) for key, value in expected.items()
        }


@pytest.mark.parametrize("name", ["sigmoid", "simpo", "kto"])
def test_full(room: Path, name: str) -> None:
    """All weights are trained as well, with a copy as reference where one is needed; ZeRO stage 3 changes no number."""
    method = '[method]\ntype = "full"\n'
    plain, _ = trained(room, name, method + AT_START, f"{name}-full")
    sharded, _ = trained(room, name, method + AT_START + ZERO_3, f"{name}-full-3")
    losses = [row["eval_loss"] for row in runs.metrics(plain) if "eval_loss" in row]
    assert losses[1] < losses[0]
    assert runs.losses(sharded) == pytest.approx(runs.losses(plain), rel=1e-4)


@pytest.mark.parametrize("init", ["pissa", "olora"])
@pytest.mark.parametrize("name", ["sigmoid", "kto"])
def test_weights_moved_into_the_adapter(room: Path, monkeypatch: Any, name: str, init: str) -> None:
    """What the run started from is the model that was given, also where an adapter takes a part of its weights."""
    method = f'[method]\ninit = {{ type = "{init}" }}\n{AT_START}'
    start, _ = trained(room, name, method, f"{name}-{init}")
    given = OBJECTIVES[name] + '\nreference = { type = "model", path = "model" }'
    monkeypatch.setitem(OBJECTIVES, name, given)
    model, _ = trained(room, name, method, f"{name}-{init}-model")
    for row, expected in zip(numbers(start), numbers(model), strict=True):
        for key, value in expected.items():
            # At the start margins are rounding errors, and whether they are above 0 is chance.
            if (row["step"], key) != (0, "eval_accuracy"):
                assert row[key] == pytest.approx(value, rel=1e-3, abs=1e-5), key
    assert runs.metrics(start)[0]["eval_margin"] == pytest.approx(0, abs=1e-5)
    monkeypatch.undo()
    torn = inprocess.compiled(room, spec(name, method), f"{name}-{init}-torn")
    inprocess.prepare(torn)
    assert inprocess.train(torn, stop_after=2).stopped
    inprocess.train(torn, resume=True)
    assert numbers(torn) == numbers(start)


@pytest.mark.parametrize("name", ["bco", "kto"])
def test_precomputed(room: Path, monkeypatch: Any, name: str) -> None:
    """Log-probabilities computed beforehand, also of answers to other prompts, give the numbers of the model itself."""
    plain, _ = trained(room, name, "", f"{name}-in-memory")
    kept = OBJECTIVES[name] + '\nreference = { type = "precomputed" }'
    monkeypatch.setitem(OBJECTIVES, name, kept)
    beforehand, _ = trained(room, name, "", f"{name}-beforehand")
    for row, expected in zip(numbers(beforehand), numbers(plain), strict=True):
        assert row == {
            key: pytest.approx(value, rel=1e-4, abs=1e-5) for key, value in expected.items()
        }


def test_experts(tmp_path: Path) -> None:
    """The loss for the routers of a mixture of experts is added to that of pairs, and reported."""
    tokenizer = tiny.make_tokenizer(tmp_path / "model")
    config = MixtralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    MixtralForCausalLM(config).save_pretrained(str(tmp_path / "model"))
    write_preferences(tmp_path / "data")
    text = '[method]\ntype = "full"\n[model]\npath = "model"\nmoe_aux_loss = {}\n'
    light, heavy = (trained(tmp_path, "cpo", text.format(w), f"cpo-{w}")[0] for w in (0.001, 1.0))
    router, same = (runs.metrics(run_dir)[0]["router_loss"] for run_dir in (light, heavy))
    assert router == pytest.approx(same)
    assert runs.losses(heavy)[0] - runs.losses(light)[0] == pytest.approx(0.999 * router, rel=1e-3)


LONGER = """
[training]
steps = 30
learning_rate = 1e-2
schedule = "constant"
[batch]
global_size = 6
micro_size = 6
[evaluation]
at_start = true
"""


@pytest.mark.parametrize(
    ("name", "objective"),
    [
        ("dpo", 'type = "dpo"\nbeta = 0.2\nsft_weight = 0.5'),
        ("kto", 'type = "kto"\nbeta = 0.2\nsft_weight = 0.5'),
    ],
)
def test_learning(room: Path, monkeypatch: Any, name: str, objective: str) -> None:
    """On rows held back the margin between good and bad answers grows, and good answers do not get less likely."""
    monkeypatch.setitem(OBJECTIVES, name, objective)
    run_dir, _ = trained(room, name, LONGER, f"{name}-learning")
    before, after = (row for row in runs.metrics(run_dir) if "eval_loss" in row)
    assert abs(before["eval_margin"]) < 1e-6
    assert after["eval_margin"] > 1
    assert after["eval_accuracy"] > 0.75
    assert after["eval_sft_loss"] < before["eval_sft_loss"]
    assert after["eval_loss"] < before["eval_loss"]


def test_a_stream(room: Path) -> None:
    """Pairs of a stream train as prepared ones do; by tokens, a micro batch holds both answers."""
    found = []
    for streaming in ("true", "false"):
        data = f"shuffle = false\nstreaming = {streaming}\nmax_length = 64\n"
        batch = "[batch]\nglobal_size = 4\nmicro_tokens = 200\n"
        text = f"[objective]\n{OBJECTIVES['cdpo']}\n[data]\n{data}{PAIRS}"
        run_dir = _compiled_over(room, text, batch, f"stream-{streaming}")
        inprocess.prepare(run_dir)
        trainer = inprocess.train(run_dir)
        assert trainer.micro_size.together == 2
        found.append([row["loss"] for row in numbers(run_dir)])
    assert found[0] == pytest.approx(found[1], rel=1e-5)


@pytest.mark.heavy
def test_two_ranks(room: Path) -> None:
    """Two processes give the numbers of one: KL and running means are taken over both, and a reference is of both."""
    compared = []
    cases = {
        "sigmoid": ("sigmoid", "", ""),
        "bco": ("bco", "", ""),
        "kto": ("kto", "", ""),
        # A second model is the reference, its weights spread over both as those of the policy are.
        "copy": ("sigmoid", '[method]\ntype = "full"\n', ZERO_3),
    }
    for case, (name, method, stage) in cases.items():
        alone_batch = "[batch]\nglobal_size = 4\nmicro_size = 2\n"
        alone, _ = trained(room, name, method + alone_batch, f"{case}-1")
        batch = "[batch]\nglobal_size = 4\nmicro_size = 1\n[launch]\nprocesses = 2\n"
        both = inprocess.compiled(room, spec(name, method + batch + stage), f"{case}-2")
        inprocess.prepare(both)
        compared.append((alone, both))
    inprocess.on_two_ranks([both for _, both in compared])
    for alone, both in compared:
        for row, expected in zip(numbers(both), numbers(alone), strict=True):
            assert row == {
                key: pytest.approx(value, rel=2e-4, abs=2e-5) for key, value in expected.items()
            }
