"""PPO and GRPO as runs: they learn, resume to the same bits, and count alike on any number of processes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file

import inprocess
import runs
import tiny
from tunec.runtime.errors import UserError

REWARDS = """
import random


def reward(prompts, answers, expected):
    return [float(answer.count("e")) for answer in answers]


def noisy(answers):
    return [answer.count("e") + random.random() for answer in answers]


def short(answers):
    return [-len(answer) / 10 for answer in answers]


def known(expected, prompts):
    return [float(f"Say {wanted['number']}." in prompt) for wanted, prompt in zip(expected, prompts)]


calls = []


def failing(answers):
    calls.append(1)
    return [1.0] * len(answers) if len(calls) < 3 else [float("nan")] * len(answers)
"""
SPEC = """
[data]
max_length = 64
sources = [{ format = "prompt", path = "data/prompts.jsonl", answer = "answer" }]
[method]
type = "full"
[training]
steps = 6
learning_rate = 1e-2
precision = "fp32"
gradient_checkpointing = false
schedule = "constant"
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
rewards = [{ type = "function", path = "rewards.py" }]
"""
PPO = """
[objective]
type = "ppo"
reward = { type = "function", path = "rewards.py" }
buffer_batches = 2
epochs = 2
"""
NOISY_PPO = PPO.replace('"rewards.py"', '"rewards.py", name = "noisy"') + (
    "normalize_scores = true\nwhiten_rewards = true\n"
)
NOISY_GRPO = GRPO.replace('"rewards.py"', '"rewards.py", name = "noisy"') + (
    "updates = 3\nbeta = 0.1\n"
)


@pytest.fixture(scope="module")
def room(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """A folder with a model, prompts and reward functions, for many runs."""
    folder = inprocess.make_room(tmp_path_factory.mktemp("online"), tiny_model)
    rows = [
        {"prompt": f"Say {n}." + " Please." * (n % 3), "answer": {"number": n}} for n in range(10)
    ]
    text = "".join(json.dumps(row) + "\n" for row in rows)
    (folder / "data" / "prompts.jsonl").write_text(text)
    (folder / "rewards.py").write_text(REWARDS)
    return folder


def made(room: Path, name: str, objective: str, spec: str = SPEC) -> Path:
    """Compile a run and prepare its data."""
    run_dir = inprocess.compiled(room, objective + spec, name)
    inprocess.prepare(run_dir)
    return run_dir


def numbers(run_dir: Path) -> list[dict[str, Any]]:
    """Return everything of the metrics that a repeated run must repeat."""
    return [
        {key: value for key, value in row.items() if key != "tokens_per_s"}
        for row in runs.metrics(run_dir)
    ]


def rewards_of(run_dir: Path) -> list[float]:
    """Return the mean reward of each rollout."""
    return [row["reward"] for row in runs.metrics(run_dir) if "reward" in row]


@pytest.mark.parametrize(("name", "objective"), [("grpo", GRPO), ("ppo", PPO)], ids=["grpo", "ppo"])
def test_a_rule_is_learned(room: Path, name: str, objective: str) -> None:
    """Answers hold at least three times as many of the letter that is rewarded as at the start."""
    spec = SPEC.replace("steps = 6", "steps = 28").replace("global_size = 16", "global_size = 32")
    run_dir = made(
        room, f"learn-{name}", objective, spec.replace("micro_size = 4", "micro_size = 16")
    )
    inprocess.train(run_dir)
    found = rewards_of(run_dir)
    baseline = sum(found[:2]) / 2
    assert found[-1] > 3 * baseline
    assert 0.3 < baseline < 1.5
    assert (run_dir / "final" / "value_head.safetensors").exists() == (name == "ppo")


@pytest.mark.parametrize("stop", [2, 4])
@pytest.mark.parametrize(
    ("name", "objective", "method"),
    [
        ("ppo", NOISY_PPO, 'type = "lora"\nrank = 4\ndropout = 0.1'),
        ("grpo", NOISY_GRPO, 'type = "full"'),
    ],
    ids=["ppo", "grpo"],
)
def test_a_resumed_run_repeats_every_bit(
    room: Path, name: str, objective: str, method: str, stop: int
) -> None:
    """Within a rollout and between two: answers, scores, penalty and random numbers of rewards go on as they were."""
    spec = SPEC.replace('type = "full"', method)
    whole = room / "runs" / f"whole-{name}"
    if not whole.exists():
        inprocess.train(made(room, whole.name, objective, spec))
    part = made(room, f"part-{name}-{stop}", objective, spec)
    inprocess.train(part, stop_after=stop)
    assert (part / "checkpoints" / f"step-{stop}" / "rollout.pt").exists()
    inprocess.train(part, resume=True)
    assert numbers(part) == numbers(whole)
    for file in (whole / "final").glob("*.safetensors"):
        assert file.read_bytes() == (part / "final" / file.name).read_bytes()


def test_accumulation_changes_nothing(room: Path) -> None:
    """A step in micro batches of 2 is that of one micro batch: the answers, the rewards, the losses."""
    found = []
    for micro in (2, 16):
        spec = SPEC.replace("micro_size = 4", f"micro_size = {micro}").replace(
            "steps = 6", "steps = 3"
        )
        run_dir = made(room, f"micro-{micro}", NOISY_GRPO.replace("noisy", "reward"), spec)
        inprocess.train(run_dir)
        found.append(numbers(run_dir))
    for small, large in zip(*found, strict=True):
        assert small.keys() == large.keys()
        for key, value in small.items():
            assert value == pytest.approx(large[key], rel=1e-4, abs=1e-6), key


def test_several_rewards_and_their_weights(room: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each is measured by its name, and the reward is their weighed sum; the data's answers arrive with their prompts."""
    several = GRPO.replace(
        'rewards = [{ type = "function", path = "rewards.py" }]',
        'rewards = [{ type = "function", path = "rewards.py", name = "known", weight = 2.0 },'
        ' { type = "function", path = "rewards.py", name = "short", weight = -0.5 }]',
    )
    run_dir = made(room, "several", several, SPEC.replace("steps = 6", "steps = 2"))
    inprocess.train(run_dir)
    for row in numbers(run_dir):
        assert row["reward/known"] == 1.0
        assert row["reward"] == pytest.approx(2 * 1.0 - 0.5 * row["reward/short"])
    last = f"  reward {numbers(run_dir)[-1]['reward']:.3f}  "
    (told,) = (line for line in capsys.readouterr().out.splitlines() if line.startswith("step 2/2"))
    assert last in told


