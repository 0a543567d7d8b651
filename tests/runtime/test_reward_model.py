"""Reward models: the loss of the papers, scores as anyone reads them, the same on every way through the engine."""

from __future__ import annotations

import json
import runpy
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import toy
from peft import PeftModel
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor
from torch.nn import functional
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    LlamaConfig,
    LlamaForCausalLM,
    MambaConfig,
    MambaForCausalLM,
    PreTrainedTokenizerFast,
)

import inprocess
import tiny
from methods import METHODS
from tunec.compiler.cli import main
from tunec.compiler.pipeline import analyse, plan_of
from tunec.runtime import models
from tunec.runtime.data.layouts import Batches, Collator
from tunec.runtime.data.samples import Sample, Samples
from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.models.reward import padding_apart
from tunec.runtime.models.score import ScoreReader
from tunec.runtime.objectives import RewardModel
from tunec.runtime.objectives.reward import pair_losses

PAIRS = """
[objective]
type = "reward"
center = 0.01
[data]
shuffle = false
sources = [{ format = "preference", path = "data/pairs.jsonl" }]
"""
RUN = """
[training]
steps = 3
learning_rate = 1e-2
schedule = "constant"
max_grad_norm = 1000.0
seed = 3
[batch]
global_size = 4
micro_size = 4
"""
FULL = '[method]\ntype = "full"\n'
TEXTS = ["a", "Number 3 is violet, yes.", "the boat is called Thimble and the dog"]


