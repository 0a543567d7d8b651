"""Methods: each trains as PEFT does by hand, comes back from disk as it was, and merges into the same model."""

from __future__ import annotations

import re
import runpy
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers import MixtralConfig, MixtralForCausalLM

import inprocess
import tiny
from methods import METHODS, Case
from tunec.compiler.pipeline import analyse, plan_of
from tunec.runtime import models
from tunec.runtime.errors import ExitCode
from tunec.runtime.models.variants import WHOLE, load_trained
from tunec.runtime.objectives import AdapterOff
from tunec.runtime.objectives.scores import Scorer

STEPS = 3
RUN = f"""
[data]
shuffle = false
[training]
steps = {STEPS}
learning_rate = 1e-2
schedule = "constant"
max_grad_norm = 1000.0
seed = 3
[batch]
global_size = 4
micro_size = 4
"""
"""No accumulation, no decay, no clipping: a loop by hand that anyone would write."""

IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    return inprocess.make_room(tmp_path_factory.mktemp("methods"), tiny_model)


DONE: dict[str, tuple[Path, Any]] = {}
"""Runs that are trained already: several tests look at the same."""


def finished(room: Path, name: str) -> tuple[Path, Any]:
    """Return the folder of a run and its trainer."""
    if name not in DONE:
        run_dir = inprocess.compiled(room, METHODS[name].spec + RUN, name)
        inprocess.prepare(run_dir)
        DONE[name] = run_dir, inprocess.train(run_dir)
    return DONE[name]


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


def counted(model: Any) -> tuple[int, int]:
    sizes = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(size for size, _ in sizes), sum(size for size, trained in sizes if trained)


def trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def by_hand(case: Case, folder: Path, batches: list[Any], patch: pytest.MonkeyPatch) -> Any:
    """Train with PEFT and torch alone, from the same seed, on the same batches."""
    import peft
    import transformers

    # A run before this one may have left its configuration of DeepSpeed behind.
    patch.setattr("peft.tuners.adalora.layer.deepspeed_config", lambda: None)
    transformers.set_seed(3)
    model = transformers.AutoModelForCausalLM.from_pretrained(str(folder), dtype=torch.float32)
    if case.config:
        settings = dict(case.settings)
        if "prompt_tuning_init_text" in settings:
            settings["tokenizer_name_or_path"] = str(folder)
        if case.method == "adalora":
            settings["total_step"] = STEPS
        config = getattr(peft, case.config)(task_type="CAUSAL_LM", **settings)
        model = peft.get_peft_model(model, config)
    else:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(bool(re.search(case.trained, name)))
    model.train()
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(chosen, lr=1e-2, weight_decay=0.0)
    for step, (batch,) in enumerate(batches, start=1):
        wanted = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        model(**wanted, use_cache=False).loss.backward()
        optimizer.step()
        if case.method == "adalora":
            model.base_model.update_and_allocate(step)
        optimizer.zero_grad()
    return model


@pytest.mark.parametrize("name", METHODS)
def test_method(room: Path, monkeypatch: Any, name: str) -> None:
    """A run trains what the plan counted and ends where PEFT by hand ends; from disk and merged it is the same model."""
    case = METHODS[name]
    run_dir, trainer = finished(room, name)
    model = trainer.model
    expected = logits(model)

    plan = plan_of(analyse(room / f"{name}.toml", {}))
    assert plan.parameters is not None
    assert (plan.parameters.total, plan.parameters.trainable) == counted(model)

    if not case.is_random:
        batches = list(trainer.get_train_dataloader())
        alone = by_hand(case, room / "model", batches, monkeypatch)
        torch.testing.assert_close(trained(model), trained(alone), rtol=1e-3, atol=1e-4)
    base = models.Base(room / "model")
    again = load_trained(run_dir / "final", base=base, method=case.method, dtype="fp32")
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=1e-6)
    start = logits(models.load_causal_lm(base, dtype="fp32"))
    assert float((expected[:, -IDS.shape[1] :] - start).abs().max()) > 1e-4
    if case.merges and case.method not in WHOLE:
        merged = again.merge_and_unload()
        torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-4)


