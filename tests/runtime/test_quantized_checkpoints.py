"""Checkpoints that are quantized already: recognised, counted, trained beside, merged into."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file

import inprocess
import tiny
from tunec.compiler.pipeline import analyse, plan_of
from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models import quantization
from tunec.runtime.models.variants import load_trained

IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])
SPEC = '[model]\npath = "{name}"\n[method]\ntype = "lora"\nrank = 4\n[training]\nsteps = 2\nlearning_rate = 1e-1\n'


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


def write_fp8(source: Path, folder: Path) -> None:
    """Write the layers of the blocks in 8-bit floating point, with a scale for each, as DeepSeek publishes them."""
    shutil.copytree(source, folder)
    tensors = load_file(source / "model.safetensors")
    for name in [name for name in tensors if "_proj" in name]:
        scale = tensors[name].abs().max() / 448
        tensors[name] = (tensors[name] / scale).to(torch.float8_e4m3fn)
        tensors[name.replace(".weight", ".weight_scale_inv")] = scale.reshape(1, 1)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    fp8 = {"quant_method": "fp8", "activation_scheme": "dynamic", "weight_block_size": [128, 128]}
    tiny.change_config(folder, quantization_config=fp8)


def config_of(name: str) -> Any:
    if name == "torchao-int8":
        from torchao.quantization import Int8WeightOnlyConfig

        return transformers.TorchAoConfig(Int8WeightOnlyConfig())
    if name == "int8":
        return transformers.BitsAndBytesConfig(load_in_8bit=True)
    return transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=name == "double"
    )


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with quantized checkpoints and data."""
    workspace: Path = tmp_path_factory.mktemp("checkpoints")
    tiny.write_chats(workspace / "data" / "chat.jsonl", 24)
    for name in ("nf4", "double", "int8", "torchao-int8"):
        shutil.copytree(tiny_model, workspace / name)
        (workspace / name / "model.safetensors").unlink()
        transformers.AutoModelForCausalLM.from_pretrained(
            str(tiny_model), dtype=torch.float32, quantization_config=config_of(name)
        ).save_pretrained(str(workspace / name))
    write_fp8(tiny_model, workspace / "fp8")
    return workspace


@pytest.mark.parametrize("name", ["nf4", "double", "int8", "torchao-int8", "fp8"])
def test_train(room: Path, name: str) -> None:
    """An adapter trains beside them, is counted before, comes back from disk, and merges into what it learned beside."""
    run_dir = inprocess.compiled(room, SPEC.format(name=name), f"run-{name}")
    inprocess.prepare(run_dir)
    model = inprocess.train(run_dir).model
    expected = logits(model)
    plan = plan_of(analyse(room / f"run-{name}.toml", {}))
    assert plan.parameters is not None
    counted = quantization.num_parameters(model)
    assert (plan.parameters.trainable, plan.parameters.total) == counted
    base = models.Base(room / name)
    start = logits(models.load_causal_lm(base, dtype="fp32"))
    assert float((start - expected).abs().max()) > 1e-2
    again = load_trained(run_dir / "final", base=base, method="lora", dtype="fp32")
    assert torch.equal(logits(again), expected)
    plain = again
    if name != "fp8":
        assert quantization.is_quantized(again)
        plain = load_trained(
            run_dir / "final", base=base, method="lora", dtype="fp32", dequantized=True
        )
        atol = 1e-2 if name == "int8" else 1e-5
        torch.testing.assert_close(logits(plain), expected, rtol=0, atol=atol)
    learned = logits(plain)
    torch.testing.assert_close(logits(plain.merge_and_unload()), learned, rtol=0, atol=1e-5)


def test_fp8_is_widened(room: Path) -> None:
    """Weights in fp8 become the plain numbers they stand for."""
    stored = load_file(room / "fp8" / "model.safetensors")
    model = models.load_causal_lm(room / "fp8", dtype="fp32")
    assert not quantization.is_quantized(model)
    name = "model.layers.0.self_attn.q_proj.weight"
    wide = stored[name].float() * stored[f"{name}_scale_inv"]
    torch.testing.assert_close(model.get_parameter(name).data, wide)


def test_gptq_is_counted(tmp_path: Path, tiny_model: Path) -> None:
    """Eight weights of 4 bits stand in a number of a GPTQ file, one below the other."""
    plain = tmp_path / "plain.toml"
    shutil.copytree(tiny_model, tmp_path / "model")
    tiny.write_chats(tmp_path / "data" / "chat.jsonl", 24)
    shutil.copytree(tiny_model, tmp_path / "packed")
    tensors = load_file(tiny_model / "model.safetensors")
    for name in [name for name in tensors if "_proj" in name]:
        (rows, columns), place = tensors.pop(name).shape, name.removesuffix(".weight")
        tensors[f"{place}.qweight"] = torch.zeros(columns // 8, rows, dtype=torch.int32)
        tensors[f"{place}.scales"] = torch.zeros(1, rows)
    save_file(tensors, tmp_path / "packed" / "model.safetensors", metadata={"format": "pt"})
    gptq = {"quant_method": "gptq", "bits": 4, "group_size": 128}
    tiny.change_config(tmp_path / "packed", quantization_config=gptq)
    tiny.write_spec(plain, '[method]\ntype = "lora"\nrank = 4\n')
    tiny.write_spec(tmp_path / "spec.toml", SPEC.format(name="packed"))
    expected = plan_of(analyse(plain, {})).parameters
    assert plan_of(analyse(tmp_path / "spec.toml", {})).parameters == expected


def test_unknown_weights_are_not_merged(tiny_model: Path) -> None:
    """An adapter beside weights that cannot be turned into plain ones is not exported."""
    model = models.load_causal_lm(tiny_model, dtype="fp32")
    with pytest.raises(
        UserError, match="cannot be merged into weights that are quantized this way"
    ):
        quantization.dequantize(model)


@pytest.mark.parametrize("method", ["full", "freeze"])
def test_weights_stay_frozen(room: Path, method: str) -> None:
    """Quantized weights cannot be trained themselves."""
    text = f'[model]\npath = "nf4"\n[method]\ntype = "{method}"\n'
    spec = tiny.write_spec(room / f"{method}.toml", text)
    assert "Q601" in [finding.code for finding in analyse(spec, {}).diagnostics]
    assert json.loads((room / "nf4" / "config.json").read_text())["quantization_config"]
