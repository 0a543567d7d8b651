"""Import: whatever the source, a whole folder that transformers loads, or nothing."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch

import tiny
from tunec.runtime import models
from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.models import importer
from tunec.runtime.models.importer import fetch
from tunec.runtime.storage import verify_directory

IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])


def logits(path: Path, **options: Any) -> torch.Tensor:
    model = models.load_causal_lm(models.Base(path, **options), dtype="fp32").eval()
    with torch.no_grad():
        result: torch.Tensor = model(input_ids=IDS).logits
    return result


def fault(*args: Any, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        fetch(*args, **options)
    assert "\n" not in caught.value.message
    return caught.value


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def gguf_file(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> Path:
    """The tiny model as a GGUF file, written as llama.cpp does: rotary halves interleaved."""
    return write_gguf(tiny_model, tmp_path_factory.mktemp("gguf") / "tiny.F32.gguf")


def write_gguf(folder: Path, path: Path, *, quantized: bool = False) -> Path:
    import gguf

    kind = gguf.GGMLQuantizationType.Q8_0 if quantized else gguf.GGMLQuantizationType.F32

    model = models.load_causal_lm(folder, dtype="fp32")
    tokenizer = json.loads((folder / "tokenizer.json").read_text())["model"]
    config = model.config
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("tiny")
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(config.vocab_size)
    words = sorted(tokenizer["vocab"], key=tokenizer["vocab"].__getitem__)
    writer.add_tokenizer_model("gpt2")
    writer.add_token_list(words)
    writer.add_token_types([3 if word.startswith("<|") else 1 for word in words])
    writer.add_token_merges([" ".join(pair) for pair in tokenizer["merges"]])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_chat_template(tiny.TEMPLATE)
    heads = {"attn_q": config.num_attention_heads, "attn_k": config.num_key_value_heads}
    table = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, value in model.state_dict().items():
        if name != "lm_head.weight":
            target = table.get_name(name, try_suffixes=(".weight",))
            tensor = value.numpy()
            part = target.split(".")[-2]
            if part in heads:
                shape = (heads[part], 2, tensor.shape[0] // heads[part] // 2, tensor.shape[1])
                tensor = tensor.reshape(shape).swapaxes(1, 2).reshape(tensor.shape)
            chosen = kind if tensor.ndim == 2 else gguf.GGMLQuantizationType.F32
            data = gguf.quants.quantize(numpy.ascontiguousarray(tensor), chosen)
            writer.add_tensor(target, data, raw_dtype=chosen)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


# GGUF


def test_gguf(tiny_model: Path, gguf_file: Path, tmp_path: Path, capsys: Any) -> None:
    """A GGUF file becomes a folder with the model it was made from: weights, tokenizer, template, end of a turn."""
    target = tmp_path / "models" / "tiny"
    fetch(gguf_file, target)
    torch.testing.assert_close(logits(target), logits(tiny_model), rtol=1e-5, atol=1e-6)
    ours, theirs = models.load_tokenizer(target), models.load_tokenizer(tiny_model)
    text = "<|im_start|>user\nhéllo 世界 🙂<|im_end|>"
    assert ours(text)["input_ids"] == theirs(text)["input_ids"]
    assert ours.chat_template == tiny.TEMPLATE
    assert (ours.eos_token, ours.pad_token) == ("<|im_end|>", "<|endoftext|>")
    generation = json.loads((target / "generation_config.json").read_text())
    assert generation["eos_token_id"] == 2
    config = json.loads((target / "config.json").read_text())
    assert "quantization_config" not in config
    assert config["dtype"] == "float32"
    assert f"wrote {target} (" in capsys.readouterr().out
    verify_directory(target, deep=True)
    assert names(tmp_path / "models") == {"tiny"}


def test_quantized_gguf(tiny_model: Path, tmp_path: Path) -> None:
    """Quantized weights are taken exactly as transformers reads them, and lie near those they were made from."""
    from transformers import AutoModelForCausalLM

    source = write_gguf(tiny_model, tmp_path / "tiny.Q8_0.gguf", quantized=True)
    fetch(source, tmp_path / "out")
    read = AutoModelForCausalLM.from_pretrained(
        str(tmp_path), gguf_file=source.name, dtype=torch.float32
    )
    with torch.no_grad():
        expected = read.eval()(input_ids=IDS).logits
    assert torch.equal(logits(tmp_path / "out"), expected)
    difference = (expected - logits(tiny_model)).abs().max()
    assert 0 < float(difference) < 0.02


def test_gguf_dtype_and_upper_case(gguf_file: Path, tmp_path: Path) -> None:
    """The weights come in the number format that was asked for; `.GGUF` is GGUF, too."""
    source = tmp_path / "TINY.GGUF"
    source.symlink_to(gguf_file)
    fetch(source, tmp_path / "out", dtype="bf16")
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["dtype"] == "bfloat16"


def test_missing_gguf(tmp_path: Path) -> None:
    """A file that is not there is one line, and no folder appears."""
    error = fault(tmp_path / "none.gguf", tmp_path / "out")
    assert error.message == f"{tmp_path / 'none.gguf'}: no such file"
    assert names(tmp_path) == set()


@pytest.mark.parametrize("content", ["", "GGUF", "<html>not found</html>", None])
def test_broken_gguf(gguf_file: Path, tmp_path: Path, content: str | None) -> None:
    """A file that is no GGUF, or one whose download broke off, is one line, and no folder appears."""
    source = tmp_path / "broken.gguf"
    if content is None:
        source.write_bytes(gguf_file.read_bytes()[:-5000])
    else:
        source.write_text(content)
    error = fault(source, tmp_path / "out")
    assert error.message.startswith(f"{source}: not a readable GGUF model: ")
    assert error.code == ExitCode.ENVIRONMENT
    assert names(tmp_path) == {"broken.gguf"}


def test_gguf_package_is_missing(gguf_file: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Without the package that reads GGUF the user is told what to install."""
    from transformers import AutoTokenizer

    def missing(*args: Any, **options: Any) -> None:
        raise ImportError("Please install torch and gguf>=0.10.0 to load a GGUF checkpoint.\nMore.")

    monkeypatch.setattr(AutoTokenizer, "from_pretrained", missing)
    error = fault(gguf_file, tmp_path / "out")
    assert error.message == (
        "reading GGUF needs a package: Please install torch and gguf>=0.10.0 to load a GGUF checkpoint."
    )
    assert error.help == "pip install 'tunec[gguf]'"
    assert names(tmp_path) == set()


