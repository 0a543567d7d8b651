"""Optimizers: three steps equal those of the library used by hand, and what each does is what its paper says."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional

from tunec.runtime import training
from tunec.runtime.training.engine import allow_steps, averaged, without_first_step
from tunec.runtime.training.optimizers.describe import description, in_words

RATE = 1e-2
Parameters = list[dict[str, Any]]


@pytest.fixture(scope="module")
def model(tiny_model: Any) -> Any:
    """The tiny model in fp32; tests copy it."""
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(str(tiny_model), dtype=torch.float32)


def decayed(model: Any) -> set[str]:
    """Return the names of the weights that decay: no norms, no biases."""
    return {name for name, _ in model.named_parameters() if "norm" not in name}


def losses(model: Any, optimizer: Any, steps: int = 3) -> list[float]:
    """Return the losses of a few steps on fixed tokens."""
    found = []
    for step in range(steps):
        generator = torch.Generator().manual_seed(step)
        tokens = torch.randint(0, 300, (2, 16), generator=generator)
        logits = model(input_ids=tokens).logits
        loss = functional.cross_entropy(logits[:, :-1].flatten(0, 1), tokens[:, 1:].flatten())
        loss.backward()
        optimizer.step()
        model.zero_grad()
        found.append(float(loss))
    return found


def split(model: Any, decay: float, **extra: Any) -> Parameters:
    """Return what transformers makes: groups with decay and without."""
    names = decayed(model)
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    return [
        {"params": [p for n, p in trained if n in names], "weight_decay": decay, **extra},
        {"params": [p for n, p in trained if n not in names], "weight_decay": 0.0, **extra},
    ]


def projected(model: Any, decay: float = 0.0, **extra: Any) -> Parameters:
    """Return groups in which linear modules are projected."""
    linear = {f"{n}.weight" for n, m in model.named_modules() if isinstance(m, torch.nn.Linear)}
    linear.discard("lm_head.weight")
    named = list(model.named_parameters())
    return [
        {"params": [p for n, p in named if n not in linear], "weight_decay": decay},
        {"params": [p for n, p in named if n in linear], "weight_decay": decay, **extra},
    ]


GALORE = {"rank": 4, "update_proj_gap": 2, "scale": 2.0, "proj_type": "std"}
APOLLO = {
    "rank": 4, "update_proj_gap": 2, "scale": 32.0, "proj": "svd", "proj_type": "std", "scale_type": "channel",
}  # fmt: skip


def galore(model: Any) -> Any:
    """Return GaLore by its package."""
    import galore_torch

    return galore_torch.GaLoreAdamW(projected(model, **GALORE), lr=RATE)


def galore_adafactor(model: Any) -> Any:
    """Return GaLore's Adafactor by its package."""
    import galore_torch

    chosen = {"scale_parameter": False, "relative_step": False}
    return galore_torch.GaLoreAdafactor(projected(model, **GALORE), lr=RATE, **chosen)


def apollo(model: Any) -> Any:
    """Return APOLLO by its package."""
    import apollo_torch

    return apollo_torch.APOLLOAdamW(projected(model, **APOLLO), lr=RATE)


def apollo_after(model: Any) -> Any:
    """Return APOLLO by its package, scaled first."""
    import apollo_torch

    return apollo_torch.APOLLOAdamW(projected(model, **APOLLO), lr=RATE, scale_front=True)


def adam_mini(model: Any) -> Any:
    """Return Adam-mini by its package."""
    from adam_mini import Adam_mini

    return Adam_mini(
        model.named_parameters(), lr=RATE, weight_decay=0.1, dim=32, n_heads=4, n_kv_heads=2, verbose=False
    )  # fmt: skip


def badam(model: Any) -> Any:
    """Return BAdam by its package."""
    from badam import BlockOptimizer

    adamw = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.1)
    return BlockOptimizer(
        adamw, list(model.named_parameters()), switch_block_every=2, switch_mode="descending", verbose=0
    )  # fmt: skip


def badam_ratio(model: Any) -> Any:
    """Return BAdam's ratio mode by its package; the head is the embedding, and has no name."""
    from badam import BlockOptimizerRatio

    return BlockOptimizerRatio(
        [{"params": list(model.parameters())}], list(model.named_parameters()), update_ratio=0.2,
        switch_every=2, lr=RATE, include_lm_head=True,
    )  # fmt: skip


