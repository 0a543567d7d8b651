"""Reward models in checks, plans and programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from tunec.compiler.pipeline import analyse, plan_of
from tunec.compiler.plan import Plan
from tunec.compiler.render.programs import render_programs

REWARD = """
[objective]
type = "reward"
[data]
sources = [{ format = "preference", path = "data/pairs.jsonl" }]
"""
PPO = """
[objective]
type = "ppo"
reward = %s
[data]
sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
"""


@pytest.fixture
def base(workspace: Path) -> Path:
    """A folder with a model, pairs, prompts and reward adapters."""
    tiny.write_kinds(workspace)
    tiny.write_adapter(workspace / "judge", task_type="SEQ_CLS", modules_to_save=["score"])
    return workspace


def planned(base: Path, text: str) -> Plan:
    """Return the plan of a spec that has no errors."""
    analysis = analyse(tiny.write_spec(base / "spec.toml", text), {})
    assert analysis.ok, analysis.diagnostics
    return plan_of(analysis)


def codes(base: Path, text: str) -> dict[str, str]:
    """Return the codes of all findings with their levels."""
    found = analyse(tiny.write_spec(base / "spec.toml", text), {}).diagnostics
    return {finding.code: finding.level.value for finding in found}


def test_the_head_that_writes_is_gone(base: Path) -> None:
    """An untied output head is not counted, and no adapter can go to it; the head that scores is."""
    tiny.make_model(base / "model", tied=False)
    words = tiny.make_tokenizer(base / "model")
    full = planned(base, REWARD + '[method]\ntype = "full"\n')
    writer = planned(base, '[method]\ntype = "full"\n')
    assert full.parameters is not None
    assert writer.parameters is not None
    assert writer.parameters.total - full.parameters.total == 32 * len(words) - 32
    assert "A801" in codes(base, REWARD + '[method]\ntype = "lora"\ntargets = ["lm_head"]\n')


def test_programs(base: Path) -> None:
    """The program loads a model that scores and nothing to chat with; a margin in the data needs no setting."""
    programs = render_programs(planned(base, REWARD.replace('"reward"', '"reward"\ncenter = 0.01')))
    assert "models.load_reward_model(" in programs["train.py"]
    assert "objectives.RewardModel(center=0.01)" in programs["train.py"]
    assert "load=models.load_reward_model" in programs["export.py"]
    assert "chat.py" not in programs


def test_rewards_in_programs(base: Path) -> None:
    """A reward model is loaded by the path and the settings that are its own."""
    reward = (
        '{ type = "model", path = "model", adapters = ["judge"], '
        'quantization = { type = "bitsandbytes", bits = 4 } }'
    )
    text = render_programs(planned(base, PPO % reward))["train.py"]
    call = text[text.index("rewards.ModelReward(") :]
    for line in ('RUN_DIR / "../../model"', 'RUN_DIR / "../../judge"', "bits=4", 'dtype="fp32"'):
        assert line in call[: call.index("reference")], call
    adapter = render_programs(planned(base, PPO % '{ type = "adapter", path = "judge" }'))
    assert 'rewards.AdapterReward(RUN_DIR / "../../judge")' in adapter["train.py"]


def test_memory_of_a_reward_model(base: Path) -> None:
    """A model of its own costs its weights, an adapter on the policy's nearly nothing."""
    for reward, expected in (
        ('{ type = "model", path = "model" }', 30_720 * 4),
        ('{ type = "adapter", path = "judge" }', 0),
    ):
        memory: Any = planned(base, PPO % reward).memory
        assert memory.rewards == expected


def test_other_vocabularies(base: Path) -> None:
    """A reward model with other tokens reads text, which is said and not refused."""
    other = PPO % '{ type = "model", path = "other-words" }'
    assert codes(base, other)["O114"] == "warning"


def test_adapters_of_several_rewards_are_looked_at(base: Path) -> None:
    """GRPO's reward models name adapters as well; one that is missing is found."""
    text = """
[objective]
type = "grpo"
group_size = 2
rewards = [{ type = "model", path = "model", adapters = ["nowhere/at/all"] }]
[data]
sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
"""
    assert codes(base, text)["A803"] == "error"


def test_margins(base: Path) -> None:
    """A column of margins is read as numbers."""
    rows = [{"prompt": "a", "chosen": "b", "rejected": "c", "margin": n / 2} for n in range(8)]
    (base / "data" / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    source = '{ format = "preference", path = "data/pairs.jsonl", margin = "margin" }'
    text = REWARD.replace('{ format = "preference", path = "data/pairs.jsonl" }', source)
    assert planned(base, text).duration.num_rows == 8
