"""Tokens added to a vocabulary: rows in the model, the same tokens in the data, and a result that reloads."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

import runs
import tiny
from tunec.runtime import data, models
from tunec.runtime.data.light import check_same
from tunec.runtime.errors import UserError
from tunec.runtime.models.saved import changed
from tunec.runtime.models.variants import load_trained

DESCRIPTION = "the lamp in the tower"


@pytest.fixture(scope="module", params=[True, False], ids=["tied", "untied"])
def folder(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Path:
    """A tiny model, with one matrix for embeddings and output head or with two."""
    return tiny.make_model(tmp_path_factory.mktemp("model") / "model", tied=request.param)


def grown(folder: Path, **rows: Any) -> tuple[Any, Any, Any]:
    """Return a model as it was and as it is with `<a>` and `<b>`, and the tokenizer."""
    tokenizer = models.load_tokenizer(folder, add_tokens=["<a>"], add_special_tokens=["<b>"])
    settings = {"tokens": ["<a>", "<b>"], "resize": True, "seed": 5, **rows}
    base = models.Base(folder, new_rows=models.NewRows(**settings))
    before = models.load_causal_lm(base, dtype="fp32")
    return before, models.load_causal_lm(base, dtype="fp32", tokenizer=tokenizer), tokenizer


def matrices(model: Any) -> list[torch.Tensor]:
    pair = (model.get_input_embeddings().weight, model.get_output_embeddings().weight)
    return [weight.detach() for weight in pair]


# Tokens


def test_added_tokens_are_cut_whole(tiny_model: Path) -> None:
    """Each becomes one token behind the old ones; special ones are not shown to a reader."""
    plain = models.load_tokenizer(tiny_model)
    tokenizer = models.load_tokenizer(tiny_model, add_tokens=["<a>"], add_special_tokens=["<b>"])
    size = len(plain)
    ids = tokenizer.encode("lamp<a><b>lamp", add_special_tokens=False)
    lamp = plain.encode("lamp", add_special_tokens=False)
    assert ids == [*lamp, size, size + 1, *lamp]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "lamp<a>lamp"


def test_a_token_that_is_there_is_not_added(tiny_model: Path) -> None:
    """Its row means something already: it must not start anew."""
    with pytest.raises(UserError, match=r"has the token '<\|im_end\|>' already"):
        models.load_tokenizer(tiny_model, add_special_tokens=["<|im_end|>"])


def test_an_added_token_can_end_answers(tiny_model: Path) -> None:
    """A base model without the marks of a template gets them, and answers end with them."""
    tokenizer = models.load_tokenizer(tiny_model, add_special_tokens=["<end>"], eos_token="<end>")
    assert tokenizer.eos_token_id == len(tokenizer) - 1


def test_saved_with_its_tokens(tiny_model: Path, tmp_path: Path) -> None:
    """The written tokenizer, loaded as anyone would, has the added tokens and is the one of the training."""
    tokenizer = models.load_tokenizer(tiny_model, add_tokens=["<a>"], add_special_tokens=["<b>"])
    tokenizer.save_pretrained(str(tmp_path / "saved"))
    assert changed(tmp_path / "saved", tokenizer) == []
    again = models.load_tokenizer(tmp_path / "saved")
    ids = again.encode("x<a><b>", add_special_tokens=False)
    assert ids == tokenizer.encode("x<a><b>", add_special_tokens=False)
    assert again.decode(ids, skip_special_tokens=True) == "x<a>"


def test_prepared_data_know_their_tokens(tiny_model: Path, tmp_path: Path) -> None:
    """Data are prepared with the added tokens; without them they are other data, and training on them is refused."""
    row = [{"role": "user", "content": "<a>?"}, {"role": "assistant", "content": "<a><b>."}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"messages": row}) + "\n")
    made = {}
    for name, added in {"with": {"add_tokens": ["<a>"], "add_special_tokens": ["<b>"]}, "without": {}}.items():  # fmt: skip
        (tmp_path / name).mkdir()
        made[name] = data.prepare(
            [data.Messages(path=tmp_path / "rows.jsonl", name="rows")],
            tokenizer=data.Tokenizer(path=tiny_model, **added),
            options=data.Options(loss_on="assistant", max_length=64, too_long="truncate"),
            seed=0, output=tmp_path / name, workers=1, cache_dir=tmp_path / "cache",
        )  # fmt: skip
    assert made["with"] != made["without"]
    tokenizer = models.load_tokenizer(tiny_model, add_tokens=["<a>"], add_special_tokens=["<b>"])
    train, _ = data.load(tmp_path / "with", tokenizer)
    ids = train[0].input_ids
    new = [len(tokenizer) - 2, len(tokenizer) - 1]
    assert [number for number in ids if number >= new[0]] == [new[0], *new]
    with pytest.raises(UserError, match="prepared with another tokenizer"):
        data.load(tmp_path / "without", tokenizer)
    check_same("", tokenizer)


# Rows


def test_old_rows_stay_and_the_rest_is_padded(folder: Path) -> None:
    """The vocabulary grows to a multiple, configuration and head with it; logits of old tokens are as before."""
    before, after, tokenizer = grown(folder, pad_to_multiple=50)
    size = before.config.vocab_size
    wanted = math.ceil((size + 2) / 50) * 50
    assert after.config.vocab_size == wanted > len(tokenizer)
    assert [tuple(matrix.shape) for matrix in matrices(after)] == [(wanted, 32)] * 2
    assert (
        after.lm_head.weight is after.model.embed_tokens.weight
    ) == after.config.tie_word_embeddings
    for old, new in zip(matrices(before), matrices(after), strict=True):
        assert torch.equal(new[:size], old)
    ids = torch.tensor([[5, 6, 7]])
    logits = [model(ids).logits[..., :size] for model in (before, after)]
    torch.testing.assert_close(logits[0], logits[1])


def test_noise_around_the_mean(folder: Path) -> None:
    """New rows are the mean of the old ones and noise of deviation one over the root of the width, from the seed."""
    before, after, _ = grown(folder, pad_to_multiple=4096)
    size = before.config.vocab_size
    for old, new in zip(matrices(before), matrices(after), strict=True):
        noise = new[size:] - old.mean(0)
        assert float(noise.std()) == pytest.approx(1 / math.sqrt(32), rel=0.02)
        assert float(noise.mean().abs()) < 0.005
    state = torch.get_rng_state()
    again = grown(folder, pad_to_multiple=4096)[1]
    assert torch.equal(torch.get_rng_state(), state)
    assert all(map(torch.equal, matrices(after), matrices(again)))
    other = grown(folder, pad_to_multiple=4096, seed=6)[1]
    assert not torch.equal(matrices(after)[0][size:], matrices(other)[0][size:])


@pytest.mark.parametrize("start", ["noise", "description", "description-noise"])
def test_rows_from_descriptions(folder: Path, start: Any) -> None:
    """A described token starts as the mean of its description's tokens, the other as before."""
    before, after, tokenizer = grown(folder, start=start, descriptions={"<b>": DESCRIPTION})
    plain = grown(folder)[1]
    words = models.load_tokenizer(folder).encode(DESCRIPTION, add_special_tokens=False)
    a, b = len(tokenizer) - 2, len(tokenizer) - 1
    for old, new, noisy in zip(matrices(before), matrices(after), matrices(plain), strict=True):
        torch.testing.assert_close(new[a], noisy[a])
        noise = noisy[b] - old.mean(0)
        wanted = {
            "noise": noisy[b],
            "description": old[words].mean(0),
            "description-noise": old[words].mean(0) + noise,
        }
        torch.testing.assert_close(new[b], wanted[start])


