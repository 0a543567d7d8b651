"""References: each gives the numbers of an independent model, through steps, shards and resumes."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

import inprocess
import runs
import tiny
from tunec.runtime import models
from tunec.runtime.data.samples import IGNORED
from tunec.runtime.errors import ExitCode, UserError

STEPS = 3
DPO = """
[objective]
type = "dpo"
reference = {reference}
[data]
eval_rows = 3
sources = [{{ format = "preference", path = "data/pairs.jsonl" }}]
[training]
steps = 3
learning_rate = 1e-2
[batch]
global_size = 4
micro_size = 2
[checkpoints]
every_steps = 1
"""
LORA = '[method]\ntype = "lora"\nrank = 4\ndropout = 0.1\n'
FULL = '[method]\ntype = "full"\n'
CONTINUED = f'{LORA}[adapters]\npaths = ["adapter"]\n'
PISSA = '[method]\ntype = "lora"\nrank = 4\ninit = { type = "pissa" }\n'
BIAS = '[method]\ntype = "lora"\nrank = 4\nbias = "all"\n'
PROMPT = '[method]\ntype = "prompt"\nnum_tokens = 5\n'
PREFIX = '[method]\ntype = "prefix"\nnum_tokens = 5\n'
MODULES = '[method]\ntype = "lora"\nrank = 4\nfull_modules = ["embed_tokens", "norm"]\n'
OTHER = '{ type = "model", path = "other", adapters = ["other-adapter"] }'
START, BEFORE = '{ type = "start" }', '{ type = "precomputed" }'


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with models, an adapter for each whose B is not zero, and pairs."""
    folder: Path = tmp_path_factory.mktemp("references")
    (folder / "model").symlink_to(tiny_model)
    torch.manual_seed(5)
    other = load(folder / "model")
    with torch.no_grad():
        for parameter in other.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.02)
    shutil.copytree(tiny_model, folder / "other")
    other.save_pretrained(str(folder / "other"))
    for name, base in (("adapter", "model"), ("other-adapter", "other")):
        adapted = models.add_lora(
            load(folder / base), rank=4, alpha=8.0, dropout=0.0, targets="all-linear"
        )
        with torch.no_grad():
            for key, parameter in adapted.named_parameters():
                if "lora_B" in key:
                    parameter.normal_().mul_(0.05)
        adapted.save_pretrained(str(folder / name))
    rows = [
        {
            "prompt": f"What is number {number}?" + " Please." * (number % 4),
            "chosen": f"Number {number}." + " Yes." * (number % 3),
            "rejected": "No." + " Never." * (number % 5),
        }
        for number in range(15)
    ]
    (folder / "data").mkdir()
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data" / "pairs.jsonl").write_text(lines)
    return folder


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the engine of a finished run work on: it asks which of its machine's processes it is."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    yield
    # Models of later tests are not to be sharded.
    unset_hf_deepspeed_config()


def load(path: Path) -> Any:
    # A run before may have left its configuration behind.
    unset_hf_deepspeed_config()
    return models.load_causal_lm(path, dtype="fp32")


def by_peft(room: Path, base: str, adapter: str) -> Any:
    """Return a model with an adapter, by PEFT alone."""
    from peft import PeftModel

    return PeftModel.from_pretrained(load(room / base), str(room / adapter)).eval()


def run(room: Path, text: str, name: str, *, reference: str = START, **options: Any) -> Any:
    run_dir = inprocess.compiled(room, DPO.format(reference=reference) + text, name)
    inprocess.prepare(run_dir)
    return inprocess.train(run_dir, **options)


def batch_of(trainer: Any) -> dict[str, Tensor]:
    """Return some pairs of a training."""
    samples = trainer.samples
    batch: dict[str, Tensor] = trainer.collator([samples[index] for index in range(5)])
    return batch


