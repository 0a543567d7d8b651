"""Quantized bases: adapters train beside them, come back from disk as they were, and merge into what they learned beside."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import peft
import pytest
import torch
import transformers
from quantizations import QUANTIZATIONS
from safetensors.torch import load_file

import inprocess
import runs
import tiny
from tunec.compiler.pipeline import analyse, plan_of
from tunec.compiler.rules.quantized_size import bytes_of
from tunec.runtime import models
from tunec.runtime.models import quantization
from tunec.runtime.models.variants import load_trained

LORA = '[method]\ntype = "lora"\nrank = 4\n'
RUN = """
[data]
shuffle = false
[training]
steps = 3
learning_rate = 1e-2
schedule = "constant"
max_grad_norm = 1000.0
seed = 3
[batch]
global_size = 4
micro_size = 4
"""
SHARDED = """
[batch]
global_size = 4
micro_size = 2
[launch]
processes = 2
[deepspeed]
zero_stage = 3
"""
KINDS: dict[str, Any] = {
    "nf4": models.BitsAndBytes(bits=4, format="nf4", double=True, dtype="fp32"),
    "fp4": models.BitsAndBytes(bits=4, format="fp4", dtype="fp32"),
    "int8": models.BitsAndBytes(bits=8, dtype="fp32"),
    "torchao-int8": models.TorchAo(bits=8, dtype="fp32"),
    "torchao-int4": models.TorchAo(bits=4, group_size=32, dtype="fp32"),
    "quanto-int8": models.Quanto(bits=8, dtype="fp32"),
    "hqq-4": models.Hqq(bits=4, group_size=32, dtype="fp32"),
    "hqq-2": models.Hqq(bits=2, group_size=32, dtype="fp32"),
}
IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])

NF4 = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635,
    -0.18477343022823334, -0.09105003625154495, 0.0, 0.07958029955625534, 0.16093020141124725,
    0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941,
    0.7229568362236023, 1.0,
]  # fmt: skip
"""Appendix E of arXiv:2305.14314."""


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model and data for many runs."""
    return inprocess.make_room(tmp_path_factory.mktemp("quantization"), tiny_model)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


def load(folder: Path, kind: Any) -> Any:
    return models.load_causal_lm(models.Base(folder, quantization=kind), dtype="fp32")


def query(model: Any) -> Any:
    return model.model.layers[0].self_attn.q_proj


def dense(module: Any) -> torch.Tensor:
    weight_of = quantization.dense_weight_of(module)
    assert weight_of is not None
    return weight_of()


def test_kinds_cover_the_list() -> None:
    """Each quantization that is listed for specs is tested here."""
    assert KINDS.keys() == QUANTIZATIONS.keys()


@pytest.mark.parametrize("name", KINDS)
def test_run(room: Path, name: str) -> None:
    """A run counts the weights it has, comes back from disk as it was, and merges into plain weights."""
    run_dir = inprocess.compiled(room, LORA + QUANTIZATIONS[name] + RUN, name)
    inprocess.prepare(run_dir)
    model = inprocess.train(run_dir).model
    expected = logits(model)
    plan = plan_of(analyse(room / f"{name}.toml", {}))
    assert plan.parameters is not None
    counted = quantization.num_parameters(model)
    assert (plan.parameters.trainable, plan.parameters.total) == counted

    base = models.Base(room / "model", quantization=KINDS[name])
    assert float((logits(load(room / "model", KINDS[name])) - expected).abs().max()) > 1e-3
    again = load_trained(run_dir / "final", base=base, method="lora", dtype="fp32")
    assert torch.equal(logits(again), expected)
    plain = load_trained(
        run_dir / "final", base=base, method="lora", dtype="fp32", dequantized=True
    )
    # Products of 8-bit weights by bitsandbytes are taken of rounded inputs; all others compute with plain ones.
    arithmetic = 1e-2 if name == "int8" else 1e-5
    learned = logits(plain)
    torch.testing.assert_close(learned, expected, rtol=0, atol=arithmetic)
    torch.testing.assert_close(logits(plain.merge_and_unload()), learned, rtol=0, atol=1e-5)