def test_held_out_prompts_are_answered(room: Path) -> None:
    """An evaluation tells the mean reward, of the same random numbers each time, and its loss is minus that."""
    spec = SPEC.replace("max_length = 64", "max_length = 64\neval_rows = 3").replace(
        "steps = 6", "steps = 2"
    )
    run_dir = made(room, "held-out", GRPO, spec + "[evaluation]\nevery_steps = 1\n")
    inprocess.train(run_dir)
    rows = [row for row in numbers(run_dir) if "eval_reward" in row]
    assert [row["step"] for row in rows] == [1, 2]
    for row in rows:
        assert row["eval_loss"] == -row["eval_reward"]
        assert row["eval_answer_tokens"] <= 8


def test_a_reward_that_fails_ends_the_run(room: Path) -> None:
    """It is one line that names the reward and the answer, and the checkpoint before it is kept."""
    failing = GRPO.replace('"rewards.py"', '"rewards.py", name = "failing"')
    run_dir = made(room, "failing", failing, SPEC + "[checkpoints]\nevery_steps = 1\n")
    with pytest.raises(UserError, match=r"function `failing` of rewards\.py gave nan for answer 0"):
        inprocess.train(run_dir)
    assert (run_dir / "checkpoints" / "step-2").is_dir()


def test_answers_that_are_empty(
    room: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Where the model ends at once it is told and measured, and the training goes on."""
    folder = inprocess.make_room(tmp_path, tiny.make_model(tmp_path / "ending"))
    for name in ("rewards.py", "data/prompts.jsonl"):
        (folder / name).write_text((room / name).read_text())
    config = folder / "model" / "generation_config.json"
    config.write_text(
        json.dumps({**json.loads(config.read_text()), "eos_token_id": list(range(379))})
    )
    run_dir = made(folder, "empty", GRPO, SPEC.replace("steps = 6", "steps = 1"))
    inprocess.train(run_dir)
    (row,) = numbers(run_dir)
    assert (row["empty_share"], row["equal_groups"], row["answer_tokens"]) == (1, 1, 1)
    assert "all 16 answers of rollout 1 are empty" in capsys.readouterr().out


def test_a_loss_that_is_no_number_names_its_prompts(room: Path) -> None:
    """The rows behind the first micro batch at fault are those whose prompts it answers."""
    run_dir = made(
        room,
        "no-number",
        GRPO + "updates = 2\nbeta = 3e38\n",
        SPEC.replace("learning_rate = 1e-2", "learning_rate = 0.9"),
    )
    with pytest.raises(UserError, match=r"the loss of step 2 is inf, .*prompts\.jsonl:\d+"):
        inprocess.train(run_dir)


def test_predictions_that_are_no_numbers(room: Path, tmp_path: Path) -> None:
    """Weights that are broken are told before anything is scored."""
    folder = inprocess.make_room(tmp_path, tiny.make_model(tmp_path / "broken"))
    for name in ("rewards.py", "data/prompts.jsonl"):
        (folder / name).write_text((room / name).read_text())
    weights = load_file(folder / "model" / "model.safetensors")
    weights["model.norm.weight"][3] = float("nan")
    save_file(weights, folder / "model" / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UserError, match="predictions are no numbers"):
        inprocess.train(made(folder, "broken", GRPO))


@pytest.mark.heavy
def test_two_processes_count_as_one(room: Path) -> None:
    """The answers, the rewards and the losses are those of one process, under ZeRO 0 and 3."""
    spec = SPEC.replace("steps = 6", "steps = 5")
    two = '[launch]\nprocesses = 2\ndevice = "cpu"\n[deepspeed]\nzero_stage = {}\n'
    cases = {
        "ppo": (NOISY_PPO, spec, 3),
        "grpo": (NOISY_GRPO, spec, 0),
    }
    for name, (objective, text, _) in cases.items():
        inprocess.train(made(room, f"one-{name}", objective, text))
    pairs = [
        made(room, f"two-{name}", objective, text + two.format(stage))
        for name, (objective, text, stage) in cases.items()
    ]
    inprocess.on_two_ranks(pairs)
    for name, pair in zip(cases, pairs, strict=True):
        alone = numbers(room / "runs" / f"one-{name}")
        for ours, theirs in zip(numbers(pair), alone, strict=True):
            assert ours.keys() == theirs.keys()
            for key, value in ours.items():
                assert value == pytest.approx(theirs[key], rel=1e-3, abs=1e-5), (name, key)
    head = load_file(pairs[0] / "final" / "value_head.safetensors")
    assert head["v_head.summary.weight"].shape == (1, 32)


@pytest.mark.heavy
def test_a_fault_of_a_reward_ends_all_processes(room: Path) -> None:
    """Rank 0 asks, and what it is told ends both processes with one line, at once."""
    failing = GRPO.replace('"rewards.py"', '"rewards.py", name = "failing"')
    spec = SPEC + '[launch]\nprocesses = 2\ndevice = "cpu"\n'
    done = runs.launch(made(room, "failing-two", failing, spec))
    assert done.returncode == 10, done.stdout + done.stderr
    assert "gave nan for answer 0" in done.stdout + done.stderr
    result = json.loads((room / "runs" / "failing-two" / "result.json").read_text())
    assert "gave nan for answer 0" in result["message"]