def bnb(name: str, **chosen: Any) -> Callable[[Any], Any]:
    """Return a maker of an optimizer of bitsandbytes."""

    def create(model: Any) -> Any:
        from bitsandbytes import optim

        return getattr(optim, name)(split(model, 0.1), lr=RATE, **chosen)

    return create


def adafactor(model: Any) -> Any:
    """Return the Adafactor of transformers with rates from outside."""
    from transformers.optimization import Adafactor

    return Adafactor(split(model, 0.1), lr=RATE, scale_parameter=False, relative_step=False)


def muon(model: Any) -> Any:
    """Return torch's Muon on the matrices of the blocks beside AdamW on the rest."""
    inner, rest = [], []
    for name, parameter in model.named_parameters():
        inside = "layers" in name and parameter.ndim == 2
        (inner if inside else rest).append((name, parameter))
    names = decayed(model)
    first = torch.optim.Muon(
        [p for _, p in inner], lr=RATE, momentum=0.95, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"
    )  # fmt: skip
    groups = [{"params": [p], "weight_decay": 0.1 if n in names else 0.0} for n, p in rest]
    second = torch.optim.AdamW(groups, lr=RATE)

    class Both:
        def step(self) -> None:
            first.step()
            second.step()

    return Both()


ADAMW = {"learning_rate": RATE, "weight_decay": 0.1}
CASES: dict[str, tuple[Any, Callable[[Any], Any]]] = {
    "adamw": (training.AdamW(**ADAMW), lambda m: torch.optim.AdamW(split(m, 0.1), lr=RATE)),
    "adamw-8bit": (training.AdamW(state="8bit", **ADAMW), bnb("AdamW8bit")),
    "adamw-paged-8bit": (training.AdamW(state="paged-8bit", **ADAMW), bnb("PagedAdamW8bit")),
    "adamw-paged-32bit": (training.AdamW(state="paged-32bit", **ADAMW), bnb("PagedAdamW32bit")),
    "sgd": (
        training.Sgd(momentum=0.9, **ADAMW),
        lambda m: torch.optim.SGD(split(m, 0.1), lr=RATE, momentum=0.9),
    ),
    "adafactor": (training.AdaFactor(**ADAMW), adafactor),
    "lion": (training.Lion(**ADAMW), bnb("Lion32bit", betas=(0.9, 0.99))),
    "lion-8bit": (training.Lion(state="8bit", **ADAMW), bnb("Lion8bit", betas=(0.9, 0.99))),
    "adam-mini": (training.AdamMini(**ADAMW), adam_mini),
    "muon": (training.Muon(**ADAMW), muon),
    "galore": (training.Galore(learning_rate=RATE, rank=4, interval=2), galore),
    "galore-adafactor": (
        training.Galore(learning_rate=RATE, base="adafactor", rank=4, interval=2),
        galore_adafactor,
    ),
    "galore-layerwise": (
        training.Galore(learning_rate=RATE, rank=4, interval=2, layerwise=True),
        galore,
    ),
    "apollo": (training.Apollo(learning_rate=RATE, projection="svd", rank=4, interval=2), apollo),
    "apollo-layerwise": (
        training.Apollo(learning_rate=RATE, projection="svd", rank=4, interval=2, layerwise=True),
        apollo,
    ),
    "apollo-after": (
        training.Apollo(
            learning_rate=RATE, projection="svd", rank=4, interval=2, limit_after_scaling=True
        ),
        apollo_after,
    ),
    "badam": (training.BAdam(order="descending", interval=2, **ADAMW), badam),
    "badam-ratio": (training.BAdamRatio(learning_rate=RATE, ratio=0.2, interval=2), badam_ratio),
    "by-name": (
        training.Named(name="rmsprop", options={"alpha": 0.9}, **ADAMW),
        lambda m: torch.optim.RMSprop(split(m, 0.1), lr=RATE, alpha=0.9),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_equals_the_library_by_hand(name: str, model: Any) -> None:
    """Three steps from the same start give the losses and weights of the library with the same numbers."""
    settings, by_hand = CASES[name]
    ours, theirs = copy.deepcopy(model), copy.deepcopy(model)
    torch.manual_seed(0)
    optimizer = settings.create(ours, decayed=decayed(ours), deepspeed={})
    torch.manual_seed(0)
    reference = by_hand(theirs)
    assert losses(ours, optimizer) == pytest.approx(losses(theirs, reference), abs=2e-6)
    # Muon iterates in bf16, where the last bit of a gradient is much.
    tolerance = 1e-4 if name == "muon" else 5e-6
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=tolerance, rtol=1e-4)
    assert not torch.equal(next(ours.parameters()), next(model.parameters())) or "badam" in name


def one_matrix(weight: torch.Tensor, gradient: torch.Tensor, settings: Any) -> torch.Tensor:
    """Return what one step changes of a linear module without bias."""

    class Model(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = torch.nn.Linear(*reversed(weight.shape), bias=False)
            self.inner.weight.data.copy_(weight)

        def get_output_embeddings(self) -> None:
            return None

    model = Model()
    optimizer = settings.create(model, decayed=set(), deepspeed={})
    model.inner.weight.grad = gradient.clone()
    optimizer.step()
    return model.inner.weight.detach() - weight


def test_galore_updates_inside_the_largest_directions() -> None:
    """The first step is Adam's on the gradient seen along its largest directions, brought back and scaled."""
    torch.manual_seed(1)
    weight, gradient = torch.randn(6, 4), torch.randn(6, 4)
    change = one_matrix(weight, gradient, training.Galore(learning_rate=0.1, rank=2, scale=3.0))
    directions = torch.linalg.svd(gradient)[2][:2]
    low = gradient @ directions.T
    # Adam's first step is the sign, up to epsilon.
    step = low / (low.abs() + 1e-6 / math.sqrt(1 - 0.999))
    torch.testing.assert_close(change, -0.1 * 3.0 * step @ directions, atol=1e-5, rtol=1e-4)
    assert torch.linalg.matrix_rank(change) == 2


def test_apollo_scales_channels_of_the_whole_gradient() -> None:
    """Each channel of the gradient is scaled by what Adam would do to its projection."""
    torch.manual_seed(1)
    weight, gradient = torch.randn(6, 4), torch.randn(6, 4)
    settings = training.Apollo(learning_rate=0.1, rank=2, scale=4.0, projection="svd")
    change = one_matrix(weight, gradient, settings)
    low = gradient @ torch.linalg.svd(gradient)[2][:2].T
    adam = low / (low.abs() + 1e-6 / math.sqrt(1 - 0.999))
    scale = adam.norm(dim=1) / low.norm(dim=1)
    torch.testing.assert_close(
        change, -0.1 * math.sqrt(4.0) * gradient * scale[:, None], atol=1e-5, rtol=1e-4
    )


@pytest.mark.parametrize(
    ("order", "wanted"),
    [("ascending", [0, 1, 1, 0, 0]), ("descending", [1, 0, 0, 1, 1]), ("fixed", [1, 1, 1, 1, 1])],
)
def test_badam_trains_one_block_at_a_time(order: Any, wanted: list[int], model: Any) -> None:
    """Only the block whose turn it is changes; the first turn is one step shorter, as in the package."""
    ours = copy.deepcopy(model)
    start = 1 if order == "fixed" else None
    settings = training.BAdam(learning_rate=RATE, order=order, interval=2, start_block=start)
    optimizer = settings.create(ours, decayed=set(), deepspeed={})
    seen = []
    for _ in wanted:
        before = {n: p.detach().clone() for n, p in ours.named_parameters()}
        losses(ours, optimizer, steps=1)
        moved = {n for n, p in ours.named_parameters() if not torch.equal(p, before[n])}
        (block,) = {name.split(".")[2] for name in moved if "layers" in name}
        assert all("layers" in name for name in moved)
        seen.append(int(block))
    assert seen == wanted


@pytest.mark.parametrize("name", [name for name in CASES if "paged" not in name])
def test_state_goes_on(name: str, model: Any) -> None:
    """An optimizer that was given the saved state does the same next steps to the last bit."""
    settings = CASES[name][0]
    whole = copy.deepcopy(model)
    torch.manual_seed(0)
    optimizer = settings.create(whole, decayed=decayed(whole), deepspeed={})
    losses(whole, optimizer)
    state, weights = copy.deepcopy(optimizer.state_dict()), copy.deepcopy(whole.state_dict())
    wanted = losses(whole, optimizer)
    again = copy.deepcopy(model)
    resumed = settings.create(again, decayed=decayed(again), deepspeed={})
    again.load_state_dict(weights)
    resumed.load_state_dict(state)
    assert losses(again, resumed) == wanted


def test_8_bit_state_is_8_bit(model: Any) -> None:
    """Large matrices have moments of one byte; embeddings keep theirs, as transformers has it."""
    ours = copy.deepcopy(model)
    ours.model.layers[0].mlp.up_proj = torch.nn.Linear(32, 256, bias=False)
    optimizer = training.AdamW(learning_rate=RATE, state="8bit").create(
        ours, decayed=set(), deepspeed={}
    )
    for parameter in ours.parameters():
        parameter.grad = torch.ones_like(parameter)
    optimizer.step()
    up, words = ours.model.layers[0].mlp.up_proj.weight, ours.get_input_embeddings().weight
    assert optimizer.state[up]["state1"].dtype == torch.uint8
    assert words.numel() > 4096
    assert optimizer.state[words]["state1"].dtype == torch.float32


def test_lora_plus_has_the_groups_of_peft(tiny_model: Any) -> None:
    """A, embeddings, B: the same parameters at the same rates and decays as PEFT's optimizer."""
    from peft import LoraConfig, get_peft_model
    from peft.optimizers import create_loraplus_optimizer
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(str(tiny_model), dtype=torch.float32)
    config = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "embed_tokens"])
    adapted = get_peft_model(base, config)
    theirs = create_loraplus_optimizer(
        adapted, torch.optim.AdamW, lr=RATE, loraplus_lr_ratio=16.0,
        loraplus_lr_embedding=1e-4, loraplus_weight_decay=0.1,
    )  # fmt: skip
    names = {name for name, p in adapted.named_parameters() if p.requires_grad}
    ours = training.AdamW(
        lora_plus=training.LoraPlus(b_rate_ratio=16.0, embedding_rate=1e-4), **ADAMW
    ).create(adapted, decayed=names, deepspeed={})

    def rates(optimizer: Any) -> dict[int, tuple[float, float]]:
        groups = optimizer.param_groups
        return {id(p): (g["lr"], g["weight_decay"]) for g in groups for p in g["params"]}

    assert rates(ours) == rates(theirs)
    assert {rate for rate, _ in rates(ours).values()} == {RATE, 1e-4, 16 * RATE}