@pytest.mark.parametrize("name", KINDS)
def test_resume(room: Path, name: str) -> None:
    """A run that stops in the middle goes on to the same bits, from a checkpoint without the frozen weights."""
    text = LORA + QUANTIZATIONS[name] + RUN.replace("steps = 3", "steps = 4")
    whole, torn = (inprocess.compiled(room, text, f"{name}-{what}") for what in ("whole", "torn"))
    for run_dir in (whole, torn):
        inprocess.prepare(run_dir)
    inprocess.train(whole)
    assert inprocess.train(torn, stop_after=2).stopped
    (state,) = (torn / "checkpoints").glob("step-2/global_step2/*model_states.pt")
    saved = torch.load(state, weights_only=False)["module"]
    assert any("lora_A" in key for key in saved)
    assert not any("base_layer" in key for key in saved)
    inprocess.train(torn, resume=True)
    found, expected = (load_file(d / "final" / "adapter_model.safetensors") for d in (torn, whole))
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], expected[key]) for key in expected)


def test_by_hand(room: Path) -> None:
    """A QLoRA run ends where transformers, bitsandbytes and PEFT end without tunec."""
    run_dir = inprocess.compiled(room, LORA + QUANTIZATIONS["nf4"] + RUN, "by-hand")
    inprocess.prepare(run_dir)
    trainer = inprocess.train(run_dir)
    transformers.set_seed(3)
    config = transformers.BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_use_double_quant=True
    )
    base = transformers.AutoModelForCausalLM.from_pretrained(
        str(room / "model"), dtype=torch.float32, quantization_config=config
    )
    lora = peft.LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=8, target_modules="all-linear", lora_dropout=0.0
    )
    model = peft.get_peft_model(base, lora).train()
    chosen = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(chosen, lr=1e-2, weight_decay=0.0)
    for (batch,) in trainer.get_train_dataloader():
        wanted = {name: batch[name] for name in ("input_ids", "attention_mask", "labels")}
        model(**wanted, use_cache=False).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    found = {n: p for n, p in trainer.model.named_parameters() if p.requires_grad}
    expected = {n: p for n, p in model.named_parameters() if p.requires_grad}
    torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


ADAPTERS = {
    "dora": '[method]\ntype = "lora"\nrank = 4\ndora = true\n',
    "oft": '[method]\ntype = "oft"\n',
    "adalora": '[method]\ntype = "adalora"\n',
    "vera": '[method]\ntype = "vera"\n',
    "miss": '[method]\ntype = "miss"\nrank = 8\nvariant = "bat"\n',
    "shira": '[method]\ntype = "shira"\nrank = 2\n',
    "hra": '[method]\ntype = "hra"\nrank = 4\n',
    "prompt": '[method]\ntype = "prompt"\n',
}


@pytest.mark.parametrize("name", ["nf4", "int8", "hqq-4"])
@pytest.mark.parametrize("method", ADAPTERS)
def test_methods(room: Path, method: str, name: str) -> None:
    """Other adapters live beside quantized weights as well, or are refused."""
    text = ADAPTERS[method] + QUANTIZATIONS[name] + RUN
    # HRA would take the whole numbers of int8 for the weights, without a word.
    if method == "hra" or (method, name) in (("adalora", "hqq-4"), ("shira", "hqq-4")):
        spec = tiny.write_spec(room / "refused.toml", text)
        assert "Q611" in [finding.code for finding in analyse(spec, {}).diagnostics]
        return
    run_dir = inprocess.compiled(room, text, f"{method}-{name}")
    inprocess.prepare(run_dir)
    expected = logits(inprocess.train(run_dir).model)
    base = models.Base(room / "model", quantization=KINDS[name])
    kind: Any = text.split('"')[1]
    again = load_trained(run_dir / "final", base=base, method=kind, dtype="fp32")
    torch.testing.assert_close(logits(again), expected, rtol=0, atol=1e-6)
    plain = load_trained(run_dir / "final", base=base, method=kind, dtype="fp32", dequantized=True)
    learned = logits(plain)
    torch.testing.assert_close(learned, expected, rtol=0, atol=1e-2 if name == "int8" else 1e-5)
    if method != "prompt":
        torch.testing.assert_close(logits(plain.merge_and_unload()), learned, rtol=0, atol=1e-5)


def test_nf4_codes(tiny_model: Path) -> None:
    """nf4 weights are the nearest of 16 numbers, times the largest of their 64 neighbours."""
    kind = models.BitsAndBytes(bits=4, format="nf4", double=False, dtype="fp32")
    blocks = query(models.load_causal_lm(tiny_model, dtype="fp32")).weight.reshape(-1, 64)
    scales = blocks.abs().amax(dim=1, keepdim=True)
    codes = torch.tensor(NF4)
    nearest = ((blocks / scales)[..., None] - codes).abs().argmin(dim=-1)
    found = dense(query(load(tiny_model, kind))).reshape(-1, 64)
    torch.testing.assert_close(found, codes[nearest] * scales)


