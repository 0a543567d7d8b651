"""Generated answers: the same as one by one, compared as the libraries of the field do, and without a trace in the training."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import inprocess
import runs
import tiny
from tunec.runtime.training.predictions import Generation, answer_of, prompt_length
from tunec.runtime.training.text_metrics import TEXT_MEASURES, longest_common, measure, words

RUN = """
[data]
eval_rows = 7
shuffle = false
[training]
steps = 6
learning_rate = 1e-2
seed = 3
[batch]
global_size = 4
micro_size = 4
"""
GENERATE = "[evaluation]\nevery_steps = 3\ngenerate = true\nmax_new_tokens = 8\n"
METHODS = {
    "lora": '[method]\ntype = "lora"\nrank = 4\ndropout = 0.2\n',
    "prefix": '[method]\ntype = "prefix"\nnum_tokens = 4\n',
    "zero-3": '[method]\ntype = "full"\n[deepspeed]\nzero_stage = 3\npersistence_threshold = 0\n',
    "zero-3-lora": '[method]\ntype = "lora"\nrank = 4\n[deepspeed]\nzero_stage = 3\npersistence_threshold = 0\n',
}


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    workspace: Path = tmp_path_factory.mktemp("predictions")
    (workspace / "model").symlink_to(tiny_model)
    tiny.write_chats(workspace / "data" / "chat.jsonl", 24)
    return workspace


def run(room: Path, text: str, name: str) -> tuple[Path, Any]:
    run_dir = inprocess.compiled(room, text, name)
    inprocess.prepare(run_dir)
    return run_dir, inprocess.train(run_dir)


def predictions(run_dir: Path, step: int) -> list[dict[str, str]]:
    text = (run_dir / "predictions" / f"step-{step}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def evaluation(run_dir: Path, step: int) -> dict[str, float]:
    (row,) = [row for row in runs.metrics(run_dir) if row["step"] == step and "eval_loss" in row]
    return {name: row[f"eval_{name}"] for name in TEXT_MEASURES}


# Made by rouge-score 0.1.2, without stemming.
ROUGE = [
    ("The lamp is violet, and it turns.", "The lamp in the tower is violet.", 4 / 7, 1 / 3, 4 / 7),
    (
        "Marta Quill keeps the station",
        "Marta keeps the station on Bramble Island; Marta Quill.",
        5 / 7,
        1 / 2,
        4 / 7,
    ),
    ("", "nothing", 0, 0, 0),
    ("a a a b", "a b a", 6 / 7, 2 / 5, 4 / 7),
    ("Number 4 is Thimble. Yes. Yes.", "Number 4 is Turnip. Yes.", 8 / 11, 4 / 9, 8 / 11),
]


@pytest.mark.parametrize(("found", "wanted", "one", "two", "longest"), ROUGE)
def test_rouge(found: str, wanted: str, one: float, two: float, longest: float) -> None:
    """ROUGE is the F1 that rouge-score gives."""
    scores = measure([found], [wanted])
    expected = (100 * one, 100 * two, 100 * longest)
    assert tuple(scores[name] for name in TEXT_MEASURES[1:]) == pytest.approx(expected)


def test_bleu() -> None:
    """BLEU of the corpus: the geometric mean of the four precisions times the brevity penalty, by hand."""
    # 7 of 8 words, 5 of 7 pairs, 3 of 6 triples, 1 of 5 quadruples; as long as expected.
    scores = measure(["a b c d x e f g"], ["a b c d y e f g"])
    assert scores["bleu"] == pytest.approx(100 * (7 / 8 * 5 / 7 * 3 / 6 * 1 / 5) ** 0.25)
    assert measure(["the same words here"], ["the same words here"])["bleu"] == pytest.approx(100)


def test_chinese() -> None:
    """Scripts without spaces are compared character by character, beside words of others."""
    assert words("塔上的灯是violet色。") == ["塔", "上", "的", "灯", "是", "violet", "色"]
    scores = measure(["灯是紫色的"], ["灯是红色的"])
    assert scores["rouge1"] == pytest.approx(80)
    assert scores["rouge2"] == pytest.approx(50)
    assert scores["rougeL"] == pytest.approx(80)
    assert measure(["塔上的灯是紫色的"], ["塔上的灯是紫色的"])["bleu"] == pytest.approx(100)
    # Without that, each would be one wrong word.
    assert measure(["塔上的灯是紫色的。"], ["塔上的灯是红色的。"])["bleu"] > 40


def test_longest_common() -> None:
    """The bits give the length that the table gives."""
    generator = torch.Generator().manual_seed(0)
    for _ in range(30):
        sizes = torch.randint(0, 90, (2,), generator=generator).tolist()
        first, second = (
            [str(n) for n in torch.randint(0, 9, (size,), generator=generator).tolist()]
            for size in sizes
        )
        table = [[0] * (len(second) + 1) for _ in range(len(first) + 1)]
        for i, a in enumerate(first):
            for j, b in enumerate(second):
                longer = max(table[i][j + 1], table[i + 1][j])
                table[i + 1][j + 1] = table[i][j] + 1 if a == b else longer
        assert longest_common(first, second) == table[-1][-1]


@pytest.mark.parametrize("name", METHODS)
def test_as_one_by_one(room: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers from batches with a cache are those of each prompt by itself without; the file and the numbers hold them."""
    run_dir, trainer = run(room, METHODS[name] + RUN + GENERATE, name)
    found = predictions(run_dir, 6)
    assert len(found) == 7
    # The engine asks for it.
    monkeypatch.setenv("LOCAL_RANK", "0")
    model, tokenizer = trainer.model.eval(), trainer.processing_class
    for row, sample in zip(found, trainer.evaluation, strict=True):
        start = prompt_length(sample)
        tokens = sample.input_ids[:start]
        with torch.no_grad():
            while len(tokens) < start + 8:
                logits = model(input_ids=torch.tensor([tokens]), use_cache=False).logits
                tokens = [*tokens, int(logits[0, -1].argmax())]
                if tokens[-1] == tokenizer.eos_token_id:
                    break
        assert (
            row["generated"] == tokenizer.decode(tokens[start:], skip_special_tokens=True).strip()
        )
        assert row["prompt"] == tokenizer.decode(sample.input_ids[:start])
        assert row["expected"] == tokenizer.decode(answer_of(sample), skip_special_tokens=True)
        assert "data/chat.jsonl:" in row["place"]
    expected = measure([row["generated"] for row in found], [row["expected"] for row in found])
    assert evaluation(run_dir, 6) == pytest.approx(expected)


