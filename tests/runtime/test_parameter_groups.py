"""Parameters with rates and decays of their own, and averages of the weights, against the same by hand."""

from __future__ import annotations

import contextlib
import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file

import inprocess
from tunec.runtime import models, objectives, training
from tunec.runtime.errors import UserError
from tunec.runtime.training.average import WeightAverage

RUN = """
[data]
shuffle = false
[batch]
global_size = 4
micro_size = 4
[optimizer]
type = "adamw"
weight_decay = 0.1
[method]
type = "full"
"""
TRAINING = """
[training]
steps = 3
learning_rate = 1e-2
schedule = "constant"
max_grad_norm = 1000.0
"""
GROUPS = """groups = [
  { pattern = "embed_tokens", rate_factor = 0.1 },
  { pattern = "layers\\\\.0\\\\..*(norm|mlp)", rate_factor = 2.0, weight_decay = 0.5 },
]
"""


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    return inprocess.make_room(tmp_path_factory.mktemp("groups"), tiny_model)


def started(room: Path, text: str, name: str) -> Path:
    """Return the folder of a run whose data are prepared."""
    run_dir = inprocess.compiled(room, text, name)
    inprocess.prepare(run_dir)
    return run_dir


def final(run_dir: Path) -> dict[str, torch.Tensor]:
    """Return the weights that were saved."""
    return load_file(run_dir / "final" / "model.safetensors")