def test_int8_codes(tiny_model: Path) -> None:
    """8-bit weights are whole numbers up to 127, times the largest of their row, which bitsandbytes rounds to fp16."""
    weight = query(models.load_causal_lm(tiny_model, dtype="fp32")).weight
    scales = weight.abs().amax(dim=1, keepdim=True) / 127
    found = dense(query(load(tiny_model, KINDS["int8"])))
    torch.testing.assert_close(found / scales, (found / scales).round(), rtol=0, atol=0.1)
    assert float(((found - weight) / scales).detach().abs().max()) <= 0.6


@pytest.mark.parametrize(
    ("name", "bits"), [("torchao-int4", 4), ("hqq-4", 4), ("hqq-2", 2), ("torchao-int8", 8)]
)
def test_bits(tiny_model: Path, name: str, bits: int) -> None:
    """A group of weights has no more values than its bits can tell apart."""
    weight = dense(query(load(tiny_model, KINDS[name])))
    groups = weight.reshape(-1, 32)
    assert max(len(group.unique()) for group in groups) <= 2**bits
    original = query(models.load_causal_lm(tiny_model, dtype="fp32")).weight
    spread = groups.amax(dim=1) - groups.amin(dim=1)
    error = (groups - original.reshape(-1, 32)).abs().amax(dim=1)
    assert bool((error <= spread / (2**bits - 1)).all())


def test_head_and_embeddings_stay(tiny_model: Path) -> None:
    """Only the layers of the blocks are quantized."""
    for kind in KINDS.values():
        model, plain = load(tiny_model, kind), models.load_causal_lm(tiny_model, dtype="fp32")
        for found, expected in (
            (model.get_input_embeddings(), plain.get_input_embeddings()),
            (model.get_output_embeddings(), plain.get_output_embeddings()),
        ):
            assert torch.equal(found.weight, expected.weight)


@pytest.mark.parametrize("name", ["nf4", "fp4"])
def test_evaluation_leaves_weights(tiny_model: Path, name: str) -> None:
    """Evaluating in bf16, for which some processors have instructions, does not touch the weights."""
    kind = models.BitsAndBytes(bits=4, format=KINDS[name].format, double=True, dtype="bf16")
    model = load(tiny_model, kind)
    before = copy.deepcopy(dense(query(model)))
    logits(model)
    assert torch.equal(dense(query(model)), before)


@pytest.mark.parametrize("name", KINDS)
def test_bytes(room: Path, tiny_model: Path, name: str) -> None:
    """The plan knows what the quantized layers weigh."""
    model = load(tiny_model, KINDS[name])
    layers = [m for m in model.modules() if quantization.dense_weight_of(m) is not None]
    tiny.write_spec(room / "bytes.toml", QUANTIZATIONS[name])
    analysis = analyse(room / "bytes.toml", {})
    assert analysis.spec is not None
    expected = bytes_of(analysis.spec, analysis.facts, 4)
    assert expected == pytest.approx(sum(map(measured, layers)), rel=0.03)


def measured(layer: Any) -> int:
    """Return the bytes of all tensors that a quantized layer refers to."""
    seen: dict[int, int] = {}

    def visit(value: Any, depth: int = 0) -> None:
        if isinstance(value, torch.Tensor) and not hasattr(value, "__tensor_flatten__"):
            seen[value.untyped_storage().data_ptr()] = value.untyped_storage().nbytes()
        if hasattr(value, "__tensor_flatten__"):
            for part in value.__tensor_flatten__()[0]:
                visit(getattr(value, part), depth + 1)
        inner = (
            value.values() if isinstance(value, dict) else getattr(value, "__dict__", {}).values()
        )
        for each in inner if depth < 4 else ():
            if isinstance(each, torch.Tensor | dict) or type(each).__name__ == "QuantState":
                visit(each, depth + 1)

    for name in ("weight", "W_q", "meta"):
        visit(getattr(layer, name, None))
    return sum(seen.values())


