"""The best weights of a run: which they are, that they last, and that a run ends with them."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import inprocess
import runs
import tiny
from tunec.runtime.errors import UserError
from tunec.runtime.training.best import Best, BestSoFar, Watch

RUN = """
[training]
steps = 8
learning_rate = 3e-2
schedule = "constant"
max_grad_norm = 1000.0
seed = 3
[batch]
global_size = 4
micro_size = 4
[checkpoints]
every_steps = 2
keep = 1
"""
DATA = "[data]\neval_rows = 6\nshuffle = false\n"
METHODS = {
    "lora": '[method]\ntype = "lora"\nrank = 4\n',
    "full": '[method]\ntype = "full"\n',
    "zero-3": '[method]\ntype = "full"\n[deepspeed]\nzero_stage = 3\npersistence_threshold = 0\n',
    "average": '[method]\ntype = "lora"\nrank = 4\n',
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    workspace: Path = tmp_path_factory.mktemp("best")
    (workspace / "model").symlink_to(tiny_model)
    tiny.write_chats(workspace / "data" / "chat.jsonl", 24)
    return workspace


def run(room: Path, text: str, name: str) -> tuple[Path, Any]:
    run_dir = inprocess.compiled(room, text, name)
    inprocess.prepare(run_dir)
    return run_dir, inprocess.train(run_dir)


def evaluations(run_dir: Path, name: str = "eval_loss") -> dict[int, float]:
    return {row["step"]: row[name] for row in runs.metrics(run_dir) if name in row}


def report(run_dir: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run_dir / "report.json").read_text())
    return found


def weights(folder: Path) -> dict[str, torch.Tensor]:
    (file,) = folder.glob("*.safetensors")
    return load_file(file)


def test_numbers_that_are_none() -> None:
    """NaN and infinities are never the best, and equal numbers no improvement."""
    seen = BestSoFar()
    for step, value in enumerate([math.nan, -math.inf, 2.0, 2.0, math.inf, math.nan], start=1):
        seen.see(value, step, is_kept=True, higher_is_better=False)
    assert (seen.value, seen.step, seen.without) == (2.0, 3, 3)
    seen.see(2.5, 7, is_kept=True, higher_is_better=True)
    assert (seen.kept_value, seen.kept_step) == (2.5, 7)


def test_kept_apart_from_seen() -> None:
    """Patience follows all evaluations; what is kept is the best of those with a checkpoint."""
    watch = Watch(Best(load=True, patience=2))
    for step, value in enumerate([3.0, 1.0, 2.0, 2.5], start=1):
        watch.see({"eval_loss": value}, step, is_kept=step % 2 == 1)
    assert (watch.seen.step, watch.seen.kept_step, watch.ended_at) == (2, 3, 4)
    again = Watch(Best(load=True, patience=2))
    again.load(json.loads(json.dumps(watch.state())))
    assert again.seen == watch.seen


def test_a_number_that_is_not_there() -> None:
    """A metric that the evaluation does not give is an error that names what it gives."""
    with pytest.raises(UserError, match="gives no `accuracy`") as caught:
        Watch(Best(metric="eval_accuracy")).see({"eval_loss": 1.0}, 2, is_kept=True)
    assert "`loss`" in str(caught.value.help)


@pytest.mark.parametrize("name", METHODS)
def test_ends_with_the_best(room: Path, name: str) -> None:
    """The best checkpoint outlives newer ones, and `final/` holds its weights; so it is after a stop and a resume."""
    # The worst loss is the best here: it comes early, so that newer checkpoints come after it.
    best = "[evaluation]\nevery_steps = 2\nload_best = true\nhigher_is_better = true\n"
    text = METHODS[name] + DATA + RUN + best
    if name == "average":
        text = text.replace("seed = 3", "seed = 3\nema_decay = 0.5")
    whole, trainer = run(room, text, f"{name}-whole")
    found = evaluations(whole)
    assert list(found) == [2, 4, 6, 8]
    step = max(found, key=lambda step: found[step])
    assert step < 8
    assert report(whole)["best"] == {"metric": "eval_loss", "value": found[step], "step": step}
    assert report(whole)["final_step"] == step
    kept = {path.name for path in (whole / "checkpoints").iterdir()}
    assert kept == {f"step-{step}", "step-6"}
    # Evaluated again, the weights of the end give the number of the best.
    assert trainer._eval_losses()["eval_loss"] == pytest.approx(found[step], abs=1e-6)
    if name in ("lora", "average"):
        expected = weights(whole / "checkpoints" / f"step-{step}" / "adapter")
        final = weights(whole / "final")
        assert all(torch.equal(final[key], expected[key]) for key in expected)

    torn = inprocess.compiled(room, text, f"{name}-torn")
    inprocess.prepare(torn)
    # Also when it stops where an evaluation is due, and a checkpoint.
    assert inprocess.train(torn, stop_after=4 if name == "full" else 5).stopped
    inprocess.train(torn, resume=True)
    assert runs.exact_numbers(torn) == runs.exact_numbers(whole)
    assert report(torn)["best"] == report(whole)["best"]
    assert runs.weights_digest(torn) == runs.weights_digest(whole)


def test_patience(room: Path) -> None:
    """A run without improvement ends early, as done, with the reason; the last numbers are written."""
    text = METHODS["lora"] + DATA + RUN.replace("steps = 8", "steps = 40")
    text += "[evaluation]\nevery_steps = 1\nat_start = true\npatience = 2\nload_best = true\nhigher_is_better = true\n"
    text = text.replace("every_steps = 2\nkeep", "every_steps = 1\nkeep")
    run_dir, trainer = run(room, text, "patience")
    found = evaluations(run_dir)
    end = trainer.state.global_step
    # The loss falls from the start, and the highest is to be the best.
    assert found[0] > found[1] > found[2]
    assert end == 2
    assert report(run_dir)["best"] == {"metric": "eval_loss", "value": found[0], "step": 0}
    # There is no checkpoint of step 0; of those there are, that of step 1 is the best.
    assert report(run_dir)["final_step"] == 1
    assert report(run_dir)["status"] == "done"
    assert report(run_dir)["stopped_early"]["step"] == end == report(run_dir)["steps"]
    assert max(row["step"] for row in runs.metrics(run_dir) if "loss" in row) == end


def test_occasions(room: Path) -> None:
    """Evaluations, checkpoints and lines at the ends of epochs and at the start; none before the delay but that."""
    text = (
        METHODS["lora"]
        + "[data]\neval_rows = 0.25\n[evaluation]\nevery_steps = 1\nat_start = true\n"
    )
    text += "each_epoch = true\ndelay_steps = 4\naccuracy = true\n"
    text += "[training]\nsteps = 9\n[batch]\nglobal_size = 4\nmicro_size = 2\n"
    text += "[checkpoints]\nevery_steps = 0\neach_epoch = true\nkeep = 0\n"
    text += "[logging]\nevery_steps = 100\nfirst_step = true\neach_epoch = true\n"
    # 18 rows in steps of 4: epochs end in step 5 and 9.
    run_dir, trainer = run(room, text, "occasions")
    assert list(evaluations(run_dir)) == [0, 4, 5, 6, 7, 8, 9]
    assert [row["step"] for row in runs.metrics(run_dir) if "loss" in row] == [1, 5, 9]
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-5"]
    for row in runs.metrics(run_dir):
        if "eval_loss" in row:
            assert row["eval_perplexity"] == pytest.approx(math.exp(row["eval_loss"]), rel=1e-12)
            assert row["eval_accuracy"] == pytest.approx(row["eval_accuracy"])
    assert evaluations(run_dir, "eval_accuracy")[9] == pytest.approx(accuracy(trainer), abs=1e-9)


def accuracy(trainer: Any) -> float:
    """Return the share of tokens predicted right, by whole logits."""
    right = total = 0
    with torch.no_grad():
        for sample in trainer.evaluation:
            ids, labels = torch.tensor([sample.input_ids]), torch.tensor(sample.labels[1:])
            found = trainer.model.eval()(input_ids=ids, use_cache=False).logits[0, :-1].argmax(-1)
            right += int((found == labels)[labels >= 0].sum())
            total += int((labels >= 0).sum())
    return right / total


OBJECTIVES = {
    "dpo": ("accuracy", "pairs", 'type = "dpo"', ""),
    "reward": ("margin", "pairs", 'type = "reward"', ""),
    "kto": ("chosen_reward", "judged", 'type = "kto"', ""),
    "grpo": (
        "reward",
        "prompts",
        'type = "grpo"\ngroup_size = 2\nrewards = [{ type = "function", path = "rewards.py" }]',
        "[generation]\nmax_new_tokens = 4\n",
    ),
}
FORMATS = {
    "pairs": '{ format = "preference", path = "data/pairs.jsonl" }',
    "judged": '{ format = "messages", path = "data/judged.jsonl", label = "label" }',
    "prompts": '{ format = "prompt", path = "data/pairs.jsonl" }',
}


@pytest.mark.parametrize("name", OBJECTIVES)
def test_other_objectives(room: Path, name: str) -> None:
    """The best by a number of the objective's own is found, kept and loaded, and patience ends the run."""
    pairs, judged = [], []
    for number in range(16):
        asked = f"What is number {number}?" + " Please." * (number % 3)
        pair = {"prompt": asked, "chosen": "It is violet.", "rejected": "No." * (1 + number % 4)}
        turns = [
            {"role": "user", "content": asked},
            {"role": "assistant", "content": pair["chosen"]},
        ]
        pairs.append(json.dumps(pair))
        judged.append(json.dumps({"messages": turns, "label": number % 3 > 0}))
    (room / "data" / "pairs.jsonl").write_text("\n".join(pairs))
    (room / "data" / "judged.jsonl").write_text("\n".join(judged))
    (room / "rewards.py").write_text(
        "def reward(answers):\n    return [float(answer.count('e')) for answer in answers]\n"
    )
    metric, data, objective, more = OBJECTIVES[name]
    text = f"[objective]\n{objective}\n[data]\neval_rows = 4\nsources = [{FORMATS[data]}]\n"
    text += METHODS["lora"] + RUN + more
    text += f'[evaluation]\nevery_steps = 2\nmetric = "{metric}"\nload_best = true\npatience = 2\n'
    run_dir, trainer = run(room, text, name)
    found = evaluations(run_dir, f"eval_{metric}")
    best = max(found, key=lambda step: found[step])
    assert report(run_dir)["best"] == {
        "metric": f"eval_{metric}",
        "value": found[best],
        "step": best,
    }
    assert report(run_dir)["final_step"] == best
    steps = report(run_dir)["steps"]
    assert steps == min(8, best + 4)
    again = trainer._eval_losses()[f"eval_{metric}"]
    assert again == pytest.approx(found[best], abs=1e-6)