def test_engine_does_no_step_of_its_own() -> None:
    """Until the engine is made, a step does nothing; then it does what it did."""
    weight = torch.nn.Parameter(torch.ones(2))
    optimizer = torch.optim.SGD([weight], lr=0.5)
    weight.grad = torch.ones(2)
    without_first_step(optimizer)
    optimizer.step()
    assert weight.tolist() == [1, 1]
    allow_steps(optimizer)
    optimizer.step()
    assert weight.tolist() == [0.5, 0.5]


def test_averages_are_shown_and_taken_back(model: Any) -> None:
    """Schedule-free training shows its averaged weights while it is asked to, and goes on from the same bits."""
    ours = copy.deepcopy(model)
    optimizer: Any = training.Named(name="schedule_free_sgd", learning_rate=0.1).create(
        ours, decayed=set(), deepspeed={}
    )
    optimizer.train()
    losses(ours, optimizer)
    before = [p.detach().clone() for p in ours.parameters()]
    with averaged(optimizer):
        shown = [p.detach().clone() for p in ours.parameters()]
    assert not all(torch.equal(a, b) for a, b in zip(before, shown, strict=True))
    assert all(torch.equal(a, p) for a, p in zip(before, ours.parameters(), strict=True))
    state = optimizer.state[next(ours.parameters())]
    # y = 0.9 x + 0.1 z (Defazio et al. 2024, arXiv:2405.15682)
    torch.testing.assert_close(before[0], 0.9 * shown[0] + 0.1 * state["z"], atol=1e-6, rtol=1e-5)