def test_a_description_of_nothing(folder: Path) -> None:
    """A description that only names new tokens gives no row."""
    with pytest.raises(UserError, match="description of '<b>' says nothing"):
        grown(folder, start="description", descriptions={"<b>": "<a>"})


def test_rows_that_are_there_are_used(tmp_path: Path) -> None:
    """In a padded vocabulary new tokens take the rows behind the old ones, and nothing grows."""
    folder = tiny.make_model(tmp_path / "model")
    model = models.load_causal_lm(folder, dtype="fp32")
    size = model.config.vocab_size
    model.resize_token_embeddings(size + 10, mean_resizing=False)
    model.save_pretrained(str(folder))
    before, after, _ = grown(folder, resize=False)
    old, new = matrices(before)[0], matrices(after)[0]
    assert old.shape == new.shape
    assert torch.equal(new[size + 2 :], old[size + 2 :])
    noise = new[size : size + 2] - old[:size].mean(0)
    assert 0.05 < float(noise.std()) < 0.4


def test_no_room(tiny_model: Path) -> None:
    """Without rows for its tokens a model would end at their first use; it is said before."""
    with pytest.raises(
        UserError, match=r"the embeddings have 3\d\d rows, the tokenizer has 3\d\d tokens"
    ):
        grown(tiny_model, resize=False)


