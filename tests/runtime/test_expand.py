"""Block expansion: the identity at step 0, and training of the new blocks alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import inprocess
import tiny
from tunec.compiler import SpecError, compile_spec, from_toml
from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models.structure.expand import expand, expand_blocks

IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])


def logits(folder: Path, dtype: Any = "fp32") -> torch.Tensor:
    model = models.load_causal_lm(folder, dtype=dtype).eval()
    found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.fixture
def four(tmp_path: Path) -> Path:
    """A tiny model of four blocks."""
    return tiny.make_model(tmp_path / "model", layers=4)


@pytest.mark.parametrize(("added", "new"), [(2, [2, 5]), (4, [1, 3, 5, 7]), (1, [4])])
def test_identity_at_the_start(four: Path, tmp_path: Path, added: int, new: list[int]) -> None:
    """The written model has more blocks in the right places, and the very same logits."""
    expand(four, tmp_path / "new", num_blocks=added)
    assert torch.equal(logits(tmp_path / "new"), logits(four))
    config = json.loads((tmp_path / "new" / "config.json").read_text())
    assert config["num_hidden_layers"] == 4 + added
    assert config["tunec_expanded_blocks"] == new
    before = load_file(four / "model.safetensors")
    after = load_file(tmp_path / "new" / "model.safetensors")
    old = [number for number in range(4 + added) if number not in new]
    for name, tensor in after.items():
        if not name.startswith("model.layers."):
            assert torch.equal(tensor, before[name])
            continue
        number, _, rest = name.removeprefix("model.layers.").partition(".")
        is_new = int(number) in new
        origin = old.index(int(number) - 1 if is_new else int(number))
        if is_new and ("o_proj" in rest or "down_proj" in rest):
            assert not tensor.any()
        else:
            assert torch.equal(tensor, before[f"model.layers.{origin}.{rest}"])


def test_cache_of_keys_and_values(four: Path) -> None:
    """Blocks have numbers of their own in the cache: generation equals that of the model before."""
    model = models.load_causal_lm(four, dtype="fp32").eval()
    before = model.generate(IDS, max_new_tokens=8, do_sample=False)
    expand_blocks(model, 2)
    assert torch.equal(model.generate(IDS, max_new_tokens=8, do_sample=False), before)


def test_entries_for_each_block(tmp_path: Path) -> None:
    """Families that list a kind of each block keep the list as long as the blocks."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=4,
        num_attention_heads=4, num_key_value_heads=2, use_sliding_window=True,
        max_window_layers=2, sliding_window=4,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    kinds = list(config.layer_types)
    expand_blocks(model, 2)
    assert model.config.layer_types == [kinds[n] for n in (0, 1, 1, 2, 3, 3)]


def test_a_block_that_is_no_identity(tmp_path: Path) -> None:
    """A family whose blocks end otherwise is refused, and nothing is written."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    config = Qwen2Config(
        vocab_size=64, hidden_size=32, intermediate_size=32, num_hidden_layers=2,
        num_attention_heads=4, num_key_value_heads=2,
    )  # fmt: skip
    model = Qwen2ForCausalLM(config).eval()
    for layer in model.model.layers:
        layer.register_forward_hook(lambda _module, _inputs, output: output + 1)
    with pytest.raises(UserError, match="would change what the model computes"):
        expand_blocks(model, 1)


def test_numbers_that_do_not_divide(four: Path, tmp_path: Path) -> None:
    """Three new blocks for four old ones are refused, and nothing is left behind."""
    with pytest.raises(UserError, match="4 blocks do not divide into 3 groups"):
        expand(four, tmp_path / "new", num_blocks=3)
    assert {path.name for path in tmp_path.iterdir()} == {"model"}


METHODS = {
    "freeze": '[method]\ntype = "freeze"\nexpanded = true\nblocks = 2\n',
    "lora": '[method]\ntype = "lora"\nrank = 2\nexpanded_blocks = 2\n',
}


@pytest.fixture
def expanded(four: Path, tmp_path: Path) -> Path:
    """A workspace whose `model` has four old and two new blocks."""
    expand(four, tmp_path / "new", num_blocks=2)
    four.rename(tmp_path / "old")
    (tmp_path / "new").rename(tmp_path / "model")
    tiny.write_chats(tmp_path / "data" / "chat.jsonl", 24)
    return tmp_path


@pytest.mark.heavy
@pytest.mark.parametrize("method", METHODS)
def test_only_the_new_blocks_are_trained(expanded: Path, method: str) -> None:
    """After training, the old weights are as they were, and the new blocks are not."""
    run_dir = inprocess.compiled(expanded, METHODS[method])
    inprocess.prepare(run_dir)
    model = inprocess.train(run_dir).model
    trained = {
        int(name.partition("layers.")[2].partition(".")[0])
        for name, parameter in model.named_parameters()
        if parameter.requires_grad
    }
    assert trained == {2, 5}
    if method == "freeze":
        before = load_file(expanded / "model" / "model.safetensors")
        after = load_file(run_dir / "final" / "model.safetensors")
        changed = {name for name in before if not torch.equal(before[name], after[name])}
        assert changed
        assert all(name.startswith(("model.layers.2.", "model.layers.5.")) for name in changed)


@pytest.mark.parametrize(
    ("count", "message"),
    [(3, "2 blocks were added to this model, not 3"), (4, "6 blocks do not divide into 4 groups")],
)
def test_another_number_than_was_added(expanded: Path, count: int, message: str) -> None:
    """The number of new blocks is checked against the model's own record, and must divide."""
    text = f'[method]\ntype = "lora"\nrank = 2\nexpanded_blocks = {count}\n'
    spec = tiny.write_spec(expanded / "spec.toml", text)
    with pytest.raises(SpecError, match=message):
        compile_spec(from_toml(spec), base_dir=expanded)


@pytest.mark.heavy
def test_the_command(
    four: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`tunec expand` writes the folder, its tokenizer, and the program that made it."""
    from tunec.compiler.cli import main

    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as end:
        main(["expand", "./model", "new", "--blocks", "2"])
    assert end.value.code == 0
    program = (tmp_path / "new" / "expand.py").read_text()
    assert "num_blocks=2," in program
    assert models.load_tokenizer(tmp_path / "new").chat_template
    assert torch.equal(logits(tmp_path / "new"), logits(four))