def write_pairs(path: Path, count: int = 24) -> Path:
    """Write pairs of uneven length, half of them with a margin."""
    rows = []
    for number in range(count):
        row: dict[str, Any] = {
            "prompt": f"What is {number}?" + " Please." * (number % 3),
            "chosen": "It is violet." + " Yes." * (number % 4),
            "rejected": "No." * (1 + number % 5),
        }
        rows.append(json.dumps(row | ({"margin": 0.5} if number % 2 else {})))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(rows) + "\n", encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and pairs for many runs."""
    workspace: Path = tmp_path_factory.mktemp("rewards")
    (workspace / "model").symlink_to(tiny_model)
    tiny.write_chats(workspace / "data" / "chat.jsonl", 8)
    write_pairs(workspace / "data" / "pairs.jsonl")
    return workspace


def trained(room: Path, name: str, text: str) -> tuple[Path, Any]:
    """Compile, prepare and train a run; return its folder and its trainer."""
    run_dir = inprocess.compiled(room, text, name)
    inprocess.prepare(run_dir)
    return run_dir, inprocess.train(run_dir)


def plain(final: Path, base: Path) -> tuple[Any, Any]:
    """Return model and tokenizer of a run as anyone loads them, without anything of ours."""
    tokenizer = AutoTokenizer.from_pretrained(str(final))
    is_adapter = (final / "adapter_config.json").is_file()
    model = AutoModelForSequenceClassification.from_pretrained(
        str(base if is_adapter else final),
        num_labels=1,
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    return (PeftModel.from_pretrained(model, str(final)) if is_adapter else model).eval(), tokenizer


@torch.no_grad()
def scores(model: Any, tokenizer: Any, texts: list[str], *, padded: bool) -> Tensor:
    """Return the scores that transformers gives to texts with an end mark, one by one or in one batch."""
    ended = [text + tokenizer.eos_token for text in texts]
    parts = [ended] if padded else [[text] for text in ended]
    found = [
        model(**tokenizer(part, return_tensors="pt", padding=True, padding_side="right")).logits
        for part in parts
    ]
    return torch.cat(found)[:, 0]


SHOWN = (
    *(
        "full",
        "freeze",
        "lora",
        "dora",
        "pissa",
        "embeddings",
        "ia3",
        "adalora",
        "ln-tuning",
        "vblora",
    ),
    *("prefix", "prompt", "p-tuning"),
)
"""One method of each way to be trained and saved."""


@pytest.mark.parametrize("name", SHOWN)
def test_method(room: Path, name: str) -> None:
    """Every method trains what the plan counted; PEFT and transformers alone read the same scores from its files."""
    case = METHODS[name]
    run_dir, trainer = trained(room, name, case.spec + PAIRS + RUN)
    model = trainer.model
    plan = plan_of(analyse(room / f"{name}.toml", {}))
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    counted = sum(size for size, _ in sizes), sum(size for size, grad in sizes if grad)
    assert plan.parameters is not None
    assert (plan.parameters.total, plan.parameters.trainable) == counted
    again, tokenizer = plain(run_dir / "final", room / "model")
    expected = scores(model.eval(), tokenizer, TEXTS, padded=False)
    found = scores(again, tokenizer, TEXTS, padded=False)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert len(set(found.tolist())) == 3


# The loss


def test_loss_by_hand() -> None:
    """-log sigmoid(1 - 0 - 0.5) + 0.1 (1 + 0)^2 and -log sigmoid(-1 - 1) + 0.1 (-1 + 1)^2."""
    chosen, rejected = torch.tensor([1.0, -1.0]), torch.tensor([0.0, 1.0])
    margins = torch.tensor([0.5, 0.0])
    expected = torch.tensor([0.474077 + 0.1, 2.126928])
    torch.testing.assert_close(pair_losses(chosen, rejected, margins, 0.1), expected)
    expected = torch.tensor([0.474077, 2.126928])
    torch.testing.assert_close(pair_losses(chosen, rejected, margins, 0.0), expected)


def scoring_llama(folder: Path, kind: str) -> Any:
    """Return a toy reward model whose padding token ends texts as well, ready to train."""
    writer = toy.llama(tied=True)
    writer.config.pad_token_id = writer.config.eos_token_id = 1
    writer.save_pretrained(str(folder))
    model = models.load_reward_model(folder, dtype="fp32", seed=5)
    if kind == "full":
        return models.train_all(model)
    adapted = models.add_lora(model, rank=2, alpha=4, dropout=0.0, targets=["q_proj", "down_proj"])
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    return adapted


PAIR_LENGTHS = [((9, 4), 0.5), ((5, 12), None), ((3, 3), 1.0)]


def toy_pairs() -> list[Sample]:
    """Return pairs of uneven length, each text with the end mark, which is the token of padding."""
    found = []
    for (chosen, rejected), margin in PAIR_LENGTHS:
        first, second = toy.samples(chosen, rejected)
        for one in (first, second):
            one.input_ids[-2:] = [7, 1]
        found.append(replace(first, rejected=second, value=margin))
    return found


@pytest.mark.parametrize("kind", ["full", "lora"])
def test_equals_transformers_text_by_text(tmp_path: Path, kind: str) -> None:
    """Loss, measures and gradients are those of a loop over texts without padding, read at their last token."""
    model, pairs = scoring_llama(tmp_path, kind), toy_pairs()
    head = (
        model.base_model.model.score.modules_to_save["default"] if kind == "lora" else model.score
    )
    decoder = model.base_model.model.model if kind == "lora" else model.model

    def score(sample: Sample) -> Tensor:
        hidden = decoder(input_ids=torch.tensor([sample.input_ids])).last_hidden_state
        return functional.linear(hidden[0, -1], head.weight)[0]

    losses, right = [], 0
    for pair in pairs:
        assert pair.rejected is not None
        chosen, rejected = score(pair), score(pair.rejected)
        losses.append(-torch.log(torch.sigmoid(chosen - rejected - (pair.value or 0.0))))
        losses.append(0.01 * (chosen + rejected) ** 2)
        right += int(chosen > rejected)
    expected: Any = sum(losses)
    parameters = toy.trained(model)
    wanted = torch.autograd.grad(expected, parameters)
    objective = RewardModel(center=0.01)
    objective.attach(model)
    batch = Collator(1)(pairs)
    found = objective.loss_sum(model, batch)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(torch.autograd.grad(found, parameters), wanted, rtol=1e-4, atol=1e-5)
    assert float(objective.num_items(batch)) == 3
    measured = objective.tally.means(objective.tally.take(torch.device("cpu")))
    assert measured["accuracy"] == pytest.approx(right / 3)
    margin = measured["chosen_score"] - measured["rejected_score"]
    assert measured["margin"] == pytest.approx(margin, abs=1e-6)


def test_a_filler_counts_for_nothing(tmp_path: Path) -> None:
    """A process without data computes a pair that adds nothing to the loss, the count or the measures."""
    model, objective = scoring_llama(tmp_path, "full"), RewardModel()
    objective.attach(model)
    batch = Batches(Samples(toy_pairs()), Collator(1))[[]]
    assert float(objective.loss_sum(model, batch).detach()) == 0
    assert float(objective.num_items(batch)) == 0
    assert objective.tally.means(objective.tally.take(torch.device("cpu"))) == {}


# Runs


def weights(run_dir: Path) -> dict[str, Tensor]:
    """Return the final tensors of a run."""
    return load_file(next((run_dir / "final").glob("*.safetensors")))


CUTS = {"4x1": (4, 1), "2x2": (2, 2), "1x4": (1, 4)}


def test_accumulation_changes_nothing(room: Path) -> None:
    """However a step is cut into micro batches, of pairs of uneven length, the run is the same."""
    found = {}
    for name, (micro, steps) in CUTS.items():
        text = RUN.replace(
            "global_size = 4\nmicro_size = 4", f"micro_size = {micro}\naccumulation_steps = {steps}"
        )
        run_dir, _ = trained(room, f"cut-{name}", FULL + PAIRS + text)
        rows = [json.loads(line) for line in (run_dir / "metrics.jsonl").read_text().splitlines()]
        names = ("loss", "accuracy", "margin", "chosen_score")
        found[name] = torch.tensor([[row[name] for name in names] for row in rows])
    torch.testing.assert_close(found["2x2"], found["4x1"], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["1x4"], found["4x1"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("method", ["full", "lora"])
def test_resume(room: Path, method: str) -> None:
    """A run that stops in the middle goes on to the same bits."""
    text = METHODS[method].spec + PAIRS + RUN
    whole, _ = trained(room, f"{method}-whole", text)
    torn = inprocess.compiled(room, text, f"{method}-torn")
    inprocess.prepare(torn)
    assert inprocess.train(torn, stop_after=2).stopped
    inprocess.train(torn, resume=True)
    found, expected = weights(torn), weights(whole)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


@pytest.mark.parametrize("method", ["full", "lora"])
@pytest.mark.parametrize("stage", [2, 3])
def test_sharded(room: Path, method: str, stage: int) -> None:
    """Under ZeRO stages 2 and 3 a run ends with the weights of stage 0."""
    ends = []
    for each in (0, stage):
        extra = "persistence_threshold = 0\n" if each == 3 else ""
        text = f"{METHODS[method].spec}{PAIRS}{RUN}[deepspeed]\nzero_stage = {each}\n{extra}"
        ends.append(weights(trained(room, f"{method}-{stage}-zero{each}", text)[0]))
    torch.testing.assert_close(ends[1], ends[0], rtol=1e-3, atol=1e-4)


@pytest.mark.heavy
def test_two_ranks(room: Path) -> None:
    """Two processes, one of them without a pair in the last micro batch of an evaluation, train what one does."""
    ends = []
    for name, launch in (("one", ""), ("two", "[launch]\nprocesses = 2\n")):
        run = RUN.replace("micro_size = 4", "micro_size = 2")
        text = (
            METHODS["lora"].spec + PAIRS.replace("[data]", "[data]\neval_rows = 3") + run + launch
        )
        run_dir = inprocess.compiled(room, text, f"ranks-{name}")
        inprocess.prepare(run_dir)
        inprocess.on_two_ranks([run_dir]) if launch else inprocess.train(run_dir)
        ends.append(run_dir)
    torch.testing.assert_close(weights(ends[1]), weights(ends[0]), rtol=1e-3, atol=1e-4)
    last = [json.loads((end / "metrics.jsonl").read_text().splitlines()[-1]) for end in ends]
    assert last[1].keys() == last[0].keys()
    assert last[1] == pytest.approx(last[0], abs=1e-5)


# What is written


@pytest.fixture(scope="module")
def ended(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A room whose tokenizer pads with the mark that ends answers."""
    workspace: Path = tmp_path_factory.mktemp("ended")
    shutil.copytree(tiny_model, workspace / "model")
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_model))
    tokenizer.pad_token = tokenizer.eos_token
    tokenizer.save_pretrained(str(workspace / "model"))
    tiny.change_config(workspace / "model", pad_token_id=tokenizer.eos_token_id)
    write_pairs(workspace / "data" / "pairs.jsonl")
    return workspace