def test_no_trace_in_the_training(room: Path) -> None:
    """Numbers and weights of a training with dropout are the same bits with generation and without."""
    without, _ = run(room, METHODS["lora"] + RUN + "[evaluation]\nevery_steps = 3\n", "without")
    run_dir, _ = run(room, METHODS["lora"] + RUN + GENERATE, "beside")
    assert runs.exact_numbers(run_dir) == runs.exact_numbers(without)
    assert runs.weights_digest(run_dir) == runs.weights_digest(without)
    assert {path.name for path in (run_dir / "final").iterdir()} == {
        path.name for path in (without / "final").iterdir()
    }


def test_any_batch(room: Path) -> None:
    """Answers do not depend on how many are generated together; beams may find others."""
    texts = {}
    for size in (1, 3):
        name = f"batch-{size}"
        run_dir, _ = run(room, METHODS["lora"] + RUN + GENERATE + f"micro_size = {size}\n", name)
        texts[size] = predictions(run_dir, 3)
    assert texts[1] == texts[3]
    run_dir, trainer = run(room, METHODS["lora"] + RUN + GENERATE + "num_beams = 3\n", "beams")
    assert len(predictions(run_dir, 6)) == 7
    assert isinstance(trainer.generation, Generation)
    assert trainer.generation.settings.num_beams == 3


def test_sets(room: Path) -> None:
    """Each of several sets has its own numbers, and the file says which set a row is of."""
    tiny.write_chats(room / "data" / "a.jsonl", 3, seed=1)
    tiny.write_chats(room / "data" / "b.jsonl", 2, seed=2)
    sources = "".join(
        f'[[data.eval_sources]]\nformat = "messages"\npath = "data/{name}.jsonl"\n' for name in "ab"
    )
    text = METHODS["lora"] + RUN.replace("eval_rows = 7\n", "") + GENERATE
    run_dir, _ = run(room, text + 'metric = "a/rougeL"\npatience = 5\n' + sources, "sets")
    found = predictions(run_dir, 6)
    assert [row["set"] for row in found] == ["a", "a", "a", "b", "b"]
    (row,) = [row for row in runs.metrics(run_dir) if row["step"] == 6 and "eval_loss" in row]
    for name in "ab":
        part = [row for row in found if row["set"] == name]
        expected = measure([row["generated"] for row in part], [row["expected"] for row in part])
        assert row[f"eval_rougeL/{name}"] == pytest.approx(expected["rougeL"])
    report = json.loads((run_dir / "report.json").read_text())
    assert report["best"]["metric"] == "eval_rougeL/a"
    assert report["best"]["value"] == pytest.approx(
        max(r["eval_rougeL/a"] for r in runs.metrics(run_dir) if "eval_loss" in r)
    )


@pytest.mark.heavy
def test_two_ranks(room: Path) -> None:
    """Two ranks with spread weights share the prompts, an uneven number, and give what one gives alone."""
    alone, _ = run(room, METHODS["zero-3-lora"] + RUN + GENERATE, "alone")
    text = METHODS["zero-3-lora"] + RUN.replace("micro_size = 4", "micro_size = 2") + GENERATE
    best = "load_best = true\npatience = 1\nhigher_is_better = true\n"
    shared = inprocess.compiled(
        room, f"{text}{best}[checkpoints]\nevery_steps = 3\n[launch]\nprocesses = 2\n", "shared"
    )
    inprocess.prepare(shared)
    inprocess.on_two_ranks([shared])
    found, expected = (predictions(run_dir, 3) for run_dir in (shared, alone))
    assert found == expected
    assert evaluation(shared, 3) == pytest.approx(evaluation(alone, 3))
    # The loss falls, and the highest is to be the best: one more evaluation, and it ends with the first.
    report = json.loads((shared / "report.json").read_text())
    assert (report["final_step"], report["steps"]) == (3, 6)
