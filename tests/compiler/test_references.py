"""References in the plan and in programs: what keeps the start of a policy, and what it takes."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.torch import save_file

import tiny
from tunec.compiler.forecast import describe
from tunec.compiler.pipeline import analyse, plan_of
from tunec.compiler.plan import Plan
from tunec.compiler.render import render_files

PAIRS = 'sources = [{ format = "preference", path = "data/pairs.jsonl" }]\n'
LORA = '[method]\ntype = "lora"\nrank = 4\n'
FULL = '[method]\ntype = "full"\n'
MODEL = (
    '{ type = "model", path = "model", quantization = { type = "quanto" }, adapters = ["adapter"] }'
)
MakePlan = Callable[[str], Plan]


@pytest.fixture
def plan(workspace: Path) -> MakePlan:
    """Return the plan of a spec laid over the base."""
    tiny.write_kinds(workspace)
    for name in ("adapter", "other-adapter"):
        save_file({}, tiny.write_adapter(workspace / name) / "adapter_model.safetensors")

    def make(text: str) -> Plan:
        analysis = analyse(tiny.write_spec(workspace / "spec.toml", text), {})
        assert analysis.ok, analysis.diagnostics
        return plan_of(analysis)

    return make


def dpo(method: str, reference: str) -> str:
    return f'[objective]\ntype = "dpo"\nreference = {reference}\n[data]\n{PAIRS}{method}'


START, BEFORE = '{ type = "start" }', '{ type = "precomputed" }'
CONTINUED = f'{LORA}[adapters]\npaths = ["adapter"]\n'


@pytest.mark.parametrize(
    ("method", "reference", "call"),
    [
        (LORA, START, "AdapterOff()"),
        (f'{LORA}bias = "all"\n', START, "AdapterAtStart()"),
        (CONTINUED, START, "AdapterAtStart()"),
        (f'{CONTINUED}then = "new"\n', START, "AdapterOff()"),
        (FULL, START, "FrozenModel(reference)"),
        (LORA, MODEL, "FrozenModel(reference)"),
        (LORA, BEFORE, "Precomputed(objectives.AdapterOff())"),
        (
            f'{LORA}init = {{ type = "pissa" }}\n',
            BEFORE,
            "Precomputed(objectives.AdapterAtStart())",
        ),
        (CONTINUED, BEFORE, "Precomputed(objectives.AdapterAtStart())"),
        (FULL, BEFORE, "Precomputed()"),
    ],
)
def test_program(plan: MakePlan, method: str, reference: str, call: str) -> None:
    """The program says what keeps the start, and loads a second model only where that is one."""
    program = render_files(plan(dpo(method, reference)))["train.py"]
    assert re.search(f"reference=objectives.{re.escape(call)}[,)]", program)
    assert program.count("models.Base(") == (2 if "FrozenModel" in call else 1)


def test_another_model(plan: MakePlan) -> None:
    """Another model brings its own adapters and its own few bits; those of the policy are not its."""
    text = dpo(f'{LORA}[adapters]\npaths = ["other-adapter"]\nthen = "new"\n', MODEL)
    policy, reference = render_files(plan(text))["train.py"].split(
        "# What the policy is compared with"
    )
    assert "models.Quanto" in reference
    assert "models.Quanto" not in policy
    assert ("../adapter" in reference, "../other-adapter" in reference) == (True, False)
    assert ("/other-adapter" in policy, "/adapter" in policy) == (True, False)


def test_memory(plan: MakePlan) -> None:
    """The forecast counts a second copy, or the copy of an adapter, and says what it saves to have none."""

    def sizes(method: str, reference: str) -> tuple[int, int | None, int, int]:
        made = plan(dpo(method, reference))
        assert made.memory is not None
        assert made.parameters is not None
        trained = made.parameters.trainable * 4
        return made.memory.reference, made.memory.reference_saved, made.memory.weights, trained

    reference, saved, weights, _ = sizes(FULL, START)
    assert (reference, saved) == (weights, None)
    assert sizes(FULL, BEFORE)[:2] == (0, weights)
    assert sizes(LORA, START)[:2] == (0, None)
    reference, saved, _, trained = sizes(CONTINUED, START)
    assert (reference, saved) == (trained, None)
    assert sizes(CONTINUED, BEFORE)[:2] == (0, trained)
    assert 0 < sizes(LORA, MODEL)[0] < weights
    assert sizes(LORA, '{ type = "model", path = "model" }')[0] == weights
    words = describe(plan(dpo(FULL, BEFORE)), [])
    assert "no reference is in memory: its log-probabilities are computed before" in words


@pytest.mark.parametrize(
    ("loss", "call"),
    [
        ('type = "cross-entropy"', ""),
        ('type = "cross-entropy", label_smoothing = 0.1', "loss=objectives.LabelSmoothing(0.1)"),
        ('type = "dft"', "loss=objectives.Dft()"),
        ('type = "eaft", alpha = 2', "loss=objectives.Eaft(alpha=2.0)"),
        ('type = "asft"', "loss=objectives.Asft(alpha=0.1), reference=objectives.AdapterOff()"),
    ],
)
def test_losses_of_sft(plan: MakePlan, loss: str, call: str) -> None:
    """Each loss is an argument of its own; the plain one is none."""
    program = render_files(plan(f"[objective]\nloss = {{ {loss} }}\n"))["train.py"]
    text = " ".join(program.split()).replace("( ", "(").replace(", )", ")")
    assert f"objective=objectives.Sft({call})" in text
