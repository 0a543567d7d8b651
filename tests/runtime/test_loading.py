"""Where weights come from: drawn at random, pickles, shards; and the loss for the routers of mixtures of experts."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import torch
from safetensors.torch import load_file

import runs
import tiny
from tunec.runtime import models, objectives
from tunec.runtime.errors import ExitCode, UserError
from tunec.runtime.models.variants import whole
from web import Reply, Web, serving


def load(path: Path, **options: Any) -> Any:
    return models.load_causal_lm(models.Base(path, **options), dtype="fp32")


def state(model: Any) -> dict[str, torch.Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(
        torch.equal(left[name], right[name]) for name in left
    )


# Random weights


def test_random_weights_follow_from_the_seed(tiny_model: Path) -> None:
    """A seed gives the same weights however many numbers were drawn before, and draws none of the run's own."""
    first = state(load(tiny_model, init="random", seed=3))
    torch.manual_seed(1)
    before = torch.get_rng_state()
    assert same(first, state(load(tiny_model, init="random", seed=3)))
    assert torch.equal(before, torch.get_rng_state())
    assert not same(first, state(load(tiny_model, init="random", seed=4)))
    assert not same(first, state(load(tiny_model)))


def test_random_weights_are_drawn_as_the_family_draws_them(tmp_path: Path) -> None:
    """Matrices have the configured deviation, norms are one; tied embeddings are one tensor."""
    model = load(tiny.make_model(tmp_path / "model"), init="random", seed=0)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    assert torch.equal(model.model.norm.weight, torch.ones(32))
    spread = float(model.model.embed_tokens.weight.detach().std())
    assert spread == pytest.approx(model.config.initializer_range, rel=0.05)


def test_random_weights_need_no_files(tmp_path: Path, tiny_model: Path) -> None:
    """A configuration is enough; the number format is the wanted one."""
    folder = shutil.copytree(tiny_model, tmp_path / "model")
    (folder / "model.safetensors").unlink()
    model = models.load_causal_lm(models.Base(folder, init="random"), dtype="bf16")
    assert {parameter.dtype for parameter in model.parameters()} == {torch.bfloat16}


@pytest.mark.heavy
def test_random_weights_are_the_same_everywhere(workspace: Path) -> None:
    """One process and two with sharded parameters train from the same weights; no weight file is there."""
    (workspace / "model" / "model.safetensors").unlink()
    text = """
[run]
output_dir = "runs/{name}"
[model]
path = "model"
init = "random"
[method]
type = "full"
[batch]
global_size = 4
micro_size = 2
[deepspeed]
zero_stage = {stage}
[launch]
processes = {processes}
device = "cpu"
"""
    losses = []
    for processes, stage in ((1, 0), (2, 3)):
        name = f"{processes}-{stage}"
        spec = text.format(name=name, stage=stage, processes=processes)
        run_dir = runs.compile_spec(workspace, spec, f"{name}.toml")
        done = runs.launch(run_dir)
        assert done.returncode == 0, done.stdout + done.stderr
        losses.append(runs.losses(run_dir))
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
    # From scratch: every token is about equally likely.
    rows = json.loads((workspace / "model" / "config.json").read_text())["vocab_size"]
    assert losses[0][0] == pytest.approx(float(torch.tensor(rows).log()), rel=0.02)


# Pickles and shards


