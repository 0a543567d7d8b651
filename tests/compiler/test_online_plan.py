"""Plans and programs of PPO and GRPO: rollouts and steps, what scores, and what makes a run another run."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import tiny
from tunec.compiler.forecast import describe
from tunec.compiler.pipeline import analyse, plan_of
from tunec.compiler.plan import Plan
from tunec.compiler.render import render_files

DATA = """
[data]
sources = [{ format = "prompt", path = "data/prompts.jsonl" }]
[batch]
global_size = 16
micro_size = 4
[generation]
max_new_tokens = 8
temperature = 1.0
top_p = 1.0
"""
GRPO = """
[objective]
type = "grpo"
group_size = 4
updates = 3
rewards = [
    { type = "function", path = "rewards.py" },
    { type = "api", url = "http://localhost:8000/score", weight = 0.5 },
]
"""
VLLM = 'generator = { type = "vllm", url = "http://host:8000", token_env = "VLLM_KEY" }'
PPO = """
[objective]
type = "ppo"
reward = { type = "function", path = "rewards.py" }
buffer_batches = 2
epochs = 3
"""


@pytest.fixture
def folder(workspace: Path) -> Path:
    """A folder with 8 prompts and a reward function."""
    tiny.write_kinds(workspace)
    return workspace


def plan(folder: Path, text: str, training: str = "steps = 6") -> Plan:
    """Return the plan of a spec laid over the base, its length in words of the spec."""
    base = tiny.BASE.replace("steps = 4", training)
    analysis = analyse(tiny.write_spec(folder / "spec.toml", text + DATA, base=base), {})
    assert analysis.ok, analysis.diagnostics
    return plan_of(analysis)


@pytest.mark.parametrize(
    ("objective", "steps", "told"),
    [
        # 2.5 epochs of 8 prompts, 4 at once, are 5 rollouts of 3 steps.
        (GRPO, 15, "5 rollouts of 4 prompts with 16 answers, each for 3 steps"),
        # 32 at once, so that one rollout answers all of them.
        (PPO, 6, "1 rollout of 32 prompts with 32 answers, each for 6 steps"),
    ],
)
def test_epochs_are_of_prompts(folder: Path, objective: str, steps: int, told: str) -> None:
    """An epoch answers each prompt once; the steps are whole rollouts, and the plan says how many."""
    made = plan(folder, objective, "epochs = 2.5")
    assert made.duration.num_steps == steps
    text = describe(made, [])
    assert f"rollouts  {told}" in text
    assert "16 answers a step" in text


def test_rewards_are_named(folder: Path) -> None:
    """The plan says whose code runs and who is asked."""
    text = describe(plan(folder, GRPO), [])
    assert "function `reward` of rewards.py, which runs with your rights" in text
    assert "server localhost:8000/score" in text


def test_steps_that_are_given_stay(folder: Path) -> None:
    """Steps are those of the optimizer, also where the last rollout is not used up."""
    made = plan(folder, GRPO, "steps = 7")
    assert made.duration.num_steps == 7
    assert "= 1.50 epochs of 8 prompts" in describe(made, [])


@pytest.mark.parametrize(
    ("old", "new", "is_other"),
    [
        ("max_new_tokens = 8", "max_new_tokens = 9", True),
        ("temperature = 1.0", "temperature = 0.9", True),
        ("weight = 0.5", "weight = 0.6", True),
        ("localhost:8000", "localhost:9000", False),
        ("weight = 0.5", "weight = 0.5, retries = 2, timeout_s = 5.0", False),
        ("updates = 3", f"updates = 3\n{VLLM}", True),
    ],
)
def test_what_makes_another_run(folder: Path, old: str, new: str, is_other: bool) -> None:
    """How answers are drawn decides the numbers, where a server is does not."""
    first = plan(folder, GRPO)
    base = tiny.BASE.replace("steps = 4", "steps = 6")
    text = (GRPO + DATA).replace(old, new)
    analysis = analyse(tiny.write_spec(folder / "spec.toml", text, base=base), {})
    assert analysis.ok, analysis.diagnostics
    assert (plan_of(analysis).fingerprint != first.fingerprint) is is_other


def test_a_chat_setting_is_no_other_run(workspace: Path) -> None:
    """Where nothing is generated in training, `[generation]` is for talking to the result."""
    made = []
    for temperature in ("0.5", "0.9"):
        text = f"[generation]\ntemperature = {temperature}\n"
        analysis = analyse(tiny.write_spec(workspace / "spec.toml", text), {})
        assert analysis.ok
        made.append(plan_of(analysis).fingerprint)
    assert made[0] == made[1]


def test_the_program_shows_the_numbers(folder: Path) -> None:
    """Rewards, sampling and the arithmetic of groups stand in `train.py`."""
    program = render_files(plan(folder, GRPO))["train.py"]
    assert (
        "from tunec.runtime import data, models, objectives, rewards, session, training" in program
    )
    assert 'rewards.FunctionReward(RUN_DIR / "../../rewards.py"),' in program
    assert "sampling=objectives.Sampling(max_new_tokens=8, temperature=1.0)," in program
    assert "# a step takes 16 answers, 4 to each of 4 prompts" in program
    shown = render_files(plan(folder, PPO))["train.py"]
    assert "# 32 answers are made at once, for 6 steps" in shown
    assert "reference=objectives.AdapterOff()," in shown


def test_a_server_that_answers_is_shown(folder: Path) -> None:
    """Plan and program say who answers; another address is no other run."""
    made = plan(folder, GRPO + VLLM)
    text = describe(made, [])
    assert "vLLM server host:8000, which must see the run folder at the same path" in text
    program = " ".join(render_files(made)["train.py"].split())
    assert (
        'generator=objectives.VllmServer( "http://host:8000", connections=64, timeout_s=120.0, '
        'retries=5, token_env="VLLM_KEY",'
    ) in program
    moved = plan(folder, GRPO + VLLM.replace("//host", "//other"))
    assert moved.fingerprint == made.fingerprint
    alone = plan(folder, PPO + VLLM.replace(', token_env = "VLLM_KEY"', ""))
    assert "objectives.VllmServer(" in render_files(alone)["train.py"]


def test_answers_need_memory(folder: Path) -> None:
    """A sequence in training is a prompt with its answer; while answers are made, their keys and values are kept."""
    made = plan(folder, GRPO)
    config = json.loads((folder / "model" / "config.json").read_text())
    width = config["hidden_size"] // config["num_attention_heads"] * config["num_key_value_heads"]
    longest = 128 + 8
    assert made.memory is not None
    assert made.memory.cache == 16 * longest * 2 * width * config["num_hidden_layers"] * 4
    served = plan(folder, GRPO + VLLM).memory
    assert served is not None
    assert (served.cache, served.activations) == (0, made.memory.activations)


def test_a_prompt_with_its_answer_must_fit(folder: Path) -> None:
    """A micro batch by tokens has room for both."""
    text = (GRPO + DATA).replace("micro_size = 4", "micro_tokens = 130")
    found = analyse(tiny.write_spec(folder / "spec.toml", text), {}).diagnostics
    said = [item.message for item in found if item.code == "R815"]
    assert said == ["a prompt with its answer of 136 tokens does not fit into a micro batch of 130"]
