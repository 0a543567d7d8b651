"""A loss that is no number ends the run, and says which rows it came from."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import inprocess
import runs
import tiny
from tunec.runtime import data, objectives
from tunec.runtime.data.joining import JoinedRows
from tunec.runtime.data.origins import places
from tunec.runtime.errors import ExitCode, UserError

RUN = """
[method]
type = "lora"
rank = 2
[data]
shuffle = false
[training]
steps = 6
[batch]
global_size = 4
micro_size = 2
[checkpoints]
every_steps = 2
"""
BAD_LINE = 14


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and 24 chats."""
    workspace: Path = tmp_path_factory.mktemp("not-finite")
    (workspace / "model").symlink_to(tiny_model)
    tiny.write_chats(workspace / "data" / "chat.jsonl", 24)
    return workspace


def compiled(room: Path, text: str, name: str) -> Path:
    run_dir = inprocess.compiled(room, text, name)
    inprocess.prepare(run_dir)
    return run_dir


def breaks_at(patch: pytest.MonkeyPatch, run_dir: Path, line: int) -> None:
    """Let the loss of the row of that line be infinite."""
    train, _ = data.load(run_dir)
    (bad,) = [
        row.input_ids
        for index, row in enumerate(train)
        if places(train.rows, [index], run_dir)[0].endswith(f":{line}")
    ]
    loss_sum = objectives.Sft.loss_sum

    def broken(self: Any, model: Any, batch: Any) -> Any:
        rows = [ids[: len(bad)].tolist() == bad for ids in batch["input_ids"]]
        return loss_sum(self, model, batch) * (float("inf") if any(rows) else 1.0)

    patch.setattr(objectives.Sft, "loss_sum", broken)


def test_names_the_rows(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names file and line of the micro batch, and the checkpoint before it is kept."""
    run_dir = compiled(room, RUN, "names")
    breaks_at(monkeypatch, run_dir, BAD_LINE)
    with pytest.raises(UserError) as caught:
        inprocess.train(run_dir)
    assert caught.value.code == ExitCode.TRAINING
    told = caught.value.message
    # Rows are in order: step 4 takes lines 13 to 16, two in each micro batch.
    assert told.startswith("the loss of step 4 is inf, in 1 of 2 micro batches, the first of ")
    lines = {place.rpartition(":")[2] for place in told.rpartition("of ")[2].split(", ")}
    assert str(BAD_LINE) in lines
    assert len(lines) == 2
    assert lines < {"13", "14", "15", "16"}
    assert f"data/chat.jsonl:{BAD_LINE}" in told
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-2"]
    assert not (run_dir / "final").exists()


def test_broken_weights(room: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """When all micro batches are broken at once, the error says that the weights may be."""
    run_dir = compiled(room, RUN, "weights")
    loss_sum = objectives.Sft.loss_sum
    seen = []

    def broken(self: Any, model: Any, batch: Any) -> Any:
        seen.append(1)
        return loss_sum(self, model, batch) * (float("nan") if len(seen) > 4 else 1.0)

    monkeypatch.setattr(objectives.Sft, "loss_sum", broken)
    with pytest.raises(UserError, match="in all 2 micro batches, as if the weights were broken"):
        inprocess.train(run_dir)


def test_rows_of_several_samples(room: Path) -> None:
    """A packed row names all its samples; a row whose origin is not known its number."""
    run_dir = compiled(room, RUN, "packed")
    train, _ = data.load(run_dir)
    packed = data.pack(train, max_length=192)
    everywhere = places(packed.rows, range(len(packed)), run_dir)
    assert len(places(packed.rows, [0], run_dir)) > 1
    assert sorted(everywhere) == sorted(places(train.rows, range(24), run_dir))
    assert len(everywhere) == 24
    assert places(JoinedRows(train, 50), [2], run_dir) == ["row 3"]
    (run_dir / "prepared.json").write_text(json.dumps({}))
    assert places(train.rows, [4], run_dir) == ["row 5"]


def test_a_sound_step_is_forgotten() -> None:
    """Only the losses of the step that ends are kept."""
    from tunec.runtime.training.not_finite import StepLosses

    losses = StepLosses()
    losses.add(torch.tensor(float("nan")))
    losses.begin()
    losses.add(torch.tensor(1.0))
    losses.add(torch.tensor(float("-inf")))
    assert losses.bad == [1]


@pytest.mark.heavy
def test_two_ranks(tmp_path: Path) -> None:
    """A word that the model cannot take breaks the loss on one rank: both end at once, and name its row."""
    from safetensors.torch import load_file, save_file
    from transformers import AutoTokenizer

    tiny.make_model(tmp_path / "model", tied=False)
    chats = tiny.write_chats(tmp_path / "data" / "chat.jsonl", 16)
    lines = chats.read_text().splitlines()
    lines[9] = lines[9].replace("What is", "§ is")
    chats.write_text("\n".join(lines) + "\n")
    token = AutoTokenizer.from_pretrained(str(tmp_path / "model")).encode("§")[-1]
    weights = tmp_path / "model" / "model.safetensors"
    tensors = load_file(weights)
    tensors["model.embed_tokens.weight"][token] = float("nan")
    save_file(tensors, weights, metadata={"format": "pt"})
    text = RUN.replace("micro_size = 2", "micro_size = 1") + "[launch]\nprocesses = 2\n"
    run_dir = runs.compile_spec(tmp_path, text)
    done = runs.launch(run_dir)
    assert done.returncode == ExitCode.TRAINING, done.stdout + done.stderr
    told = "the loss of step 3 is nan, in 1 of 4 micro batches, the first of"
    assert told in done.stdout + done.stderr
    assert "data/chat.jsonl:10" in done.stdout + done.stderr
    assert [path.name for path in (run_dir / "checkpoints").iterdir()] == ["step-2"]
