"""Adapters of an earlier training: continued, merged or combined, the same in every program of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from transformers.integrations.deepspeed import unset_hf_deepspeed_config

import inprocess
import tiny
from tunec.runtime import models
from tunec.runtime.errors import UserError
from tunec.runtime.models.adapters import continue_adapter, merge_earlier
from tunec.runtime.models.variants import load_trained

METHOD = """
[method]
type = "lora"
rank = 4
targets = ["q_proj", "v_proj"]
[training]
steps = 2
learning_rate = 1e-2
"""
IDS = torch.tensor([[5, 60, 7, 200, 9, 10]])


@pytest.fixture(scope="module")
def room(tmp_path_factory: Any, tiny_model: Path) -> Path:
    """A folder with a model, data, and two adapters with random numbers."""
    folder: Path = tmp_path_factory.mktemp("earlier")
    (folder / "model").symlink_to(tiny_model)
    tiny.write_chats(folder / "data" / "chat.jsonl", 24)
    for number in (1, 2):
        torch.manual_seed(number)
        model = models.add_lora(
            load(folder), rank=4, alpha=8.0, dropout=0.0, targets=["q_proj", "v_proj"]
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if "lora_B" in name:
                    parameter.normal_().mul_(0.1)
        model.save_pretrained(str(folder / f"adapter-{number}"))
    return folder


def load(room: Path) -> Any:
    return models.load_causal_lm(room / "model", dtype="fp32")


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(input_ids=IDS, use_cache=False).logits
    return found


def by_peft(room: Path, *numbers: int) -> Any:
    """Merge adapters one after the other with PEFT alone."""
    from peft import PeftModel

    model = load(room)
    for number in numbers:
        model = PeftModel.from_pretrained(model, str(room / f"adapter-{number}")).merge_and_unload()
    return model


def trained(room: Path, adapters: str, name: str) -> tuple[Path, Any]:
    run_dir = inprocess.compiled(room, f"[adapters]\n{adapters}\n{METHOD}", name)
    inprocess.prepare(run_dir)
    return run_dir, inprocess.train(run_dir).model


def test_new(room: Path) -> None:
    """With `new`, the run starts from the model with all adapters merged, and its own adapter belongs to that."""
    run_dir, model = trained(room, 'paths = ["adapter-1", "adapter-2"]\nthen = "new"', "new")
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(by_peft(room, 1, 2)), rtol=0, atol=1e-5)
    paths = [room / "adapter-1", room / "adapter-2"]
    base = models.Base(room / "model", adapters=models.Merged(paths))
    again = load_trained(run_dir / "final", base=base, method="lora", dtype="fp32")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-6)
    for program in ("train.py", "chat.py", "export.py"):
        assert "models.Merged(" in (run_dir / program).read_text()


def test_continue(room: Path) -> None:
    """With `continue`, all but the last are merged, and the last one is trained on from where it was."""
    run_dir, model = trained(room, 'paths = ["adapter-1", "adapter-2"]', "continue")
    with model.disable_adapter():
        torch.testing.assert_close(logits(model), logits(by_peft(room, 1)), rtol=0, atol=1e-5)
    start = continue_adapter(by_peft(room, 1), room / "adapter-2")
    both = dict(model.named_parameters())
    moved = [(both[n] - p).abs().max() for n, p in start.named_parameters() if p.requires_grad]
    # Two steps of Adam move each number by at most twice the rate.
    assert 0 < float(max(moved)) <= 2.1e-2
    base = models.Base(room / "model", adapters=models.Merged([room / "adapter-1"]))
    again = load_trained(run_dir / "final", base=base, method="lora", dtype="fp32")
    torch.testing.assert_close(logits(again), logits(model), rtol=0, atol=1e-6)


def test_continue_sharded(room: Path) -> None:
    """One adapter is continued under ZeRO stage 3 as it is without."""
    found = []
    for stage in (2, 3):
        adapters = f'paths = ["adapter-1"]\n[deepspeed]\nzero_stage = {stage}'
        run_dir, _ = trained(room, adapters, f"stage-{stage}")
        found.append(load_file(run_dir / "final" / "adapter_model.safetensors"))
    # Or later tests would load sharded models.
    unset_hf_deepspeed_config()
    torch.testing.assert_close(found[1], found[0], rtol=1e-3, atol=1e-4)


def deltas(room: Path) -> list[torch.Tensor]:
    plain = load(room).model.layers[0].self_attn.q_proj.weight
    both = (by_peft(room, number).model.layers[0].self_attn.q_proj.weight for number in (1, 2))
    return [(weight - plain).detach() for weight in both]


def combined(room: Path, **settings: Any) -> torch.Tensor:
    merged = models.Merged([room / "adapter-1", room / "adapter-2"], **settings)
    model = merge_earlier(load(room), merged)
    assert not hasattr(model, "peft_config")
    plain = load(room).model.layers[0].self_attn.q_proj.weight
    found: torch.Tensor = (model.model.layers[0].self_attn.q_proj.weight - plain).detach()
    return found


def test_svd(room: Path) -> None:
    """`svd` is the best approximation of the weighted sum of the updates with the rank of one (Eckart-Young)."""
    first, second = deltas(room)
    left, values, right = torch.linalg.svd(0.5 * first + 2.0 * second)
    expected = left[:, :4] * values[:4] @ right[:4]
    found = combined(room, combine="svd", weights=[0.5, 2.0])
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def test_linear(room: Path) -> None:
    """`linear` adds the factors, each with the root of its weight; an adapter and nothing is that adapter."""
    first, _ = deltas(room)
    found = combined(room, combine="linear", weights=[1.0, 0.0])
    torch.testing.assert_close(found, first, rtol=0, atol=1e-6)


@pytest.mark.parametrize("combine", ["ties", "dare"])
def test_sparse(room: Path, combine: Any) -> None:
    """What is dropped at random is the same each time: other programs of the run must see the same base."""
    found = combined(room, combine=combine)
    assert torch.equal(found, combined(room, combine=combine))
    assert found.abs().max() > 0


@pytest.mark.parametrize(
    ("combine", "theirs"),
    [("linear", "linear"), ("svd", "svd"), ("ties", "ties"), ("dare", "dare_linear")],
)
def test_combined_by_hand(room: Path, combine: Any, theirs: str) -> None:
    """Each combination is the one PEFT makes of the two adapters, everywhere in the model."""
    from peft import PeftModel

    adapted = PeftModel.from_pretrained(load(room), str(room / "adapter-1"), "one")
    adapted.load_adapter(str(room / "adapter-2"), "two")
    kept = {"density": 0.3} if combine in ("ties", "dare") else {}
    torch.manual_seed(0)
    adapted.add_weighted_adapter(
        ["one", "two"], [0.7, 1.5], "both", combination_type=theirs, **kept
    )
    adapted.set_adapter("both")
    expected = adapted.merge_and_unload().state_dict()
    paths = [room / "adapter-1", room / "adapter-2"]
    torch.manual_seed(9)
    merged = models.Merged(paths, combine=combine, weights=[0.7, 1.5], density=0.3)
    found = merge_earlier(load(room), merged).state_dict()
    assert found.keys() == expected.keys()
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)


def test_ties_by_the_paper(room: Path) -> None:
    """TIES keeps the largest numbers of each factor, elects a sign by their sum, and averages what agrees with it."""
    factors = [
        load_file(room / f"adapter-{number}" / "adapter_model.safetensors") for number in (1, 2)
    ]
    name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
    both = {part: [found[name.format(part)] for found in factors] for part in "AB"}
    merged = {}
    for part, (first, second) in both.items():
        weighted = torch.stack([trimmed(first, 0.5), trimmed(second, 0.5)])
        sign = weighted.sum(0).sign()
        agrees = (weighted.sign() == sign) & (weighted != 0)
        merged[part] = (weighted * agrees).sum(0) / agrees.sum(0).clamp(min=1)
    # Both adapters have the scale alpha / rank = 2, whose root each factor carries.
    expected = 2.0 * merged["B"] @ merged["A"]
    found = combined(room, combine="ties", weights=[1.0, 1.0], density=0.5)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)


def trimmed(values: torch.Tensor, share: float) -> torch.Tensor:
    """Return the numbers with all but the largest share set to zero."""
    kept = values.abs().flatten().topk(int(share * values.numel())).indices
    mask = torch.zeros(values.numel())
    mask[kept] = 1
    return values * mask.view_as(values)


def test_missing(room: Path) -> None:
    """A folder that went away since the check is one line."""
    with pytest.raises(UserError, match="there is no adapter at"):
        merge_earlier(load(room), models.Merged([room / "nothing"]))