def steps_by_hand(
    model: Any, groups: list[dict[str, Any]], batches: list[Any], after: Any = None
) -> None:
    """Train with torch alone."""
    optimizer = torch.optim.AdamW(groups, lr=1e-2)
    model.train()
    for (batch,) in batches:
        wanted = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        model(**wanted, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        if after is not None:
            after()


def plain(room: Path) -> Any:
    """Return the model at its start."""
    return transformers.AutoModelForCausalLM.from_pretrained(
        str(room / "model"), dtype=torch.float32
    )


def test_groups(room: Path, capsys: Any) -> None:
    """Three steps are those of torch's AdamW with the same groups; log and report name them."""
    run_dir = started(room, RUN + TRAINING + GROUPS, "groups")
    trainer = inprocess.train(run_dir)
    model = plain(room)
    named = dict(model.named_parameters())
    slow = {n for n in named if "embed_tokens" in n}
    fast = {n for n in named if ".layers.0." in n and ("norm" in n or "mlp" in n)}
    rest = named.keys() - slow - fast
    norms = {n for n in rest if "norm" in n}
    assert len(fast) == 5
    assert norms
    groups = [
        {"params": [named[n] for n in rest - norms], "weight_decay": 0.1},
        {"params": [named[n] for n in norms], "weight_decay": 0.0},
        {"params": [named[n] for n in slow], "weight_decay": 0.1, "lr": 1e-3},
        {"params": [named[n] for n in fast], "weight_decay": 0.5, "lr": 2e-2},
    ]
    steps_by_hand(model, groups, list(trainer.get_train_dataloader()))
    found = final(run_dir)
    for name in found:
        torch.testing.assert_close(found[name], named[name].detach(), rtol=1e-3, atol=1e-4)
    told = json.loads((run_dir / "report.json").read_text())["optimizer"]["groups"]
    assert [(g["learning_rate"], g["weight_decay"], g.get("pattern")) for g in told] == [
        (1e-2, 0.1, None),
        (1e-2, 0.0, None),
        (1e-3, 0.1, "embed_tokens"),
        (2e-2, 0.5, r"layers\.0\..*(norm|mlp)"),
    ]
    assert "rate 0.001, decay 0.1, matching `embed_tokens`" in capsys.readouterr().out


OTHERS = {
    "sgd": training.Sgd(learning_rate=0.1, momentum=0.9, parameter_groups=()),
    "lion": training.Lion(learning_rate=0.1),
    "adafactor": training.AdaFactor(learning_rate=0.1),
    "muon": training.Muon(learning_rate=0.1),
    "galore": training.Galore(learning_rate=0.1, rank=4),
    "apollo": training.Apollo(learning_rate=0.1, rank=4),
    "bnb": training.AdamW(learning_rate=0.1, state="8bit"),
    "schedule-free": training.Named(learning_rate=0.1, name="schedule_free_adamw"),
}


@pytest.mark.parametrize("name", OTHERS)
def test_every_optimizer_with_groups(tiny_model: Path, name: str) -> None:
    """Each gives the parameters that match their rate, and all others the common one."""
    group = training.ParameterGroup("q_proj", rate_factor=0.5)
    settings = dataclasses.replace(OTHERS[name], parameter_groups=[group])
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    names = {id(p): n for n, p in model.named_parameters()}
    decayed = {n for n in names.values() if "norm" not in n}
    optimizer = settings.create(model, decayed=decayed, deepspeed={})
    rates = {names[id(p)]: g["lr"] for g in optimizer.param_groups for p in g["params"]}
    assert rates.keys() == set(names.values())
    assert {n for n, rate in rates.items() if rate == 0.05} == {n for n in rates if "q_proj" in n}
    assert {rate for n, rate in rates.items() if "q_proj" not in n} == {0.1}


def test_a_group_that_is_empty(tiny_model: Path) -> None:
    """A pattern that matches nothing, or nothing that is left, stops the run before its first step."""
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    for patterns in (["quary"], ["q_proj", "self_attn.q"]):
        groups = [training.ParameterGroup(pattern) for pattern in patterns]
        settings = training.AdamW(learning_rate=1e-3, parameter_groups=groups)
        with pytest.raises(UserError, match=f"matches `{patterns[-1]}`"):
            settings.create(model, decayed=set(), deepspeed={})


def test_average(room: Path, capsys: Any) -> None:
    """`final/` is the average of the weights by its formula, evaluation measures it, and training does not see it."""
    text = RUN + TRAINING + "ema_decay = 0.7\n[data]\nshuffle = false\neval_rows = 4\n"
    text = text.replace("[data]\nshuffle = false\n", "", 1)
    run_dir = started(room, text, "average")
    trainer = inprocess.train(run_dir)
    model = plain(room)
    named = dict(model.named_parameters())
    average = {name: value.detach().double() for name, value in named.items()}

    def take_in() -> None:
        for name, value in named.items():
            average[name] = 0.7 * average[name] + 0.3 * value.detach().double()

    groups = [
        {"params": [v for n, v in named.items() if ("norm" in n) is norm], "weight_decay": decay}
        for norm, decay in ((False, 0.1), (True, 0.0))
    ]
    steps_by_hand(model, groups, list(trainer.get_train_dataloader()), take_in)
    found = final(run_dir)
    for name in found:
        torch.testing.assert_close(found[name].double(), average[name], rtol=1e-3, atol=1e-4)
        live = dict(trainer.model.named_parameters())[name]
        torch.testing.assert_close(live, named[name], rtol=1e-3, atol=1e-4)
    report = json.loads((run_dir / "report.json").read_text())
    assert report["ema_decay"] == 0.7
    model.load_state_dict(found, strict=False)
    batches = [
        b for each in trainer.evaluations for b in each.batches(trainer.loading, on_gpu=False)
    ]
    objective = objectives.Sft()
    objective.attach(model.eval())
    with torch.no_grad():
        sums = [float(objective.loss_sum(model, batch)) for batch in batches]
    items = sum(int(objective.num_items(batch)) for batch in batches)
    assert report["eval_loss"] == pytest.approx(sum(sums) / items, rel=1e-4)
    assert "average of the weights, decay 0.7" in capsys.readouterr().out


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_average_goes_on(room: Path, precision: str) -> None:
    """A run that stops in the middle goes on to the same average, to the last bit; adapters have one too."""
    method = '[method]\ntype = "lora"\nrank = 4\n'
    chosen = (
        TRAINING.replace("steps = 3", "steps = 4") + f'ema_decay = 0.9\nprecision = "{precision}"\n'
    )
    text = RUN.replace('[method]\ntype = "full"\n', method) + chosen
    text += "[deepspeed]\nzero_stage = 2\n" if precision == "bf16" else ""
    whole, torn = (started(room, text, f"{precision}-{what}") for what in ("whole", "torn"))
    inprocess.train(whole)
    assert inprocess.train(torn, stop_after=2).stopped
    inprocess.train(torn, resume=True)
    found, expected = (load_file(d / "final" / "adapter_model.safetensors") for d in (torn, whole))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)
    unaveraged = started(room, text.replace("ema_decay = 0.9\n", ""), f"{precision}-plain")
    inprocess.train(unaveraged)
    last = load_file(unaveraged / "final" / "adapter_model.safetensors")
    assert any(not torch.equal(last[key], expected[key]) for key in expected)


def test_weights_come_back_to_the_last_bit() -> None:
    """While the average stands in their place the weights are kept, also when what is done with it fails."""
    model = torch.nn.Linear(3, 2).to(torch.bfloat16)
    average = WeightAverage(model, 0.5)
    average.begin(None)
    model.weight.data += 0.37
    before = model.weight.detach().clone()
    average.step()
    with contextlib.suppress(ZeroDivisionError), average.in_place():
        assert not torch.equal(model.weight, before)
        raise ZeroDivisionError
    assert torch.equal(model.weight, before)
    assert average.values["weight"].dtype == torch.float32