def test_tells_class_and_groups(model: Any) -> None:
    """The log names the class that really runs, and what each group is told."""
    ours = copy.deepcopy(model)
    settings = training.AdamW(**ADAMW)
    told = description(settings.create(ours, decayed=decayed(ours), deepspeed={}))
    assert in_words(told) == (
        "torch.optim.adamw.AdamW: 30,560 parameters, rate 0.01, decay 0.1; 160 parameters, rate 0.01, no decay"
    )
    assert told["groups"][1] == {"parameters": 160, "learning_rate": 0.01, "weight_decay": 0.0}


def test_unknown_options_are_told(model: Any) -> None:
    """An option that the optimizer does not know ends the run with its name."""
    from tunec.runtime.errors import UserError

    settings = training.Named(name="rmsprop", learning_rate=0.1, options={"alfa": 0.9})
    with pytest.raises(UserError, match="alfa"):
        settings.create(copy.deepcopy(model), decayed=set(), deepspeed={})


@pytest.fixture(autouse=True)
def _own_seed() -> Iterator[None]:
    """Leave the random numbers of other tests alone."""
    with torch.random.fork_rng(devices=[]):
        yield


def adapted(tiny_model: Any) -> Any:
    """Return the tiny model with LoRA of rank 4 and a B that is not zero."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    base = AutoModelForCausalLM.from_pretrained(str(tiny_model), dtype=torch.float32)
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "v_proj"])
    model = get_peft_model(base, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            parameter.data.normal_(std=0.1)
    return model


def test_lora_fa_is_that_of_peft(tiny_model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Frozen A and the turned gradient of B give the weights of PEFT's optimizer, here in fp32."""
    from peft.optimizers import create_lorafa_optimizer, lorafa

    monkeypatch.setattr(lorafa, "is_bf16_available", lambda: False)
    ours, theirs = training.freeze_a(adapted(tiny_model)), adapted(tiny_model)
    reference = create_lorafa_optimizer(theirs, r=4, lora_alpha=8, lr=RATE)
    # Its epsilon is not corrected for the first steps; with next to none the formulas are the same.
    for group in reference.param_groups:
        group["eps"] = 1e-14
    optimizer = training.AdamW(learning_rate=RATE, epsilon=1e-14).create(
        ours, decayed=set(), deepspeed={}
    )
    assert losses(ours, optimizer) == pytest.approx(losses(theirs, reference), abs=1e-5)
    trained = {name for name, p in ours.named_parameters() if p.requires_grad}
    assert trained
    assert all("lora_B" in name for name in trained)
    for mine, other in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-3)