@pytest.fixture
def pickled(tmp_path: Path, tiny_model: Path) -> Path:
    """The tiny model with its weights in a pickle only."""
    folder = shutil.copytree(tiny_model, tmp_path / "pickled")
    torch.save(load_file(folder / "model.safetensors"), folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return folder


def test_pickles_are_read_where_that_is_allowed(pickled: Path, tiny_model: Path) -> None:
    """The weights are those of the safetensors; unasked, nothing is read."""
    with pytest.raises(UserError, match="cannot load the model"):
        load(pickled)
    assert same(state(load(pickled, allow_pickle=True)), state(load(tiny_model)))


def test_safetensors_come_first(pickled: Path, tiny_model: Path) -> None:
    """Where both are there, the pickle is not opened."""
    (pickled / "pytorch_model.bin").write_bytes(b"no pickle")
    shutil.copy(tiny_model / "model.safetensors", pickled)
    assert same(state(load(pickled, allow_pickle=True)), state(load(tiny_model)))


class Bomb:
    """Runs code when it is unpickled the ordinary way."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return Path.touch, (self.mark,)


@pytest.mark.parametrize(
    "write", [torch.save, lambda value, path: path.write_bytes(pickle.dumps(value))]
)
def test_code_in_pickles_never_runs(pickled: Path, tmp_path: Path, write: Any) -> None:
    """A pickle with code in it is one line, and the code was not run."""
    write({"model.norm.weight": Bomb(tmp_path / "ran")}, pickled / "pytorch_model.bin")
    with pytest.raises(UserError) as caught:
        load(pickled, allow_pickle=True)
    assert caught.value.code == ExitCode.ENVIRONMENT
    assert "\n" not in caught.value.message
    assert "holds more than tensors" in caught.value.message
    assert not (tmp_path / "ran").exists()


def test_shards(tmp_path: Path, tiny_model: Path) -> None:
    """Weights in several files are the same weights; a shard that is missing is said."""
    folder = shutil.copytree(tiny_model, tmp_path / "sharded")
    (folder / "model.safetensors").unlink()
    load(tiny_model).save_pretrained(str(folder), max_shard_size="40KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 2
    assert same(state(load(folder)), state(load(tiny_model)))
    shards[1].unlink()
    with pytest.raises(UserError, match=shards[1].name):
        load(folder)


def test_what_was_made_from_the_base_is_a_model_like_any_other(tiny_model: Path) -> None:
    """Weights that were trained from scratch are read, and never drawn again."""
    base = models.Base("org/name", init="random", allow_pickle=True, revision="main")
    assert whole(base, tiny_model) == models.Base(tiny_model)


# The loss for the routers


def experts(kind: str) -> Any:
    """Return a random model with four experts, two of which work on a token."""
    from transformers import AutoConfig, AutoModelForCausalLM

    sizes: dict[str, Any] = {
        "vocab_size": 64, "hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2,
        "num_attention_heads": 4, "num_key_value_heads": 2, "num_experts_per_tok": 2,
    }  # fmt: skip
    sizes |= {"num_local_experts": 4} if kind == "mixtral" else {"num_experts": 4}
    if kind != "mixtral":
        sizes |= {"moe_intermediate_size": 24, "shared_expert_intermediate_size": 24}
    config = AutoConfig.for_model(kind, **sizes, router_aux_loss_coef=0.7)
    torch.manual_seed(0)
    # Far from balance, so that the loss is well above its least.
    config.initializer_range = 0.5
    return AutoModelForCausalLM.from_config(config, dtype=torch.float32).train()


def batches(lengths: tuple[int, ...]) -> dict[str, torch.Tensor]:
    """Return padded rows of these lengths; the first three tokens of each carry no loss."""
    generator = torch.Generator().manual_seed(1)
    shape = (len(lengths), max(lengths))
    ids = torch.randint(0, 64, shape, generator=generator)
    mask = torch.arange(shape[1])[None] < torch.tensor(lengths)[:, None]
    labels = ids.masked_fill(~mask, -100)
    labels[:, :3] = -100
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": labels}


@pytest.mark.parametrize("kind", ["mixtral", "qwen2_moe", "qwen3_moe"])
def test_loss_with_routers_is_that_of_transformers(kind: str) -> None:
    """Loss and gradients of a batch are what transformers gives for it, and the part of the routers is told."""
    model, batch = experts(kind), batches((12, 9))
    wanted = model(**batch, output_router_logits=True)
    wanted.loss.backward()
    gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
    assert float(wanted.aux_loss.detach()) > 1.05 * model.num_experts_per_tok
    model.zero_grad()
    objective = objectives.Sft(router_loss=0.7)
    objective.attach(model)
    items = objective.num_items(batch)
    loss = objective.loss_sum(model, batch) / items
    loss.backward()
    torch.testing.assert_close(loss, wanted.loss, rtol=1e-5, atol=1e-6)
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(parameter.grad, gradients[name], rtol=1e-4, atol=5e-6)
    told = objective.router.take()
    assert float(told[0] / told[1]) == pytest.approx(float(wanted.aux_loss.detach()), rel=1e-5)
    assert objective.router.take() is None


def test_router_loss_of_several_micro_batches_counts_by_their_items() -> None:
    """However a step is cut, the loss for the routers weighs as one loss, and not once for each micro batch."""
    model = experts("mixtral")
    objective = objectives.Sft(router_loss=0.7)
    objective.attach(model)
    parts = [batches((12, 9)), batches((5,))]
    items = [int(objective.num_items(part)) for part in parts]
    total = sum(objective.loss_sum(model, part) for part in parts) / sum(items)
    found = [model(**part, output_router_logits=True) for part in parts]
    wanted = sum(n * output.loss for n, output in zip(items, found, strict=True)) / sum(items)
    torch.testing.assert_close(total, wanted, rtol=1e-5, atol=1e-6)


def test_router_loss_where_nothing_is_asked_for() -> None:
    """A model whose configuration switches it on has it with its own weight, others have none; evaluations never."""
    model, batch = experts("mixtral"), batches((12, 9))
    plain = model(**batch).loss

    def found(weight: float | None) -> torch.Tensor:
        objective = objectives.Sft(router_loss=weight)
        objective.attach(model)
        return objective.loss_sum(model, batch) / objective.num_items(batch)

    torch.testing.assert_close(found(None), plain, rtol=1e-5, atol=1e-6)
    model.config.output_router_logits = True
    torch.testing.assert_close(found(None), model(**batch).loss, rtol=1e-5, atol=1e-6)
    assert bool(found(None) > plain + 0.1)
    torch.testing.assert_close(found(0.0), plain, rtol=1e-5, atol=1e-6)
    with torch.no_grad():
        torch.testing.assert_close(found(0.7), plain, rtol=1e-5, atol=1e-6)


def test_router_loss_of_a_dense_model(tiny_model: Path) -> None:
    """A model that computes none is an error, and no loss of nothing."""
    with pytest.raises(UserError, match="`llama` computes no loss for its router"):
        objectives.Sft(router_loss=0.1).attach(load(tiny_model))


def test_gradient_checkpointing_keeps_the_router_loss() -> None:
    """Gradients reach the routers through recomputed blocks; where they cannot, it is said."""
    batch = batches((12, 9))
    gates = []
    for checkpointing in (False, True):
        model = experts("mixtral")
        if checkpointing:
            model.gradient_checkpointing_enable({"use_reentrant": False})
        objective = objectives.Sft(router_loss=0.7)
        objective.attach(model)
        objective.loss_sum(model, batch).backward()
        gates.append(
            [p.grad.clone() for name, p in model.named_parameters() if "gate.weight" in name]
        )
    assert len(gates[0]) == 2
    for left, right in zip(*gates, strict=True):
        torch.testing.assert_close(left, right, rtol=1e-4, atol=1e-6)
    model = experts("mixtral")
    model.enable_input_require_grads()
    model.gradient_checkpointing_enable({"use_reentrant": True})
    objective = objectives.Sft(router_loss=0.7)
    objective.attach(model)
    with pytest.raises(UserError, match="no gradient reaches the routers"):
        objective.loss_sum(model, batch)


# Other hubs


class ModelScope(Web):
    """The part of ModelScope's API that fetching a model asks for."""

    def reply(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Reply:
        parts = urlsplit(path)
        name = parse_qs(parts.query).get("FilePath", [""])[0]
        if parts.path == "/api/v1/models/owner/tiny/repo/files":
            listed = [
                {
                    "Path": each, "Name": each, "Type": "blob", "Size": len(content),
                    "Sha256": hashlib.sha256(content).hexdigest(), "Revision": "a" * 40,
                }
                for each, content in self.files.items()
            ]  # fmt: skip
            found = {"Code": 200, "Success": True, "Data": {"Files": listed}}
            return Reply(200, json.dumps(found).encode(), {"Content-Type": "application/json"})
        if parts.path == "/api/v1/models/owner/tiny/repo" and name in self.files:
            return self.file(self.files[name], headers)
        return Reply(404, b'{"Code": 404, "Message": "record not found", "Success": false}')


@pytest.fixture
def modelscope(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Web]:
    """A server with the tiny model, and ModelScope's client where it is installed."""
    pytest.importorskip("modelscope", reason="an optional client, which nothing else needs")
    files = {path.name: path.read_bytes() for path in tiny_model.iterdir()}
    with serving(ModelScope(files=files)) as web:
        monkeypatch.setenv("MODELSCOPE_ENDPOINT", web.url)
        monkeypatch.setenv("MODELSCOPE_CACHE", str(tmp_path / "cache"))
        yield web


def test_a_model_of_modelscope(modelscope: Web, tiny_model: Path) -> None:
    """Weights and tokenizer are those of the folder; what was fetched is not fetched again."""
    base = models.Base("owner/tiny", hub_name="modelscope")
    assert same(state(models.load_causal_lm(base, dtype="fp32")), state(load(tiny_model)))
    modelscope.asked.clear()
    tokenizer = models.load_tokenizer("owner/tiny", hub_name="modelscope")
    assert tokenizer.get_vocab() == models.load_tokenizer(tiny_model).get_vocab()
    assert not any("FilePath" in line for line in modelscope.asked)


def test_a_model_that_modelscope_has_not(modelscope: Web) -> None:
    """One line says what is missing, and where to look."""
    with pytest.raises(UserError) as caught:
        models.load_tokenizer("owner/none", hub_name="modelscope")
    assert caught.value.message.startswith("owner/none: modelscope does not give the model: ")
    assert "\n" not in caught.value.message
    assert caught.value.code == ExitCode.ENVIRONMENT


CLIENTS = [("modelscope", "modelscope.hub.snapshot_download"), ("modelers", "openmind_hub")]


@pytest.mark.parametrize(("hub", "module"), CLIENTS)
def test_clients_of_other_hubs_are_asked(
    hub: Any, module: str, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client is told id, revision, cache and token, and the folder it names is the model."""
    asked: list[Any] = []

    def snapshot_download(id: str, **options: Any) -> str:
        asked.append((id, options))
        return str(tiny_model)

    client = ModuleType(module)
    client.snapshot_download = snapshot_download  # type: ignore[attr-defined]
    parts = module.split(".")
    for end in range(1, len(parts)):
        monkeypatch.setitem(sys.modules, ".".join(parts[:end]), ModuleType("package"))
    monkeypatch.setitem(sys.modules, module, client)
    monkeypatch.setenv("SOME_TOKEN", "secret")
    base = models.Base(
        "owner/tiny", hub_name=hub, revision="v1", cache_dir=tmp_path, token_env="SOME_TOKEN"
    )
    assert same(state(models.load_causal_lm(base, dtype="fp32")), state(load(tiny_model)))
    [(id, options)] = asked
    del options["ignore_patterns"]
    assert id == "owner/tiny"
    assert options == {"revision": "v1", "cache_dir": str(tmp_path), "token": "secret"}


@pytest.mark.parametrize(("hub", "module"), CLIENTS)
def test_a_client_that_is_not_there(hub: Any, module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is named, and how it comes."""
    for name in (module.split(".")[0], module):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(UserError) as caught:
        models.load_tokenizer("owner/tiny", hub_name=hub)
    assert caught.value.help == "pip install 'tunec[hubs]'"
    assert caught.value.code == ExitCode.ENVIRONMENT


def test_a_folder_is_never_fetched(tiny_model: Path) -> None:
    """A hub is asked for ids only."""
    assert models.load_tokenizer(tiny_model, hub_name="modelscope").eos_token == "<|im_end|>"


@pytest.mark.heavy
def test_a_run_with_routers(workspace: Path) -> None:
    """The loss holds the part of the routers, which is also told alone; the evaluation is without it."""
    model = experts("mixtral")
    rows = json.loads((workspace / "model" / "config.json").read_text())["vocab_size"]
    model.resize_token_embeddings(rows, mean_resizing=False)
    model.save_pretrained(str(workspace / "model"))
    found = {}
    for weight in (0.0, 0.5):
        text = f"""
[run]
output_dir = "runs/{weight}"
[model]
path = "model"
moe_aux_loss = {weight}
[method]
type = "full"
[data]
eval_rows = 4
[training]
steps = 1
[deepspeed]
zero_stage = 2
[launch]
processes = 2
device = "cpu"
[batch]
global_size = 4
micro_size = 1
"""
        run_dir = runs.compile_spec(workspace, text, f"{weight}.toml")
        done = runs.launch(run_dir)
        assert done.returncode == 0, done.stdout + done.stderr
        found[weight] = runs.metrics(run_dir)[0]
    assert "router_loss" not in found[0.0]
    told = found[0.5]["router_loss"]
    assert told >= 2
    assert found[0.5]["loss"] - found[0.0]["loss"] == pytest.approx(0.5 * told, rel=1e-4)