CHANGED_BASE = ("bias", "olora", "pissa", "pissa-exact")
"""Methods whose frozen weights, or biases, are no longer those of the model they began with."""


@pytest.mark.parametrize(
    "name", [n for n, c in METHODS.items() if c.config and n not in CHANGED_BASE]
)
def test_switched_off(room: Path, monkeypatch: Any, name: str) -> None:
    """After a training every adapter can be switched off: what is left is the model that it was put on."""
    monkeypatch.setenv("LOCAL_RANK", "0")
    _, trainer = finished(room, name)
    batch = next(iter(trainer.get_train_dataloader()))[0]
    start = models.load_causal_lm(room / "model", dtype="fp32")
    alone = Scorer(start)(start, batch).log_probs.detach()
    reference, scorer = AdapterOff(), Scorer(trainer.model)
    reference.attach(trainer.model, scorer)
    trained_now = [p.requires_grad for p in trainer.model.parameters()]
    found = reference.log_probs(trainer.model_wrapped, batch)
    torch.testing.assert_close(found, alone, rtol=1e-5, atol=1e-5)
    with torch.no_grad():
        policy = scorer(trainer.model_wrapped, batch).log_probs
    assert float((policy - alone).abs().max()) > 1e-4
    assert [p.requires_grad for p in trainer.model.parameters()] == trained_now


LOOKING = {
    "eva": 'init = { type = "eva", batches = 4 }',
    "eva-even": 'init = { type = "eva", batches = 4, rho = 1.0 }',
    "corda": 'init = { type = "corda", batches = 4 }',
    "corda-knowledge": 'init = { type = "corda", batches = 4, mode = "knowledge" }',
    "lora-ga": 'init = { type = "lora-ga", batches = 4 }',
    "lora-ga-weights": 'init = { type = "lora-ga", batches = 2, direction = "alternating", scale = "weights" }',
}


@pytest.mark.parametrize("name", LOOKING)
def test_start_from_data(room: Path, name: str) -> None:
    """A start that looks at the data leaves the model as it was; the adapter needs no data to be loaded or merged."""
    text = METHODS["lora"].spec + LOOKING[name] + RUN.replace(f"steps = {STEPS}", "steps = 4")
    whole, torn = (inprocess.compiled(room, text, f"{name}-{what}") for what in ("whole", "torn"))
    for run_dir in (whole, torn):
        inprocess.prepare(run_dir)
    model = inprocess.train(whole).model
    base = models.Base(room / "model")
    again = load_trained(whole / "final", base=base, method="lora", dtype="fp32")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-5)
    torch.testing.assert_close(logits(again.merge_and_unload()), logits(model), rtol=0, atol=1e-4)
    assert inprocess.train(torn, stop_after=2).stopped
    inprocess.train(torn, resume=True)
    found, expected = (load_file(next((d / "final").glob("*.safetensors"))) for d in (torn, whole))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    plan = plan_of(analyse(room / f"{name}-whole.toml", {}))
    if plan.parameters is not None:
        assert (plan.parameters.total, plan.parameters.trainable) == counted(model)
    assert (plan.parameters is None) == (name == "eva")


