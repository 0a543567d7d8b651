"""Loading, freezing and adapting models; every fault of a folder as one line."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import tiny
from tunec.runtime import models
from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.models.load import DTYPES, stored_dtype
from tunec.runtime.models.variants import load_trained

ALL_LINEAR = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@pytest.fixture
def folder(tmp_path: Path, tiny_model: Path) -> Path:
    """A copy of the tiny model that a test may damage."""
    return shutil.copytree(tiny_model, tmp_path / "model")


def fault(load: Any, *args: Any, **options: Any) -> UserError:
    with pytest.raises(UserError) as caught:
        load(*args, **options)
    assert "\n" not in caught.value.message
    assert "Traceback" not in caught.value.text()
    # `from None`: no library's traceback is printed behind the line.
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
    return caught.value


def load(path: Path, **options: Any) -> Any:
    return models.load_causal_lm(models.Base(path, **options), dtype="fp32")


# Loading


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_dtype(tiny_model: Path, dtype: Any) -> None:
    """All weights come in the number format that was asked for."""
    model = models.load_causal_lm(tiny_model, dtype=dtype)
    assert {parameter.dtype for parameter in model.parameters()} == {DTYPES[dtype]}


def test_tied_weights(tiny_model: Path, tmp_path: Path) -> None:
    """Tied embeddings stay one tensor, and a model without tying has two."""
    tied = load(tiny_model)
    assert tied.lm_head.weight is tied.model.embed_tokens.weight
    untied = load(tiny.make_model(tmp_path / "untied", tied=False))
    assert untied.lm_head.weight is not untied.model.embed_tokens.weight


def test_attention(tiny_model: Path) -> None:
    """The attention that is asked for is used, and the kinds agree."""
    ids = torch.tensor([[5, 6, 7, 8]])
    eager, sdpa = load(tiny_model, attention="eager"), load(tiny_model, attention="sdpa")
    assert eager.config._attn_implementation == "eager"
    assert sdpa.config._attn_implementation == "sdpa"
    torch.testing.assert_close(eager(ids).logits, sdpa(ids).logits, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("what", [models.load_tokenizer, load])
def test_missing_folder(tmp_path: Path, what: Any) -> None:
    """A folder that is not there is said to be not there; no hub is asked for a repository of that name."""
    error = fault(what, tmp_path / "runs" / ".." / "none")
    assert error.message == f"{tmp_path / 'none'}: there is no such model folder"
    assert error.code == ExitCode.ENVIRONMENT


@pytest.mark.parametrize("what", [models.load_tokenizer, load])
def test_file_instead_of_a_folder(tmp_path: Path, what: Any) -> None:
    """A file in the place of the folder is named as what it is."""
    (tmp_path / "model").write_text("x")
    assert fault(what, tmp_path / "model").message == f"{tmp_path / 'model'}: is no folder"


def cut(folder: Path) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1000])


def scramble(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"<html>not found</html>" * 100)


def empty(folder: Path) -> None:
    (folder / "model.safetensors").write_bytes(b"")


def rewrite(folder: Path, change: Any) -> None:
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def lose(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.pop("model.layers.1.mlp.up_proj.weight"))


def shrink(folder: Path) -> None:
    rewrite(folder, lambda tensors: tensors.update({"model.norm.weight": torch.ones(7)}))


def deepen(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "num_hidden_layers": 3}))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (cut, "cannot load the model: a weight file is truncated"),
        (scramble, "cannot load the model: a weight file is damaged (its header is not safetensors)"),
        (empty, "cannot load the model: a weight file is damaged (its header is not safetensors)"),
        (lose, "the weight files lack the tensor `model.layers.1.mlp.up_proj.weight`"),
        (deepen, "the weight files lack 9 tensors of the model, such as `model.layers.2.input_layernorm.weight`"),
        (shrink, "cannot load the model: the weight files have other shapes than config.json says"),
    ],
)  # fmt: skip
def test_damaged_weights(folder: Path, damage: Any, message: str) -> None:
    """Damaged weights are never filled up with random numbers: one line says what is wrong with which folder."""
    damage(folder)
    error = fault(load, folder)
    assert error.message == f"{folder}: {message}"
    assert error.code == ExitCode.ENVIRONMENT


@pytest.mark.parametrize(
    ("damage", "parts"),
    [
        (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
        (lambda folder: (folder / "config.json").unlink(), "config"),
        (lambda folder: (folder / "config.json").write_text("{"), "JSON"),
        (lambda folder: (folder / "config.json").write_text("{}"), "model_type"),
        (lambda folder: (folder / "config.json").write_text('{"model_type": "nonsense"}'), "nonsense"),
    ],
)  # fmt: skip
def test_broken_folder(folder: Path, damage: Any, parts: str) -> None:
    """A folder without weights or with a broken configuration is one line that names the folder and the cause."""
    damage(folder)
    error = fault(load, folder)
    assert error.message.startswith(f"{folder}: cannot load the model: ")
    assert parts in error.message


@pytest.mark.parametrize("content", ["{", "{}", "[]"])
def test_broken_tokenizer(folder: Path, content: str) -> None:
    """A broken tokenizer file is one line."""
    (folder / "tokenizer.json").write_text(content)
    error = fault(models.load_tokenizer, folder)
    assert error.message.startswith(f"{folder}: ")


def test_no_chat_template(folder: Path) -> None:
    """A tokenizer without a chat template cannot be trained on chats, and the way to give one is named."""
    (folder / "chat_template.jinja").unlink()
    error = fault(models.load_tokenizer, folder)
    assert error.message == f"{folder}: the tokenizer has no chat template"
    assert "[template]" in error.help


def test_own_chat_template(folder: Path, tmp_path: Path) -> None:
    """A template of one's own takes the place of the tokenizer's; one that cannot be read is an error."""
    path = tmp_path / "own.jinja"
    path.write_text("own")
    assert models.load_tokenizer(folder, chat_template=path).chat_template == "own"
    path.write_bytes(b"\xff")
    error = fault(models.load_tokenizer, folder, chat_template=path)
    assert error.message == f"{path}: cannot read the chat template: not UTF-8 text"
    path.unlink()
    error = fault(models.load_tokenizer, folder, chat_template=path)
    assert error.message == f"{path}: cannot read the chat template: No such file or directory"


def edit_tokenizer(folder: Path, **changes: Any) -> None:
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


def test_padding_token(folder: Path) -> None:
    """Without a padding token the end-of-sequence token pads; without both there is nothing to pad with."""
    edit_tokenizer(folder, pad_token=None)
    tokenizer = models.load_tokenizer(folder)
    assert tokenizer.pad_token == tokenizer.eos_token == "<|im_end|>"
    edit_tokenizer(folder, eos_token=None)
    error = fault(models.load_tokenizer, folder)
    assert "neither a padding nor an end-of-sequence token" in error.message


@pytest.mark.parametrize("what", [models.load_tokenizer, load])
def test_missing_token_variable(tiny_model: Path, what: Any, monkeypatch: Any) -> None:
    """A secret that is named but not set is told by its name, with the way to set it."""
    monkeypatch.delenv("MY_TOKEN", raising=False)
    error = fault(what, tiny_model, token_env="MY_TOKEN")
    assert (
        error.message
        == "the environment variable `MY_TOKEN`, named by `model.token_env`, is not set"
    )
    assert "export MY_TOKEN=" in error.help


def test_secrets_are_not_shown(tmp_path: Path, monkeypatch: Any) -> None:
    """The value of the token is in no message."""
    monkeypatch.setenv("MY_TOKEN", "hf_secret")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    error = fault(models.load_tokenizer, "no/where", token_env="MY_TOKEN", cache_dir=tmp_path)
    assert error.message.startswith("no/where: cannot load the tokenizer: ")
    assert "hf_secret" not in error.text()


@pytest.mark.parametrize("dtype", ["fp32", "bf16", "fp16"])
def test_stored_dtype(tiny_model: Path, tmp_path: Path, dtype: Any) -> None:
    """The number format of a folder is that of its configuration."""
    models.load_causal_lm(tiny_model, dtype=dtype).save_pretrained(tmp_path / "model")
    assert stored_dtype(models.Base(tmp_path / "model")) == dtype


# What is trained


def test_full(tiny_model: Path) -> None:
    """Full training trains every parameter, those too that were frozen."""
    model = load(tiny_model)
    model.requires_grad_(False)
    assert all(parameter.requires_grad for parameter in models.train_all(model).parameters())


def adapters(model: Any) -> dict[str, Any]:
    return {
        name.removeprefix("base_model.model."): module
        for name, module in model.named_modules()
        if hasattr(module, "lora_A") and module.lora_A
    }


@pytest.mark.parametrize(
    ("targets", "expected"),
    [
        (["q_proj"], ["self_attn.q_proj"]),
        (["v_proj", "down_proj"], ["mlp.down_proj", "self_attn.v_proj"]),
        ("all-linear", ["mlp.down_proj", "mlp.gate_proj", "mlp.up_proj", *(f"self_attn.{n}_proj" for n in "koqv")]),
    ],
)  # fmt: skip
def test_lora_targets(tiny_model: Path, targets: Any, expected: list[str]) -> None:
    """Adapters sit on exactly the named modules of every layer, never on the head unless it is named."""
    model = models.add_lora(load(tiny_model), rank=4, alpha=8, dropout=0.0, targets=targets)
    assert sorted(adapters(model)) == sorted(f"model.layers.{n}.{e}" for n in (0, 1) for e in expected)  # fmt: skip
    trainable = [name for name, p in model.named_parameters() if p.requires_grad]
    assert trainable
    assert all(".lora_A." in name or ".lora_B." in name for name in trainable)


def test_lora_arithmetic(tiny_model: Path) -> None:
    """An adapter adds alpha / rank * B A x, starts at nothing, and has rank (in + out) parameters (Hu et al. 2021)."""
    plain = load(tiny_model)
    ids = torch.tensor([[5, 6, 7]])
    with torch.no_grad():
        before = plain(ids).logits
    model = models.add_lora(plain, rank=4, alpha=6, dropout=0.0, targets=["q_proj"])
    with torch.no_grad():
        assert torch.equal(model(ids).logits, before)
    module = adapters(model)["model.layers.0.self_attn.q_proj"]
    assert module.scaling["default"] == 6 / 4
    down, up = module.lora_A["default"].weight, module.lora_B["default"].weight
    assert (down.shape, up.shape) == ((4, 32), (32, 4))
    assert down.any()
    assert not up.any()
    with torch.no_grad():
        up.normal_()
        x = torch.randn(2, 32)
        expected = x @ module.base_layer.weight.T + 1.5 * x @ down.T @ up.T
        torch.testing.assert_close(module(x), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("targets", [["query"], ["q_proj", "query"], ["proj"]])
def test_lora_target_that_matches_nothing(tiny_model: Path, targets: list[str]) -> None:
    """Each target must name a module: one misspelt name beside good ones is an error, too."""
    error = fault(models.add_lora, load(tiny_model), rank=4, alpha=8, dropout=0.0, targets=targets)
    assert targets[-1] in error.message
    assert error.help == "see `method.targets`"


def step(model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    ids = torch.tensor([[5, 6, 7, 8, 9, 10]])
    model.train()
    loss = model(input_ids=ids, labels=ids, use_cache=False).loss
    loss.backward()
    return loss.detach(), {
        name: p.grad for name, p in model.named_parameters() if p.grad is not None
    }


@pytest.mark.parametrize("method", ["lora", "full"])
def test_gradient_checkpointing(tiny_model: Path, method: str) -> None:
    """Recomputing activations changes neither the loss nor a gradient, and is really switched on."""
    results = []
    for checkpointing in (False, True):
        model = load(tiny_model)
        torch.manual_seed(3)
        if method == "full":
            model = models.train_all(model)
        else:
            model = models.add_lora(model, rank=2, alpha=4, dropout=0.0, targets=ALL_LINEAR)
        if checkpointing:
            models.recompute_activations(model)
        assert model.is_gradient_checkpointing == checkpointing
        results.append(step(model))
    torch.testing.assert_close(results[0], results[1])
    assert len(results[0][1]) == (20 if method == "full" else 2 * 2 * 7)


# What was trained


def test_nothing_was_trained(tiny_model: Path, tmp_path: Path) -> None:
    """Asking for a trained model before training says that, and how to train."""
    error = fault(
        load_trained, tmp_path / "final", base=models.Base(tiny_model), method="lora", dtype="fp32"
    )
    assert error.message == f"there are no trained weights at {tmp_path / 'final'}"
    assert "tunec train" in error.help


def test_adapter_comes_back(tiny_model: Path, tmp_path: Path) -> None:
    """A saved adapter on its base gives the logits it had."""
    model = models.add_lora(load(tiny_model), rank=2, alpha=4, dropout=0.0, targets=["q_proj"])
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    model.save_pretrained(str(tmp_path / "final"))
    again = load_trained(
        tmp_path / "final", base=models.Base(tiny_model), method="lora", dtype="fp32"
    )
    ids = torch.tensor([[5, 6, 7]])
    assert torch.equal(model.eval()(ids).logits, again.eval()(ids).logits)


@pytest.mark.parametrize("damage", ["cut", "config", "missing", "weights"])
def test_damaged_adapter(tiny_model: Path, tmp_path: Path, damage: str) -> None:
    """A damaged adapter is one line that names its folder."""
    model = models.add_lora(load(tiny_model), rank=2, alpha=4, dropout=0.0, targets=["q_proj"])
    final = tmp_path / "final"
    model.save_pretrained(str(final))
    weights, config = final / "adapter_model.safetensors", final / "adapter_config.json"
    if damage == "cut":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "weights":
        save_file({}, weights)
    elif damage == "config":
        config.write_text("{")
    else:
        config.unlink()
    error = fault(load_trained, final, base=models.Base(tiny_model), method="lora", dtype="fp32")
    assert error.message.startswith(f"{final}: ")
    assert error.code == ExitCode.CHECKPOINT