def test_lora_fa_makes_the_best_change_of_the_weights(tiny_model: Any) -> None:
    """The change of the weights by the turned gradient is the whole gradient seen through A's rows."""
    model = training.freeze_a(adapted(tiny_model))
    module = model.base_model.model.model.layers[0].self_attn.q_proj
    b, a = module.lora_B["default"].weight, module.lora_A["default"].weight
    whole = torch.randn(module.out_features, module.in_features)
    # The gradient of B for a loss that is linear in the weights, <whole, scale B A>.
    (2.0 * (whole * (b @ a))).sum().backward()
    rows = torch.linalg.qr(a.detach().T)[0]
    torch.testing.assert_close(2.0 * b.grad @ a, whole @ rows @ rows.T, atol=1e-4, rtol=1e-3)


def test_lisa_draws_blocks_by_seed_and_step() -> None:
    """Blocks stay for an interval, each sample has the right size, and all blocks have their turn."""
    lisa = training.Lisa(blocks=2, interval=3)
    turns = [lisa.chosen(step, num_blocks=5, seed=7) for step in range(90)]
    assert all(turns[step] == turns[step - step % 3] for step in range(90))
    assert {len(set(turn)) for turn in turns} == {2}
    assert {block for turn in turns for block in turn} == {0, 1, 2, 3, 4}
    assert turns != [lisa.chosen(step, num_blocks=5, seed=8) for step in range(90)]


def test_adam_mini_finds_heads_of_another_width() -> None:
    """Each head of queries and keys has one second moment, also where the heads together are wider than the model."""
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=300, hidden_size=24, intermediate_size=32, num_hidden_layers=1,
        num_attention_heads=4, num_key_value_heads=2, head_dim=16,
    )  # fmt: skip
    model = LlamaForCausalLM(config)
    optimizer = training.AdamMini(**ADAMW).create(model, decayed=decayed(model), deepspeed={})
    losses(model, optimizer, steps=1)
    attention = model.model.layers[0].self_attn
    for weight, heads in ((attention.q_proj.weight, 4), (attention.k_proj.weight, 2)):
        assert optimizer.state[weight]["vmean"].numel() == heads