@pytest.mark.parametrize("method", ["full", "lora"])
def test_padding_that_ends_texts(ended: Path, method: str) -> None:
    """Where padding is the end mark, what is saved has another: padded or alone, a text has one score."""
    run_dir, trainer = trained(ended, method, METHODS[method].spec + PAIRS + RUN)
    model, tokenizer = plain(run_dir / "final", ended / "model")
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    alone = scores(model, tokenizer, TEXTS, padded=False)
    torch.testing.assert_close(scores(model, tokenizer, TEXTS, padded=True), alone)
    reader = ScoreReader(trainer.model.eval())
    batch = tokenizer([t + tokenizer.eos_token for t in TEXTS], return_tensors="pt", padding=True)
    with torch.no_grad():
        torch.testing.assert_close(reader(trainer.model, batch), alone, rtol=0, atol=1e-6)


def run_program(path: Path) -> int:
    """Run a program of a run; return its exit code."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path.name])
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
    return 0


QLORA = METHODS["lora"].spec + '[quantization]\ntype = "bitsandbytes"\nbits = 4\n'


@pytest.mark.parametrize("name", ["full", "lora", "qlora"])
def test_export(ended: Path, name: str) -> None:
    """`export.py` writes one folder that transformers alone reads the trained scores from."""
    method = QLORA if name == "qlora" else METHODS[name].spec
    run_dir, trainer = trained(ended, f"export-{name}", method + PAIRS + RUN)
    assert run_program(run_dir / "export.py") == 0
    model, tokenizer = plain(run_dir / "merged", ended / "model")
    assert json.loads((run_dir / "merged" / "config.json").read_text())["architectures"] == [
        "LlamaForSequenceClassification"
    ]
    expected = scores(trainer.model.eval(), tokenizer, TEXTS, padded=False)
    # Of 4-bit weights the products are rounded otherwise.
    far = 1e-2 if name == "qlora" else 1e-5
    found = scores(model, tokenizer, TEXTS, padded=True)
    torch.testing.assert_close(found, expected, rtol=0, atol=far)


def test_export_of_virtual_tokens(room: Path, capsys: Any) -> None:
    """What cannot be merged is refused as for models that write."""
    run_dir, _ = trained(room, "virtual", METHODS["prompt"].spec + PAIRS + RUN)
    assert run_program(run_dir / "export.py") == ExitCode.CONFLICT
    assert "`prompt` cannot be merged" in capsys.readouterr().err


def test_nobody_to_talk_to(room: Path, capsys: Any) -> None:
    """`tunec chat` says why not; no program for it is written."""
    run_dir, _ = trained(room, "mute", METHODS["lora"].spec + PAIRS + RUN)
    assert not (run_dir / "chat.py").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["tunec", "chat", str(room / "mute.toml")])
        with pytest.raises(SystemExit) as end:
            main()
    assert end.value.code == 2
    assert "a reward model scores texts and writes none" in capsys.readouterr().err


# Where it starts


def test_starts_from_an_earlier_training(room: Path) -> None:
    """An adapter of SFT is merged first; a reward adapter is trained on, and merged with its head."""
    sft, _ = trained(room, "sft", METHODS["lora"].spec + RUN)
    first, _ = trained(room, "first", METHODS["lora"].spec + PAIRS + RUN + _earlier(sft, "new"))
    for then in ("new", "continue"):
        text = METHODS["lora"].spec + PAIRS + RUN
        start = weights(first)["base_model.model.score.weight"]
        run_dir, _ = trained(room, f"second-{then}", text + _earlier(first, then))
        found = weights(run_dir)["base_model.model.score.weight"]
        # Three steps of 0.01 from the head that was trained before, not from a new one.
        assert float((found - start).abs().max()) < 0.04
    merged = models.load_reward_model(
        models.Base(room / "model", adapters=models.Merged([sft / "final"])), dtype="fp32"
    )
    alone = models.load_causal_lm(
        models.Base(room / "model", adapters=models.Merged([sft / "final"])), dtype="fp32"
    )
    assert torch.equal(merged.model.norm.weight, alone.model.norm.weight)
    weight = merged.model.layers[0].self_attn.q_proj.weight
    assert torch.equal(weight, alone.model.layers[0].self_attn.q_proj.weight)


def _earlier(run_dir: Path, then: str) -> str:
    return f'[adapters]\npaths = ["{run_dir / "final"}"]\nthen = "{then}"\n'


def test_a_reward_model_keeps_its_head(room: Path) -> None:
    """Trained on, a model that scores already starts from its own head, whatever the seed."""
    run_dir, _ = trained(room, "whole", FULL + PAIRS + RUN)
    heads = [
        models.load_reward_model(run_dir / "final", dtype="fp32", seed=seed).score.weight
        for seed in (0, 1)
    ]
    assert torch.equal(*heads)
    assert torch.equal(heads[0], weights(run_dir)["score.weight"])


def test_the_head_follows_from_the_seed(tiny_model: Path) -> None:
    """A new head is the same for the same seed, and as large as the family draws weights."""
    heads = [
        models.load_reward_model(tiny_model, dtype="fp32", seed=seed).score.weight
        for seed in (0, 0, 1)
    ]
    assert torch.equal(heads[0], heads[1])
    assert not torch.equal(heads[0], heads[2])
    assert 0.01 < float(heads[0].std()) < 0.04


def test_other_classifiers_are_refused(tmp_path: Path, tiny_model: Path) -> None:
    """A model that tells more classes apart is no reward model."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "classes"))
    names = {str(number): f"class {number}" for number in range(3)}
    tiny.change_config(folder, architectures=["LlamaForSequenceClassification"], id2label=names)
    with pytest.raises(UserError, match="tells 3 classes apart"):
        models.load_reward_model(folder, dtype="fp32")