def test_names_of_metrics() -> None:
    """The compiler knows for each objective the numbers that the runtime measures, and no others."""
    from tunec.compiler.render.objective_calls import OBJECTIVES
    from tunec.compiler.rules.evaluation import GENERATED, METRICS
    from tunec.runtime import objectives
    from tunec.runtime.objectives.online import OnlineObjective

    assert METRICS.keys() == OBJECTIVES.keys()
    # The first is measured for some losses of DPO only; the others belong to updates and not to answers.
    left_out = {"reward_shift", "entropy", "clip_share"}
    for spec, (name, _) in OBJECTIVES.items():
        cls = getattr(objectives, name)
        known = {*cls.measures, *cls.eval_measures}
        if cls.gives_perplexity:
            # The second is measured where it is asked for, the third beside other losses.
            known |= {"perplexity", "accuracy", "cross_entropy"}
        if issubclass(cls, objectives.Sft) and cls is not objectives.Pretraining:
            known |= set(GENERATED)
        if issubclass(cls, OnlineObjective):
            known |= set(cls.shared_measures)
        assert set(METRICS[spec]) == known - left_out, name


def test_direction_of_metrics() -> None:
    """Losses, divergences and what belongs to rejected answers are better when lower, all else when higher."""
    from tunec.compiler.rules.evaluation import METRICS, rises
    from tunec.compiler.spec import Evaluation

    class Spec:
        def __init__(self, metric: str) -> None:
            self.evaluation = Evaluation(metric=metric)

    every = {name for names in METRICS.values() for name in names}
    falling = {name for name in every if not rises(Spec(name))}  # type: ignore[arg-type]
    assert falling == {
        *("perplexity", "rejected_reward", "rejected_log_prob", "rejected_score", "sft_loss"),
        *("odds_ratio_loss", "kl", "endless_share", "empty_share", "cross_entropy"),
    }