def test_a_head_with_a_bias(tmp_path: Path) -> None:
    """The bias of a new token is the mean of the old ones."""
    from transformers import PhiConfig, PhiForCausalLM

    tokenizer = tiny.make_tokenizer(tmp_path / "model")
    config = PhiConfig(
        vocab_size=len(tokenizer), hidden_size=32, intermediate_size=64, num_hidden_layers=1,
        num_attention_heads=4,
    )  # fmt: skip
    model = PhiForCausalLM(config)
    torch.nn.init.normal_(model.lm_head.bias)
    model.save_pretrained(str(tmp_path / "model"))
    before, after, _ = grown(tmp_path / "model", pad_to_multiple=1)
    old, new = before.lm_head.bias.detach(), after.lm_head.bias.detach()
    assert torch.equal(new[:-2], old)
    torch.testing.assert_close(new[-2:], old.mean().expand(2))


def test_training_the_new_rows_alone(folder: Path, tmp_path: Path) -> None:
    """Adapters that train added tokens move their rows and no other, and come back on a base that grew alike."""
    _, model, tokenizer = grown(folder)
    size = model.config.vocab_size
    new = tokenizer.convert_tokens_to_ids(["<a>", "<b>"])
    start = matrices(model)[0].clone()
    adapted = models.add_lora(
        model, rank=2, alpha=4, dropout=0.0, targets=["q_proj"], trainable_tokens=new
    )
    ids = torch.tensor([[5, *new, 6]])
    trained = [p for p in adapted.parameters() if p.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1.0)
    adapted(input_ids=ids, labels=ids).loss.backward()
    optimizer.step()
    adapted.save_pretrained(str(tmp_path / "adapter"))
    tokenizer.save_pretrained(str(tmp_path / "adapter"))
    rows = models.NewRows(tokens=["<a>", "<b>"], resize=True, seed=5)
    again = load_trained(
        tmp_path / "adapter",
        base=models.Base(folder, new_rows=rows),
        method="lora",
        dtype="fp32",
    )
    with torch.no_grad():
        torch.testing.assert_close(again(ids).logits, adapted(ids).logits)
    merged = matrices(again.merge_and_unload())[0]
    moved = [number for number in range(size) if not torch.equal(merged[number], start[number])]
    assert moved == new


# Runs

RUN = """
[run]
output_dir = "runs/{name}"
[tokenizer]
add_tokens = ["<a>"]
described_tokens = {{ "<b>" = "the lamp in the tower" }}
new_rows = "description-noise"
resize = true
pad_to_multiple = 32
[method]
type = "{method}"
{more}
[batch]
global_size = 4
micro_size = 2
[deepspeed]
zero_stage = {stage}
[launch]
processes = {processes}
device = "cpu"
"""