def test_models_without_a_class_are_refused(tmp_path: Path) -> None:
    """Where transformers has no class that scores, one line says so."""
    config = MambaConfig(vocab_size=50, hidden_size=8, num_hidden_layers=1, state_size=4)
    MambaForCausalLM(config).save_pretrained(str(tmp_path / "mamba"))
    with pytest.raises(UserError, match="no class for models of type `mamba`"):
        models.load_reward_model(tmp_path / "mamba", dtype="fp32")


def test_no_token_for_padding(tiny_model: Path) -> None:
    """Where every special token may end a text, one has to be added."""
    tokenizer = AutoTokenizer.from_pretrained(str(tiny_model))
    assert padding_apart(tokenizer) == tokenizer.convert_tokens_to_ids("<|endoftext|>")
    raw = json.loads(tokenizer.backend_tokenizer.to_str())
    raw["added_tokens"] = [one for one in raw["added_tokens"] if one["content"] == "<|im_end|>"]
    lone = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(raw)),
        eos_token="<|im_end|>",
        pad_token="<|im_end|>",
    )
    with pytest.raises(UserError, match="none is left for padding"):
        padding_apart(lone)


# Learning


def test_it_learns(room: Path) -> None:
    """After some steps on pairs where the polite answer is better, nine of ten pairs it never saw are ranked right."""
    words = ["violet", "the boat", "Thimble", "Turnip", "Marta Quill", "leek", "a lamp", "station"]
    rows = []
    for number in range(80):
        text = f"It is {words[number % 8]} {number}"
        chosen, rejected = f"{text}, thank you.", f"{text}, go away."
        rows.append({"prompt": f"Number {number}?", "chosen": chosen, "rejected": rejected})
    (room / "data" / "polite.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n")
    text = (
        FULL + PAIRS.replace("pairs.jsonl", "polite.jsonl") + RUN.replace("steps = 3", "steps = 20")
    )
    text = text.replace("shuffle = false", "eval_rows = 20")
    run_dir, _ = trained(room, "polite", text)
    row = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["eval_accuracy"] >= 0.9
    assert row["eval_margin"] > 0.5