# Folders


def test_folder(tiny_model: Path, tmp_path: Path) -> None:
    """A folder becomes an equal folder: same logits, same tokens, same template."""
    fetch(tiny_model, tmp_path / "copy")
    assert torch.equal(logits(tmp_path / "copy"), logits(tiny_model))
    ours, theirs = models.load_tokenizer(tmp_path / "copy"), models.load_tokenizer(tiny_model)
    assert ours.get_vocab() == theirs.get_vocab()
    assert ours.chat_template == theirs.chat_template
    assert ours.special_tokens_map == theirs.special_tokens_map


def test_broken_folder(tmp_path: Path) -> None:
    """A source that cannot be read leaves nothing behind."""
    (tmp_path / "model").mkdir()
    fault(tmp_path / "model", tmp_path / "out" / "deep")
    assert names(tmp_path) <= {"model", "out"}
    assert not (tmp_path / "out" / "deep").exists()


@pytest.mark.parametrize("kind", ["folder", "file"])
def test_target_exists(tiny_model: Path, tmp_path: Path, kind: str) -> None:
    """Something that is there already is refused at once and left as it is."""
    target = tmp_path / "out"
    target.mkdir() if kind == "folder" else target.write_text("mine")
    error = fault(tiny_model, target)
    assert (error.message, error.code) == (f"{target} exists already", ExitCode.CONFLICT)
    assert target.is_dir() or target.read_text() == "mine"


# Interruptions


def test_interrupted(tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """Ctrl-C while the weights are written leaves nothing behind."""

    def interrupt(model: Any, tokenizer: Any, folder: Path) -> None:
        (folder / "model.safetensors").write_bytes(b"half")
        raise KeyboardInterrupt

    monkeypatch.setattr(importer, "_save", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fetch(tiny_model, tmp_path / "out")
    assert names(tmp_path) == set()


def test_disk_full(tiny_model: Path, tmp_path: Path, monkeypatch: Any) -> None:
    """A full disk is one line with what is free, and nothing stays behind."""

    def full(model: Any, tokenizer: Any, folder: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(importer, "_save", full)
    error = fault(tiny_model, tmp_path / "out")
    assert error.message.startswith("disk full while writing the model: ")
    assert names(tmp_path) == set()


def test_as_a_program(tiny_model: Path, tmp_path: Path, capsys: Any) -> None:
    """As a program, fetching again ends with the code of the error and two lines: what is wrong, what helps."""
    importer.fetch_program(tiny_model, target=tmp_path / "out")
    capsys.readouterr()
    with pytest.raises(SystemExit) as caught:
        importer.fetch_program(tiny_model, target=tmp_path / "out")
    assert caught.value.code == ExitCode.CONFLICT
    assert capsys.readouterr().err == (
        f"error: {tmp_path / 'out'} exists already\n  help: remove it, or name another folder\n"
    )


@pytest.mark.parametrize("where", ["file/out", "/proc/none/out"])
def test_no_place_to_write(tiny_model: Path, tmp_path: Path, where: str) -> None:
    """A place where no folder can be made is one line."""
    (tmp_path / "file").write_text("x")
    error = fault(tiny_model, tmp_path / where)
    assert error.message.startswith(f"cannot write {tmp_path / where}: ")
    assert error.code == ExitCode.ENVIRONMENT
