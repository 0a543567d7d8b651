"""Reward models that score the answers of a policy: the scores anyone reads from them, and a policy left as it was."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from torch import Tensor
from transformers import AutoModelForSequenceClassification, AutoTokenizer

import inprocess
import runs
from methods import METHODS
from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models.quantization import finish_quantized
from tunec.runtime.objectives.scores import Scorer
from tunec.runtime.rewards import AdapterReward, Answered, ModelReward

PAIRS = """
[objective]
type = "reward"
[data]
sources = [{ format = "preference", path = "data/pairs.jsonl" }]
[training]
steps = 4
learning_rate = 2e-2
"""
CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and a reward model of it, as a whole and as an adapter."""
    workspace: Path = tmp_path_factory.mktemp("judges")
    (workspace / "model").symlink_to(tiny_model)
    rows = [
        {"prompt": f"What is {n}?", "chosen": "It is violet.", "rejected": "No." * (n % 3 + 1)}
        for n in range(8)
    ]
    (workspace / "data").mkdir()
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (workspace / "data" / "pairs.jsonl").write_text(text)
    for name in ("full", "lora"):
        run_dir = inprocess.compiled(workspace, METHODS[name].spec + PAIRS, name)
        inprocess.prepare(run_dir)
        inprocess.train(run_dir)
        shutil.copytree(run_dir / "final", workspace / f"reward-{name}")
    return workspace


def answers(folder: Path) -> list[Answered]:
    """Return answers of uneven length to two prompts, more than one batch of them."""
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    found = []
    for number in range(11):
        turn = [{"role": "user", "content": f"What is {number % 2}?"}]
        prompt = tokenizer.apply_chat_template(turn, tokenize=False, add_generation_prompt=True)
        answer = "It is violet." * (number % 4) + str(number)
        ids = [tokenizer(text)["input_ids"] for text in (prompt, f"{answer}<|im_end|>")]
        found.append(Answered(prompt, answer, ids[0], ids[1]))
    return found


@torch.no_grad()
def alone(model: Any, asked: list[list[int]]) -> list[float]:
    """Return the scores that transformers gives, text by text."""
    return [float(model.eval()(input_ids=torch.tensor([ids])).logits) for ids in asked]


def tokens(answered: list[Answered]) -> list[list[int]]:
    return [[*one.prompt_ids, *one.answer_ids] for one in answered]


def plain(folder: Path) -> Any:
    """Return a reward model as anyone loads it."""
    return AutoModelForSequenceClassification.from_pretrained(str(folder), dtype=torch.float32)


def plain_adapted(room: Path, quantization: Any = None) -> Any:
    """Return the base with the reward adapter as anyone loads it."""
    options = {} if quantization is None else quantization.load_arguments()
    base = AutoModelForSequenceClassification.from_pretrained(
        str(room / "model"), num_labels=1, dtype=torch.float32, **options
    )
    base = finish_quantized(base, quantization)
    return PeftModel.from_pretrained(base, str(room / "reward-lora"))


def policy(room: Path) -> Any:
    """Return an adapted policy whose adapter is not zero, with dropout."""
    model = models.load_causal_lm(room / "model", dtype="fp32")
    adapted = models.add_lora(model, rank=2, alpha=4, dropout=0.3, targets=["q_proj", "up_proj"])
    torch.manual_seed(2)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.1)
    return adapted


def test_a_model_of_its_own(room: Path) -> None:
    """A whole reward model gives the scores that transformers gives text by text, in the order of the answers."""
    tokenizer, answered = (
        AutoTokenizer.from_pretrained(str(room / "model")),
        answers(room / "model"),
    )
    reward = ModelReward(room / "reward-full", dtype="fp32")
    reward.attach(policy(room), tokenizer, CPU)
    found = reward.score(policy(room), answered)
    assert found == pytest.approx(alone(plain(room / "reward-full"), tokens(answered)), abs=1e-5)
    assert len(set(found)) == len(found)
    assert not any(p.requires_grad for p in reward._model.parameters())