DEMO = Path(__file__).parents[2].parent / "shared" / "data" / "dpo_en_demo.json"


@pytest.mark.heavy
@pytest.mark.skipif(not DEMO.is_file(), reason="the demo data are not here")
def test_it_learns_preferences_of_people(tmp_path: Path) -> None:
    """A small model from scratch ranks more of 100 real pairs right that it never saw than chance does, by 5 at least."""
    rows = json.loads(DEMO.read_text(encoding="utf-8"))
    texts = [row[side]["value"] for row in rows for side in ("chosen", "rejected")]
    small = tiny.make_tokenizer(tmp_path / "model")
    tokenizer = small.train_new_from_iterator(texts, 4000, show_progress=False)
    tokenizer.save_pretrained(str(tmp_path / "model"))
    config = LlamaConfig(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=128, num_hidden_layers=2,
        num_attention_heads=4, max_position_embeddings=1024, tie_word_embeddings=True,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(str(tmp_path / "model"))
    source = f'format = "sharegpt", path = "{DEMO}", chosen = "chosen", rejected = "rejected"'
    text = f"""
[objective]
type = "reward"
[data]
max_length = 640
eval_rows = 100
sources = [{{ {source} }}]
[method]
type = "full"
[training]
steps = 20
learning_rate = 1e-3
[batch]
global_size = 10
micro_size = 5
"""
    run_dir, _ = trained(tmp_path, "people", text)
    row = json.loads((run_dir / "metrics.jsonl").read_text().splitlines()[-1])
    assert row["eval_accuracy"] >= 0.55