def expected(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Return the log-probabilities of the tokens with a label, by whole logits."""
    with torch.no_grad():
        logits = model.eval()(
            input_ids=batch["input_ids"], attention_mask=batch["attention_mask"], use_cache=False
        ).logits
    targets = batch["labels"][:, 1:]
    kept = targets != IGNORED
    found: Tensor = logits[:, :-1].log_softmax(-1)[kept].gather(1, targets[kept][:, None])
    return found.squeeze(1)


def numbers(run_dir: Path) -> list[tuple[Any, ...]]:
    """Return everything of the metrics that a repeated run must repeat, to the last bit."""
    times = ("tokens_per_s",)
    return [
        tuple(sorted((key, value) for key, value in row.items() if key not in times))
        for row in runs.metrics(run_dir)
    ]


def kept(run_dir: Path) -> list[Path]:
    """Return the folders with log-probabilities that belong to the data of a run."""
    pointer = json.loads((run_dir / "prepared.json").read_text())
    return sorted(Path(pointer["folder"]).glob("references/[0-9a-f]*"))


def same(trainer: Any, model: Any) -> None:
    """The reference of a finished training says what the model says, and the policy something else."""
    batch = batch_of(trainer)
    alone = expected(model, batch)
    found = trainer.objective.reference.log_probs(trainer.model_wrapped, batch)
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)
    policy = trainer.objective.scorer(trainer.model_wrapped, batch).log_probs
    assert float((policy - alone).abs().max()) > 1e-2


CASES: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "lora": (LORA, START, ("model",)),
    "prompt": (PROMPT, START, ("model",)),
    "prefix": (PREFIX, START, ("model",)),
    "modules": (MODULES, START, ("model",)),
    "bias": (BIAS, START, ("model",)),
    "continued": (CONTINUED, START, ("model", "adapter")),
    "full": (FULL, START, ("model",)),
    "freeze": ('[method]\ntype = "freeze"\nblocks = 1\n', START, ("model",)),
    "model": (LORA, '{ type = "model", path = "other" }', ("other",)),
    "lora-precomputed": (LORA, BEFORE, ("model",)),
    "prompt-precomputed": (PROMPT, BEFORE, ("model",)),
    "continued-precomputed": (CONTINUED, BEFORE, ("model", "adapter")),
    "full-precomputed": (FULL, BEFORE, ("model",)),
    "pissa-precomputed": (PISSA, BEFORE, ("model",)),
}


SHARDED = ("lora", "continued", "full", "model", "full-precomputed")


@pytest.mark.parametrize(
    ("name", "stage"),
    [("continued", 2), *((name, 0) for name in CASES), *((name, 3) for name in SHARDED)],
)
def test_numbers(room: Path, name: str, stage: int) -> None:
    """After some steps every reference still gives the log-probabilities of the model it names."""
    text, reference, alone = CASES[name]
    # Without a threshold the weights of a model this small would stay whole.
    zero = f"[deepspeed]\nzero_stage = {stage}\n" + "persistence_threshold = 0\n" * (stage == 3)
    trainer = run(room, text + zero, f"{name}-{stage}", reference=reference)
    model = load(room / alone[0]) if len(alone) == 1 else by_peft(room, *alone)
    same(trainer, model)
    rows = runs.metrics(trainer.session.run_dir)
    # Where the start is the reference, the first step sees no difference; dropout is a difference.
    if text in (FULL, BIAS, MODULES):
        assert abs(rows[0]["margin"]) < 1e-5
    assert "eval_margin" in rows[-1]


@pytest.mark.parametrize(
    ("text", "reference"), [(CONTINUED, START), (FULL, START), (LORA, BEFORE), (FULL, BEFORE)]
)
def test_resume(room: Path, text: str, reference: str) -> None:
    """A run that was stopped ends with the bits of one that was not: the reference is still that of the start."""
    run(room, text, "whole", reference=reference)
    whole = room / "runs" / "whole"
    run(room, text, "stopped", reference=reference, stop_after=2)
    stopped = room / "runs" / "stopped"
    assert not (stopped / "final").exists()
    inprocess.train(stopped, resume=True)
    assert numbers(stopped) == numbers(whole)
    assert runs.weights_digest(stopped) == runs.weights_digest(whole)
    shutil.rmtree(room / "runs")


def test_used_again(room: Path, capsys: Any, monkeypatch: Any) -> None:
    """Log-probabilities are computed once for the same data and weights, and give what the model itself gives."""
    monkeypatch.setenv("TUNEC_CACHE", str(room / "cache"))
    plain = '[method]\ntype = "lora"\nrank = 4\n'
    first = run(room, plain, "first", reference=BEFORE).session.run_dir
    assert "computing the log-probabilities of 15 samples" in capsys.readouterr().out
    second = run(room, plain, "second", reference=BEFORE).session.run_dir
    assert "of an earlier run" in capsys.readouterr().out
    assert numbers(first) == numbers(second)
    start = run(room, plain, "start").session.run_dir
    for one, other in zip(runs.metrics(first), runs.metrics(start), strict=True):
        for key in one.keys() - {"tokens_per_s"}:
            assert one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-5)
    run(room, f"{plain}[model]\npath = 'other'\n", "third", reference=BEFORE)
    assert "computing" in capsys.readouterr().out, "another model's were taken"


def test_torn(room: Path, capsys: Any) -> None:
    """A torn file counts as none, and is replaced."""
    run_dir = run(room, LORA, "torn", reference=BEFORE).session.run_dir
    before = numbers(run_dir)
    for folder in kept(run_dir):
        values = folder / "0.npy"
        values.write_bytes(values.read_bytes()[:-8])
    capsys.readouterr()
    run_dir = run(room, LORA, "torn-2", reference=BEFORE).session.run_dir
    assert "computing" in capsys.readouterr().out
    assert numbers(run_dir) == before


@pytest.mark.parametrize("text", [LORA, FULL])
def test_gone(room: Path, text: str) -> None:
    """Without the file a resumed run computes again what it can, and ends with one line where it cannot."""
    stopped = run(room, text, "gone", reference=BEFORE, stop_after=2).session.run_dir
    for folder in kept(stopped):
        shutil.rmtree(folder)
    if text == LORA:
        inprocess.train(stopped, resume=True)
        run(room, text, "not-gone", reference=BEFORE)
        assert runs.weights_digest(stopped) == runs.weights_digest(room / "runs" / "not-gone")
    else:
        with pytest.raises(UserError, match="starting policy are gone") as fault:
            inprocess.train(stopped, resume=True)
        assert fault.value.code == ExitCode.CHECKPOINT
    shutil.rmtree(room / "runs")


def test_kto(room: Path) -> None:
    """The answers to other prompts have log-probabilities beforehand, too."""
    rows = [
        {
            "messages": [
                {"role": "user", "content": f"What is {n}?"},
                {"role": "assistant", "content": f"It is {n}." + " Yes." * (n % 3)},
            ],
            "label": n % 3 > 0,
        }
        for n in range(15)
    ]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (room / "data" / "judged.jsonl").write_text(lines)
    text = (
        '[objective]\ntype = "kto"\nreference = {reference}\n[data]\neval_rows = 3\n'
        'sources = [{{ format = "messages", path = "data/judged.jsonl", label = "label" }}]\n'
        '[method]\ntype = "full"\n[training]\nsteps = 3\nlearning_rate = 1e-2\n'
    )
    found = {}
    for name, reference in (("start", START), ("before", BEFORE)):
        run_dir = inprocess.compiled(room, text.format(reference=reference), f"kto-{name}")
        inprocess.prepare(run_dir)
        inprocess.train(run_dir)
        found[name] = runs.metrics(run_dir)
    for one, other in zip(found["start"], found["before"], strict=True):
        for key in one.keys() - {"tokens_per_s"}:
            assert one[key] == pytest.approx(other[key], rel=1e-4, abs=1e-5)
    assert found["start"][-1]["eval_loss"] != pytest.approx(found["start"][0]["loss"], abs=1e-4)


def test_sets_in_16_bits(room: Path) -> None:
    """Every evaluation set has its log-probabilities, which stay fp32 where the model computes in bf16."""
    text = (
        DPO.replace("eval_rows = 3\n", "eval_sources = [{sources}]\n")
        .replace("[training]", '[evaluation]\neach_source = true\n[training]\nprecision = "bf16"')
        .format(
            reference=BEFORE,
            sources=", ".join(
                f'{{ format = "preference", path = "data/pairs.jsonl", name = "{name}", limit = 4 }}'
                for name in ("one", "two")
            ),
        )
    )
    run_dir = inprocess.compiled(room, text + FULL, "sets")
    inprocess.prepare(run_dir)
    trainer = inprocess.train(run_dir)
    row = runs.metrics(run_dir)[-1]
    assert row["eval_margin/one"] == row["eval_margin/two"] == row["eval_margin"]
    assert row["eval_margin"] > 0
    batch = trainer._prepare_inputs(batch_of(trainer))
    kept = batch["reference"][batch["reference"] != 0]
    assert kept.dtype == torch.float32
    assert not torch.equal(kept, kept.bfloat16().float())


def test_another_vocabulary(room: Path) -> None:
    """A reference with other tokens is refused when the run starts, too: its files may have changed since."""
    tiny.make_tokenizer(room / "small")
    from transformers import LlamaConfig, LlamaForCausalLM

    unset_hf_deepspeed_config()
    config = LlamaConfig.from_pretrained(room / "model", vocab_size=2000)
    LlamaForCausalLM(config).save_pretrained(str(room / "small"))
    shutil.copytree(room / "other", room / "moved", dirs_exist_ok=True)
    text = DPO.format(reference='{ type = "model", path = "moved" }') + LORA
    run_dir = inprocess.compiled(room, text, "small")
    inprocess.prepare(run_dir)
    shutil.copytree(room / "small", room / "moved", dirs_exist_ok=True)
    with pytest.raises(UserError, match="the reference has a vocabulary of 2,000") as fault:
        inprocess.train(run_dir)
    assert fault.value.code == ExitCode.DATA


@pytest.mark.parametrize("quantization", ["", 'quantization = { type = "quanto" },'])
def test_model_with_adapters(room: Path, quantization: str) -> None:
    """Another model with adapters in its weights, and in few bits: whatever the policy is, which stays as it was."""
    reference = f'{{ type = "model", path = "other", {quantization} adapters = ["other-adapter"] }}'
    trainer = run(room, LORA, f"other-{bool(quantization)}", reference=reference)
    batch = batch_of(trainer)
    alone = expected(by_peft(room, "other", "other-adapter"), batch)
    found = trainer.objective.reference.log_probs(trainer.model_wrapped, batch)
    difference = float((found - alone).abs().max())
    assert (1e-4 < difference < 0.5) if quantization else difference < 1e-4
    assert not any("quant" in type(module).__module__ for module in trainer.model.modules())
    assert not any("other" in name for name, _ in trainer.model.named_parameters())


def test_answers_that_are_made(room: Path) -> None:
    """Answers of GRPO are scored by the start, which the policy still is at first, or by another model."""
    rows = "".join(json.dumps({"prompt": f"Say {n}."}) + "\n" for n in range(4))
    (room / "data" / "prompts.jsonl").write_text(rows)
    (room / "rewards.py").write_text("def reward(answers):\n    return [len(a) for a in answers]\n")
    found = {}
    for name, reference in (("start", START), ("model", '{ type = "model", path = "other" }')):
        text = (
            f'[objective]\ntype = "grpo"\ngroup_size = 4\nbeta = 0.1\nreference = {reference}\n'
            'rewards = [{ type = "function", path = "rewards.py" }]\n'
            '[data]\nsources = [{ format = "prompt", path = "data/prompts.jsonl" }]\n'
            f"{CONTINUED}[training]\nsteps = 2\n[generation]\nmax_new_tokens = 4\n"
        ).replace("dropout = 0.1\n", "")
        run_dir = inprocess.compiled(room, text, f"grpo-{name}")
        inprocess.prepare(run_dir)
        inprocess.train(run_dir)
        found[name] = next(row["kl"] for row in runs.metrics(run_dir) if "kl" in row)
    assert abs(found["start"]) < 1e-6
    assert found["model"] > 1e-3


@pytest.mark.heavy
def test_two_ranks(room: Path) -> None:
    """Two processes share the work, and the shards of an adapter that is exchanged, and train what one does."""
    continued = CONTINUED.replace("dropout = 0.1\n", "")
    sharded = "[deepspeed]\nzero_stage = 3\npersistence_threshold = 0\n"
    launched = f"{continued}[launch]\nprocesses = 2\n{sharded}"
    run_dir = inprocess.compiled(room, DPO.format(reference=BEFORE) + launched, "two")
    done = runs.launch(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    start = run(room, continued, "one").session.run_dir
    for one, other in zip(runs.metrics(run_dir), runs.metrics(start), strict=True):
        for key in ("loss", "margin", "eval_loss", "eval_margin"):
            if key in other:
                assert one[key] == pytest.approx(other[key], rel=1e-3, abs=1e-4)