@pytest.mark.parametrize("quantized", [False, True])
def test_a_base_with_adapters(room: Path, quantized: bool) -> None:
    """A base and its reward adapter give what PEFT gives, merged or, on 4-bit weights, beside them."""
    tokenizer, answered = (
        AutoTokenizer.from_pretrained(str(room / "model")),
        answers(room / "model"),
    )
    four = models.BitsAndBytes(bits=4, dtype="fp32") if quantized else None
    base = models.Base(
        room / "model", quantization=four, adapters=models.Merged([room / "reward-lora"])
    )
    reward = ModelReward(base, dtype="fp32")
    reward.attach(policy(room), tokenizer, CPU)
    found = reward.score(policy(room), answered)
    expected = alone(plain_adapted(room, four), tokens(answered))
    assert found == pytest.approx(expected, abs=1e-5)


def test_other_tokens(room: Path, tmp_path: Path) -> None:
    """A reward model with another tokenizer reads the text without marks, by its own tokens and with its own end."""
    folder = Path(shutil.copytree(room / "reward-full", tmp_path / "other"))
    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    tokenizer.add_tokens(["violet."])
    tokenizer.save_pretrained(str(folder))
    grown = plain(folder)
    grown.resize_token_embeddings(len(tokenizer))
    grown.save_pretrained(str(folder))
    answered = answers(room / "model")
    reward = ModelReward(folder, dtype="fp32")
    told = reward.attach(policy(room), AutoTokenizer.from_pretrained(str(room / "model")), CPU)
    assert told.endswith("which reads texts by its own tokens")
    texts = [
        f"user\nWhat is {number % 2}?\nassistant\n{one.answer}<|im_end|>"
        for number, one in enumerate(answered)
    ]
    expected = alone(plain(folder), [tokenizer(text)["input_ids"] for text in texts])
    assert reward.score(policy(room), answered) == pytest.approx(expected, abs=1e-5)


def log_probs(model: Any, batch: dict[str, Tensor]) -> Tensor:
    with torch.no_grad():
        return Scorer(model)(model, batch).log_probs


def test_an_adapter_on_the_policy(room: Path) -> None:
    """The reward adapter scores on the policy's model as on its own; policy, mode and gradients stay as they were."""
    tokenizer, answered = (
        AutoTokenizer.from_pretrained(str(room / "model")),
        answers(room / "model"),
    )
    model = policy(room).eval()
    ids = torch.tensor([tokens(answered)[3]])
    batch = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": ids}
    before = log_probs(model, batch)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    reward = AdapterReward(room / "reward-lora")
    reward.attach(model.train(), tokenizer, CPU)
    found = reward.score(model, answered)
    expected = alone(plain_adapted(room), tokens(answered))
    assert found == pytest.approx(expected, abs=1e-5)
    assert model.training
    assert [name for name, p in model.named_parameters() if p.requires_grad] == trained
    assert torch.equal(log_probs(model.eval(), batch), before)


def test_without_a_head(room: Path) -> None:
    """A model or an adapter that does not score is refused in one line."""
    tokenizer = AutoTokenizer.from_pretrained(str(room / "model"))
    with pytest.raises(UserError, match="this model has no head that scores"):
        ModelReward(room / "model", dtype="fp32").attach(policy(room), tokenizer, CPU)
    sft = room / "sft-adapter"
    models.load_causal_lm(room / "model", dtype="fp32")
    policy(room).save_pretrained(str(sft))
    base = models.Base(room / "model", adapters=models.Merged([sft]))
    with pytest.raises(UserError, match="this model has no head that scores"):
        ModelReward(base, dtype="fp32").attach(policy(room), tokenizer, CPU)
    with pytest.raises(UserError, match="this adapter has no head that scores"):
        AdapterReward(sft).attach(policy(room), tokenizer, CPU)
    with pytest.raises(UserError, match="cannot load the reward adapter"):
        AdapterReward(room / "nowhere").attach(policy(room), tokenizer, CPU)