@pytest.mark.parametrize("name", ["bare", "all-linear"])
def test_experts(tmp_path: Path, name: str) -> None:
    """Experts are stacked in memory and apart in the file: adapters go to the stacks that are named, or to all."""
    tokenizer = tiny.make_tokenizer(tmp_path / "model")
    config = MixtralConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=48, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2, num_local_experts=4, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    MixtralForCausalLM(config).save_pretrained(str(tmp_path / "model"))
    tiny.write_chats(tmp_path / "data" / "chat.jsonl", 24)
    method = '[method]\ntype = "lora"\nrank = 2\n'
    if name == "bare":
        method += 'targets = ["q_proj"]\nparameters = ["experts.gate_up_proj"]\n'
    run_dir = inprocess.compiled(tmp_path, method + RUN, name)
    inprocess.prepare(run_dir)
    model = inprocess.train(run_dir).model
    assert any(".experts.lora_A" in parameter for parameter in trained(model))
    if name == "bare":
        # Of each stack: one pair of rank 2 for each of 4 experts with 32 inputs and 2 x 48 outputs; of q_proj 32 and 32.
        assert counted(model)[1] == 2 * (2 * 4 * (32 + 96) + 2 * (32 + 32))
    base = models.Base(tmp_path / "model")
    again = load_trained(run_dir / "final", base=base, method="lora", dtype="fp32")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-6)
    torch.testing.assert_close(logits(again.merge_and_unload()), logits(model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", METHODS)
def test_resume(room: Path, name: str) -> None:
    """A run that stops in the middle goes on to the same bits."""
    whole, _ = finished(room, name)
    torn = inprocess.compiled(room, METHODS[name].spec + RUN, f"{name}-torn")
    inprocess.prepare(torn)
    assert inprocess.train(torn, stop_after=2).stopped
    inprocess.train(torn, resume=True)
    found, expected = (load_file(next((d / "final").glob("*.safetensors"))) for d in (torn, whole))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


EXPORTED = ["pissa", "freeze", "boft", "ia3", "adalora", "shira", "ln-tuning", "vblora"]


@pytest.mark.parametrize("name", EXPORTED)
def test_export(room: Path, name: str) -> None:
    """`export.py` of a run writes the model that was trained as a folder of its own."""
    run_dir, trainer = finished(room, name)
    assert run_program(run_dir / "export.py") == 0
    merged = models.load_causal_lm(run_dir / "merged", dtype="fp32")
    torch.testing.assert_close(logits(merged), logits(trainer.model), rtol=0, atol=1e-4)


@pytest.mark.parametrize("name", ["prefix", "prompt", "p-tuning"])
def test_export_of_virtual_tokens(room: Path, name: str, capsys: Any) -> None:
    """Virtual tokens are no weights: export says so in one line and names the adapter to serve."""
    run_dir, _ = finished(room, name)
    assert run_program(run_dir / "export.py") == ExitCode.CONFLICT
    told = capsys.readouterr().err
    assert f"`{name}` cannot be merged: virtual tokens are inputs of the model" in told
    assert "serve the base model with the adapter" in told
    assert not (run_dir / "merged").exists()


def run_program(path: Path) -> int:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", [path.name])
        try:
            runpy.run_path(str(path), run_name="__main__")
        except SystemExit as end:
            return int(end.code or 0)
    return 0


@pytest.mark.heavy
@pytest.mark.parametrize("part", range(6))
def test_two_ranks(room: Path, part: int) -> None:
    """On two ranks every method saves what it saves on one; under ZeRO stage 3, or 2 where that is refused."""
    names = [name for name, case in METHODS.items() if not case.is_random][part::6]
    folders = {}
    for name in names:
        run = RUN.replace("micro_size = 4", "micro_size = 2")
        stage = 3 if METHODS[name].sharded else 2
        # Or every parameter of so small a model would be kept whole.
        apart = "persistence_threshold = 0\n" if stage == 3 else ""
        text = f"{METHODS[name].spec}{run}[deepspeed]\nzero_stage = {stage}\n{apart}[launch]\nprocesses = 2\n"
        folders[name] = inprocess.compiled(room, text, f"{name}-two")
        inprocess.prepare(folders[name])
    inprocess.on_two_ranks(list(folders.values()))
    different = []
    for name, run_dir in folders.items():
        alone, _ = finished(room, name)
        found, expected = (
            load_file(next((d / "final").glob("*.safetensors"))) for d in (run_dir, alone)
        )
        assert found.keys() == expected.keys()
        far = max(float((found[key] - expected[key]).abs().max()) for key in expected)
        print(name, far)
        if not far < 1e-3:
            different.append((name, far))
    assert different == []