def trained(
    workspace: Path, name: str, method: str, stage: int, processes: int, more: str = ""
) -> Path:
    text = RUN.format(name=name, method=method, stage=stage, processes=processes, more=more)
    run_dir = runs.compile_spec(workspace, text, f"{name}.toml")
    done = runs.launch(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    return run_dir


def with_new_tokens(workspace: Path) -> None:
    path = workspace / "data" / "chat.jsonl"
    text = path.read_text()
    path.write_text(text.replace("Thimble", "<a> Thimble").replace("violet", "violet<b>"))


@pytest.mark.heavy
def test_full_training_with_new_tokens(workspace: Path) -> None:
    """One process and two with sharded parameters learn the same, and the result loads as any model does."""
    with_new_tokens(workspace)
    runs_ = [trained(workspace, "one", "full", 0, 1), trained(workspace, "two", "full", 3, 2)]
    assert runs.losses(runs_[0]) == pytest.approx(runs.losses(runs_[1]), rel=2e-5)
    weights = [load_file(run / "final" / "model.safetensors") for run in runs_]
    assert weights[0].keys() == weights[1].keys()
    for name, tensor in weights[0].items():
        torch.testing.assert_close(tensor, weights[1][name], rtol=1e-3, atol=2e-4)
    tokenizer = models.load_tokenizer(runs_[1] / "final")
    model = models.load_causal_lm(runs_[1] / "final", dtype="fp32")
    assert model.config.vocab_size % 32 == 0
    assert model.config.vocab_size >= len(tokenizer)
    assert tokenizer.convert_tokens_to_ids(["<a>", "<b>"]) == [
        len(tokenizer) - 2,
        len(tokenizer) - 1,
    ]


@pytest.mark.heavy
def test_an_adapter_on_a_grown_base(workspace: Path) -> None:
    """Trained embeddings come with the adapter; talking to it and merging it grow the base alike."""
    with_new_tokens(workspace)
    more = 'rank = 4\nfull_modules = ["embed_tokens"]'
    run_dir = trained(workspace, "lora", "lora", 0, 1, more)
    adapter = load_file(run_dir / "final" / "adapter_model.safetensors")
    assert any("embed_tokens" in name for name in adapter)
    asked = runs.tunec("chat", str(workspace / "lora.toml"), "--prompt", "What is <a>?")
    assert asked.returncode == 0, asked.stdout + asked.stderr
    done = runs.tunec("export", str(workspace / "lora.toml"))
    assert done.returncode == 0, done.stdout + done.stderr
    merged = models.load_causal_lm(run_dir / "merged", dtype="fp32")
    assert merged.config.vocab_size % 32 == 0
    learned = next(tensor for name, tensor in adapter.items() if "embed_tokens" in name)
    torch.testing.assert_close(merged.model.embed_tokens.weight.detach(), learned.float())
    shutil.rmtree(run_dir / "final")
    base = runs.tunec("chat", str(workspace / "lora.toml"), "--prompt", "What is <a>?")
    assert base.returncode == 0, base.stdout + base.stderr


# Special tokens in texts

TEXT = "a lamp<|im_end|> in the tower"


def test_special_tokens_in_texts_are_split(tiny_model: Path, tmp_path: Path) -> None:
    """What a text says is no mark: it is cut like words; the end of the text still is one token."""
    rows = [{"text": TEXT}] * 80
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    found = {}
    for split in (False, True):
        source = data.Tokenizer(path=tiny_model, split_special_tokens=split)
        out = tmp_path / str(split)
        out.mkdir()
        data.prepare(
            [data.Text(path=tmp_path / "texts.jsonl", name="texts")],
            tokenizer=source,
            options=data.Options(kind="texts", max_length=128, too_long="truncate"),
            seed=0, output=out, workers=2, batch_rows=40, cache_dir=tmp_path / "cache",
        )  # fmt: skip
        tokenizer = source.load()
        train, _ = data.load(out, tokenizer)
        assert [train[0].input_ids, train[79].input_ids] == [train[0].input_ids] * 2
        found[split] = train[0].input_ids
    end = tokenizer.eos_token_id
    assert found[False].count(end) == 2
    assert found[True].count(end) == 1
    assert found[True][-1] == end
    assert tokenizer.decode(found[True][:-1]) == TEXT


def test_splitting_is_not_saved(tiny_model: Path, tmp_path: Path) -> None:
    """Whoever talks to the model later needs its marks."""
    tokenizer = models.load_tokenizer(tiny_model, split_special_tokens=True)
    tokenizer.save_pretrained(str(tmp_path / "saved"))
    assert "split_special_tokens" not in (tmp_path / "saved" / "tokenizer_config.json").read_text()
    again = models.load_tokenizer(tmp_path / "saved")
    assert again.encode("<|im_end|>", add_special_tokens=False) == [again.eos_token_id]