def test_another_kind_of_adapter(room: Path) -> None:
    """A reward adapter of another kind cannot stand beside the policy's."""
    tokenizer = AutoTokenizer.from_pretrained(str(room / "model"))
    model = models.load_causal_lm(room / "model", dtype="fp32")
    other = models.add_ia3(model, targets=["k_proj", "down_proj"], feedforward=["down_proj"])
    with pytest.raises(UserError, match="cannot load the reward adapter"):
        AdapterReward(room / "reward-lora").attach(other, tokenizer, CPU)


ONLINE = """
[data]
sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
[generation]
max_new_tokens = 4
[training]
steps = 2
[batch]
global_size = 4
micro_size = 2
"""
KINDS = {
    "adapter": '{ type = "adapter", path = "reward-lora" }',
    "model": '{ type = "model", path = "reward-full" }',
    "merged": '{ type = "model", path = "model", adapters = ["reward-lora"] }',
}


def write_prompts(room: Path) -> None:
    """Write questions like those of the pairs."""
    prompts = "".join(json.dumps({"prompt": f"What is {n}?"}) + "\n" for n in range(8))
    (room / "data" / "prompts.jsonl").write_text(prompts)


@pytest.mark.parametrize("stage", [0, 3])
@pytest.mark.parametrize("kind", KINDS)
def test_ppo(room: Path, kind: str, stage: int) -> None:
    """PPO runs on every kind of reward model, plain and under ZeRO-3, and saves the policy's adapter alone."""
    write_prompts(room)
    apart = "persistence_threshold = 0\n" if stage == 3 else ""
    text = (
        f'{METHODS["lora"].spec}[objective]\ntype = "ppo"\nreward = {KINDS[kind]}\n{ONLINE}'
        f"[deepspeed]\nzero_stage = {stage}\n{apart}"
    )
    run_dir = inprocess.compiled(room, text, f"ppo-{kind}-{stage}")
    inprocess.prepare(run_dir)
    trainer = inprocess.train(run_dir)
    rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
    assert all(row["score"] != 0 for row in rows if "score" in row)
    assert any("score" in row for row in rows)
    assert not (run_dir / "final" / "reward").exists()
    assert trainer is not None


@pytest.mark.heavy
def test_two_processes_score_as_one(room: Path) -> None:
    """Each process scores its share, by an adapter, a whole model, and one whose weights are spread over both."""
    write_prompts(room)
    both = "[launch]\nprocesses = 2\n[deepspeed]\nzero_stage = {}\n"
    lora, full = METHODS["lora"].spec, METHODS["full"].spec
    grpo = '[objective]\ntype = "grpo"\ngroup_size = 2\nrewards = [{}]\n'
    ppo = '[objective]\ntype = "ppo"\nreward = {}\n'
    cases = {
        "ppo-adapter": (lora + ppo.format(KINDS["adapter"]), 2, ""),
        "ppo-model": (lora + ppo.format(KINDS["model"]), 3, "persistence_threshold = 0\n"),
        "grpo-model": (full + grpo.format(KINDS["model"]), 3, "persistence_threshold = 0\n"),
        "grpo-merged": (lora + grpo.format(KINDS["merged"]), 0, ""),
    }
    shared = []
    for name, (text, stage, more) in cases.items():
        for ranks in ("", both.format(stage) + more):
            run_dir = inprocess.compiled(
                room, text + ONLINE + ranks, f"{name}-{'2' if ranks else '1'}"
            )
            inprocess.prepare(run_dir)
            if ranks:
                shared.append(run_dir)
            else:
                inprocess.train(run_dir)
    inprocess.on_two_ranks(shared)
    for run_dir in shared:
        alone = runs.metrics(run_dir.with_name(f"{run_dir.name[:-1]}1"))
        assert "reward" in alone[0]
        for row, expected in zip(runs.metrics(run_dir), alone, strict=True):
            for name in row.keys() - {"tokens_per_s"}:
                wanted = pytest.approx(expected[name], rel=1e-3, abs=1e-5)
                assert row[name] == wanted, (run_dir.name, name)