@pytest.mark.parametrize("bits", [2, 4])
def test_quanto_in_few_bits(room: Path, bits: Any, monkeypatch: Any) -> None:
    """Weights of quanto that are packed need no compiler on a CPU."""
    monkeypatch.setattr("optimum.quanto.library.extensions.cpp.ext", None)
    name = f"quanto-int{bits}"
    text = f'[quantization]\ntype = "quanto"\nbits = {bits}\n'
    run_dir = inprocess.compiled(room, LORA + text + RUN, name)
    inprocess.prepare(run_dir)
    expected = logits(inprocess.train(run_dir).model)
    kind = models.Quanto(bits=bits, dtype="fp32")
    base = models.Base(room / "model", quantization=kind)
    final: Any = {"trained": run_dir / "final", "method": "lora", "dtype": "fp32", "base": base}
    assert torch.equal(logits(load_trained(**final)), expected)
    merged = load_trained(dequantized=True, **final).merge_and_unload()
    torch.testing.assert_close(logits(merged), expected, rtol=0, atol=1e-5)
    layer = query(load(room / "model", kind))
    plain = query(models.load_causal_lm(room / "model", dtype="fp32")).weight.detach()
    error = float((dense(layer) - plain).abs().max() / plain.abs().max())
    assert error < {4: 0.15, 2: 0.7}[bits]


def test_merged_into_what_was_trained_beside(room: Path) -> None:
    """In the original weights the adapter gives another model: it learned beside the errors of the quantized ones."""
    run_dir = inprocess.compiled(room, LORA + QUANTIZATIONS["nf4"] + RUN, "merged-where")
    inprocess.prepare(run_dir)
    expected = logits(inprocess.train(run_dir).model)
    final: Any = {"trained": run_dir / "final", "method": "lora", "dtype": "fp32"}
    base = models.Base(room / "model", quantization=KINDS["nf4"])
    quantized = load_trained(base=base, dequantized=True, **final).merge_and_unload()
    original = load_trained(base=models.Base(room / "model"), **final).merge_and_unload()
    error = float((logits(quantized) - expected).abs().max())
    other = float((logits(original) - expected).abs().max())
    print(f"MEASURED {error:.1e} {other:.1e} of {float(expected.abs().max()):.2f}")
    assert error < 1e-5 < 1e-2 < other


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize(
    "kind",
    [
        models.BitsAndBytes(bits=4, format="nf4", double=True, dtype="bf16"),
        models.BitsAndBytes(bits=8, dtype="bf16"),
        models.Hqq(bits=4, group_size=32, dtype="bf16"),
        models.Quanto(bits=8, dtype="bf16"),
        models.TorchAo(bits=8, dtype="bf16"),
        models.Eetq(dtype="bf16"),
    ],
    ids=lambda kind: type(kind).__name__,
)
def test_on_a_gpu(tiny_model: Path, kind: Any) -> None:
    """Adapters beside quantized weights get gradients on a GPU."""
    model = load(tiny_model, kind).to("cuda")
    model = models.add_lora(model, rank=4, alpha=8.0, dropout=0.0, targets="all-linear").to("cuda")
    ids = IDS.to("cuda")
    model(input_ids=ids, labels=ids, use_cache=False).loss.backward()
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    assert trained
    assert all(parameter.grad is not None for parameter in trained)


@pytest.mark.heavy
def test_launched(workspace: Path) -> None:
    """4-bit weights are sharded over two processes, nothing is said but by tunec, and the export tells what it merged."""
    run_dir = runs.compile_spec(workspace, LORA + QUANTIZATIONS["nf4"] + SHARDED)
    done = runs.launch(run_dir)
    assert done.returncode == 0, done.stdout + done.stderr
    # The first run of an environment says that it builds an extension.
    told = [line for line in done.stderr.splitlines() if not line.startswith("building ")]
    assert told == []
    exported = runs.tunec("export", str(workspace / "spec.toml"))
    assert exported.returncode == 0, exported.stdout + exported.stderr
    assert (
        "merged into the quantized weights it was trained on, as plain weights in fp32"
        in exported.stdout
    )
    merged = models.load_causal_lm(run_dir / "merged", dtype="fp32")
    assert not quantization.is_quantized(merged)
    base = models.Base(workspace / "model", quantization=KINDS["nf4"])
    trained = load_trained(run_dir / "final", base=base, method="lora", dtype="fp32")
    torch.testing.assert_close(logits(merged), logits(trained), rtol=0, atol=1e-5)
    answer = runs.tunec("chat", str(workspace / "spec.toml"), "--prompt", "Who?")
    assert answer.returncode == 0, answer.stderr
    assert answer.stderr == ""
