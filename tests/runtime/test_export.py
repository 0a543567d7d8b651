"""Export: what is written is what was trained, or nothing is written."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import tiny
from tunec.runtime import models
from tunec.runtime.errors import ExitCode
from tunec.runtime.export import export
from tunec.runtime.models.variants import load_trained

module = importlib.import_module("tunec.runtime.export.export")
IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])


@pytest.fixture
def run_dir(workspace: Path) -> Path:
    """A run folder beside the base model, with a trained adapter."""
    write_adapter(workspace / "run" / "final", workspace / "model", scale=1.0)
    return workspace / "run"


def write_adapter(folder: Path, base: Path, *, scale: float) -> None:
    torch.manual_seed(4)
    model = models.add_lora(
        models.load_causal_lm(base, dtype="fp32"), rank=2, alpha=4, dropout=0.0, targets="all-linear"
    )  # fmt: skip
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_().mul_(scale)
    model.save_pretrained(str(folder))
    models.load_tokenizer(base).save_pretrained(str(folder))


def start(run_dir: Path, *arguments: str, **settings: Any) -> int:
    """Run the program and return its exit code."""
    chosen: dict[str, Any] = {
        "base": models.Base(run_dir / "../model"),
        "method": "lora",
        "trained": run_dir / "final",
        "output": run_dir / "merged",
        "dtype": "same",
        "max_shard_gib": 5.0,
        **settings,
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["export.py", *arguments])
        try:
            export(**chosen)
        except SystemExit as end:
            return int(end.code or 0)
    return 0


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        result: torch.Tensor = model.eval()(input_ids=IDS).logits
    return result


def logits_in(folder: Path) -> torch.Tensor:
    return logits(models.load_causal_lm(folder, dtype="fp32"))


def dtypes(folder: Path) -> set[torch.dtype]:
    files = folder.glob("*.safetensors")
    return {tensor.dtype for file in files for tensor in load_file(file).values()}


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def test_lora(run_dir: Path, capsys: Any) -> None:
    """The merged model has the logits of base plus adapter, not those of the base, and needs no adapter."""
    assert start(run_dir) == 0
    merged = run_dir / "merged"
    trained = load_trained(run_dir / "final", base=models.Base(run_dir / "../model"), method="lora", dtype="fp32")  # fmt: skip
    torch.testing.assert_close(logits_in(merged), logits(trained), rtol=0.0, atol=1e-4)
    difference = (logits_in(merged) - logits_in(run_dir / "../model")).abs().max()
    assert float(difference) > 0.01
    assert not any("lora" in name for name in load_file(merged / "model.safetensors"))
    assert names(run_dir) == {"final", "merged"}
    shown = capsys.readouterr().out
    assert "largest difference of logits to the trained model: " in shown
    assert f"wrote {merged} (0.1 MiB, fp32)" in shown


def test_tokenizer_and_template(run_dir: Path) -> None:
    """The exported folder is complete: tokenizer, template, generation settings."""
    assert start(run_dir) == 0
    ours, theirs = (models.load_tokenizer(run_dir / name) for name in ("merged", "../model"))
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.chat_template == theirs.chat_template
    assert "generation_config.json" in names(run_dir / "merged")


@pytest.mark.parametrize("tied", [True, False])
def test_full(tmp_path: Path, tied: bool) -> None:
    """Fully trained weights are written as they are; tied embeddings stay tied."""
    tiny.make_model(tmp_path / "model", tied=tied)
    trained = models.load_causal_lm(tmp_path / "model", dtype="fp32")
    with torch.no_grad():
        for parameter in trained.parameters():
            parameter.mul_(1.5)
    run_dir = tmp_path / "run"
    trained.save_pretrained(str(run_dir / "final"))
    models.load_tokenizer(tmp_path / "model").save_pretrained(str(run_dir / "final"))
    assert start(run_dir, method="full") == 0
    assert torch.equal(logits_in(run_dir / "merged"), logits(trained))
    written = load_file(run_dir / "merged" / "model.safetensors")
    assert ("lm_head.weight" in written) == (not tied)


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_dtype(run_dir: Path, dtype: Any) -> None:
    """All weights and the configuration have the number format that was asked for, and the logits are near."""
    assert start(run_dir, dtype=dtype) == 0
    assert dtypes(run_dir / "merged") == {models.load.DTYPES[dtype]}
    config = json.loads((run_dir / "merged" / "config.json").read_text())
    assert config["dtype"] == {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[dtype]
    trained = load_trained(run_dir / "final", base=models.Base(run_dir / "../model"), method="lora", dtype="fp32")  # fmt: skip
    assert float((logits_in(run_dir / "merged") - logits(trained)).abs().max()) < 0.1


def test_dtype_same(run_dir: Path) -> None:
    """`same` is the number format of the base model on disk, though the merge is done in fp32."""
    base = run_dir / "../model"
    models.load_causal_lm(base, dtype="bf16").save_pretrained(str(base))
    assert start(run_dir) == 0
    assert dtypes(run_dir / "merged") == {torch.bfloat16}


def test_shards(run_dir: Path) -> None:
    """A small shard size gives several files and an index, and the same model."""
    assert start(run_dir, max_shard_gib=3e-5) == 0
    merged = run_dir / "merged"
    assert len(list(merged.glob("*.safetensors"))) > 1
    assert "model.safetensors.index.json" in names(merged)
    assert start(run_dir, "--output", str(run_dir / "whole")) == 0
    assert torch.equal(logits_in(merged), logits_in(run_dir / "whole"))


# What is there already


def test_existing_output(run_dir: Path, capsys: Any) -> None:
    """An export that is there is kept unless --overwrite is given, which replaces all of it."""
    assert start(run_dir) == 0
    (run_dir / "merged" / "extra.txt").write_text("mine")
    before = logits_in(run_dir / "merged")
    write_adapter(run_dir / "final", run_dir / "../model", scale=-2.0)
    capsys.readouterr()
    assert start(run_dir) == ExitCode.CONFLICT
    assert capsys.readouterr().err == (
        f"error: {run_dir / 'merged'} exists already\n"
        "  help: replace it with --overwrite, or name another folder with --output\n"
    )
    assert torch.equal(logits_in(run_dir / "merged"), before)
    assert start(run_dir, "--overwrite") == 0
    assert not torch.equal(logits_in(run_dir / "merged"), before)
    assert "extra.txt" not in names(run_dir / "merged")
    assert names(run_dir) == {"final", "merged"}


def test_only_an_export_is_replaced(run_dir: Path, capsys: Any) -> None:
    """--overwrite does not remove a folder that holds no model, nor a file."""
    (run_dir / "photos").mkdir()
    (run_dir / "photos" / "a.jpg").write_text("x")
    assert start(run_dir, "--overwrite", "--output", str(run_dir / "photos")) == ExitCode.CONFLICT
    assert "is no model folder, so it is not replaced" in capsys.readouterr().err
    assert names(run_dir / "photos") == {"a.jpg"}


@pytest.mark.parametrize("name", ["../model", "final"])
def test_inputs_are_not_replaced(run_dir: Path, capsys: Any, name: str) -> None:
    """Neither the base model nor the trained weights can be overwritten: the run would be lost."""
    before = names(run_dir / name)
    (run_dir / "final" / "config.json").write_text("{}")
    code = start(run_dir, "--overwrite", "--output", str(run_dir / name))
    assert code == ExitCode.CONFLICT
    assert "cannot take the place of what it is made from" in capsys.readouterr().err
    assert before <= names(run_dir / name)


def test_no_place_to_write(run_dir: Path, capsys: Any) -> None:
    """An output below a file is one line."""
    (run_dir / "file").write_text("x")
    assert start(run_dir, "--output", str(run_dir / "file/out")) == ExitCode.ENVIRONMENT
    assert capsys.readouterr().err.startswith(f"error: cannot write {run_dir / 'file/out'}: ")


# What must not be written


def test_nothing_was_trained(run_dir: Path, capsys: Any) -> None:
    """Exporting before training says that nothing was trained."""
    assert start(run_dir, trained=run_dir / "none") == ExitCode.CONFLICT
    assert "there are no trained weights at" in capsys.readouterr().err
    assert names(run_dir) == {"final"}


def test_untouched_adapter(run_dir: Path, capsys: Any) -> None:
    """An adapter that changes nothing (B = 0) is refused: it would be the base model under another name."""
    write_adapter(run_dir / "final", run_dir / "../model", scale=0.0)
    assert start(run_dir) == ExitCode.CHECKPOINT
    assert (
        "error: the trained model answers exactly as the base model: the adapter changes nothing"
        in capsys.readouterr().err
    )
    assert names(run_dir) == {"final"}


def test_rounding_that_hides_the_training(run_dir: Path, capsys: Any) -> None:
    """An adapter smaller than the rounding of bf16 is written with a warning that names the way to keep it."""
    write_adapter(run_dir / "final", run_dir / "../model", scale=1e-4)
    assert start(run_dir, dtype="bf16") == 0
    shown = capsys.readouterr().out
    assert (
        "warning: rounding to bf16 changes the logits of a test sentence more than training did"
        in shown
    )
    assert start(run_dir, "--overwrite", dtype="fp32") == 0
    assert "warning" not in capsys.readouterr().out


def test_weights_that_do_not_fit(run_dir: Path, capsys: Any) -> None:
    """Weights beyond the largest number of fp16 are refused, not written as infinities."""
    write_adapter(run_dir / "final", run_dir / "../model", scale=1e6)
    assert start(run_dir, dtype="fp16") == ExitCode.CHECKPOINT
    assert "error: the trained weights do not fit into fp16" in capsys.readouterr().err
    assert names(run_dir) == {"final"}


def test_wrong_merge_is_noticed(run_dir: Path, capsys: Any, monkeypatch: Any) -> None:
    """A merge that gives another model than the one that was trained stops the export."""
    from peft.tuners.lora import Linear

    right = Linear.get_delta_weight
    monkeypatch.setattr(Linear, "get_delta_weight", lambda *args: 1.1 * right(*args))
    assert start(run_dir) == ExitCode.INTERNAL
    assert "error: the merged model differs from the trained one by " in capsys.readouterr().err
    assert names(run_dir) == {"final"}


@pytest.mark.parametrize("value", [1.0, float("nan")])
def test_wrong_weights_are_noticed(run_dir: Path, capsys: Any, monkeypatch: Any, value: float) -> None:  # fmt: skip
    """A written model that differs from the trained one, by one weight or by NaN, is not kept."""
    from transformers import PreTrainedModel

    save = PreTrainedModel.save_pretrained

    def spoiled(model: Any, *args: Any, **options: Any) -> None:
        with torch.no_grad():
            model.model.layers[1].mlp.down_proj.weight[0] += value
        save(model, *args, **options)

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", spoiled)
    assert start(run_dir) == ExitCode.INTERNAL
    assert "error: the written model differs from the merged one by " in capsys.readouterr().err
    assert names(run_dir) == {"final"}


@pytest.mark.parametrize("overwrite", [True, False])
def test_disk_full(run_dir: Path, capsys: Any, monkeypatch: Any, overwrite: bool) -> None:
    """A full disk is one line with what is needed and what is free; an earlier export stays whole."""
    from transformers import PreTrainedModel

    if overwrite:
        assert start(run_dir) == 0
    before = names(run_dir)

    def full(model: Any, folder: str, **options: Any) -> None:
        (Path(folder) / "model.safetensors").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(PreTrainedModel, "save_pretrained", full)
    code = start(run_dir, *(["--overwrite"] if overwrite else []))
    assert code == ExitCode.CHECKPOINT
    errors = capsys.readouterr().err
    assert "error: disk full while writing the merged model: 0.1 MiB needed, " in errors
    assert names(run_dir) == before
    assert not overwrite or logits_in(run_dir / "merged").isfinite().all()


def test_interrupted(run_dir: Path, monkeypatch: Any) -> None:
    """Ctrl-C ends with 130 and leaves nothing behind."""

    def interrupt(*args: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "replace_directory", interrupt)
    assert start(run_dir) == 130
    assert names(run_dir) == {"final"}
