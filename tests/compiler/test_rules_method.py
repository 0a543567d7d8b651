"""Rules about the method and earlier adapters, in the user's words."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from tunec.compiler.diagnostics import Diagnostic, Label, Level

Told = Callable[..., list[Diagnostic]]

KINDS = (
    "oft", "boft", "ia3", "adalora", "loha", "lokr", "vera",
    "fourierft", "hra", "randlora", "miss", "shira", "c3a", "road", "vblora",
)  # fmt: skip
"""Methods with targets but LoRA."""
LORA = '[method]\ntype = "lora"\n'
OUTSIDE = "outside of the blocks are `embed_tokens`, `lm_head`, `norm`"

WORDINGS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "block that is not there": (
        LORA + "layers = [0, 7]\n",
        "A812",
        "there is no block 7: the model has 2, counted from 0",
        (),
    ),
    "module that is not there": (
        LORA + 'full_modules = ["embed_token"]\n',
        "A813",
        "no module of the model is called `embed_token`",
        ("a similar name is `embed_tokens`", OUTSIDE),
    ),
    "adapter on a full module": (
        LORA + 'targets = ["q_proj"]\nfull_modules = ["q_proj"]\n',
        "A814",
        "`q_proj` is trained in full, so it gets no adapter",
        ("keep one of the two",),
    ),
    "no expression": (
        LORA + 'rank_pattern = { "(q_proj" = 4 }\n',
        "A815",
        "`(q_proj` is no regular expression: missing ), unterminated subpattern",
        ("a plain name of a module is one too",),
    ),
    "pattern for nothing": (
        LORA + 'targets = ["q_proj", "v_proj"]\nalpha_pattern = { "k_proj" = 4.0 }\n',
        "A816",
        "no adapted module matches `k_proj`",
        ("adapted are `q_proj`, `v_proj`",),
    ),
    "weight of a layer": (
        LORA + 'parameters = ["mlp.up_proj.weight"]\n',
        "A817",
        "`mlp.up_proj.weight` is the weight of a linear layer",
        ('name the layer instead: `targets = ["up_proj"]`',),
    ),
    "too many blocks": (
        '[method]\ntype = "freeze"\nblocks = 3\n',
        "A818",
        "`method.blocks` is 3, the model has 2 blocks",
        ("set it to 2 or less",),
    ),
    "module of the blocks": (
        '[method]\ntype = "freeze"\nmodules = ["mpl"]\n',
        "A819",
        "the blocks have no module `mpl`",
        (
            "a similar name is `mlp`; they have `input_layernorm`, `mlp`, `post_attention_layernorm`, `self_attn`",
        ),
    ),
    "module outside": (
        '[method]\ntype = "freeze"\nextra_modules = ["mlp"]\n',
        "A819",
        "there is no module `mlp` outside of the blocks",
        ("there are `embed_tokens`, `lm_head`, `norm`",),
    ),
    "expansion": (
        LORA + "expanded_blocks = 3\n",
        "A820",
        "2 blocks do not divide into 3 groups, each with one expanded block",
        ("name the number of blocks that block expansion added",),
    ),
    "rotations": (
        '[method]\ntype = "boft"\nblock_size = 4\nfactors = 5\n',
        "A824",
        "`method.block_size` with 5 factors does not divide the 32 inputs of `model.layers.0.mlp.gate_proj`",
        ("use a power of two that divides every layer",),
    ),
    "ranks cannot move": (
        '[method]\ntype = "adalora"\nwarmup_steps = 3\nfinal_steps = 1\n',
        "A822",
        "no step is left to move ranks: 3 + 1 of 4",
        ("make them fewer, or train longer",),
    ),
    "sharded decomposition": (
        LORA + 'init = { type = "olora" }\n[deepspeed]\nzero_stage = 3\n',
        "A826",
        "`olora` needs whole weights, stage 3 shards them",
        ('write `zero_stage = 2`, or `init = { type = "default" }`',),
    ),
    "block that does not divide": (
        '[method]\ntype = "c3a"\nblock_size = 24\ntargets = ["v_proj"]\n',
        "A851",
        "`method.block_size` does not divide the 32 inputs of `model.layers.0.self_attn.v_proj`",
        (),
    ),
    "group that does not divide": (
        '[method]\ntype = "road"\ngroup_size = 32\ntargets = ["v_proj"]\n',
        "A851",
        "`method.group_size` does not divide the 16 outputs of `model.layers.0.self_attn.v_proj`",
        (),
    ),
    "vectors that do not divide": (
        '[method]\ntype = "vblora"\nvector_length = 32\ntargets = ["v_proj"]\n',
        "A851",
        "`method.vector_length` does not divide the 16 outputs of `model.layers.0.self_attn.v_proj`",
        (),
    ),
    "shards wider than a layer": (
        '[method]\ntype = "miss"\ntargets = ["v_proj"]\n',
        "A851",
        "`method.rank` is more than the 32 inputs of `model.layers.0.self_attn.v_proj`",
        (),
    ),
    "shards that do not divide": (
        '[method]\ntype = "miss"\nrank = 32\nvariant = "bat"\ntargets = ["v_proj"]\n',
        "A851",
        "`method.rank` does not divide the 16 outputs of `model.layers.0.self_attn.v_proj`",
        (),
    ),
    "more than all weights": (
        '[method]\ntype = "shira"\nrank = 11\ntargets = ["v_proj"]\n',
        "A851",
        "`method.rank` asks for more than the 512 weights of `model.layers.0.self_attn.v_proj`",
        (),
    ),
    "more frequencies than weights": (
        '[method]\ntype = "fourierft"\nfrequencies = 513\ntargets = ["v_proj"]\n',
        "A851",
        "`method.frequencies` is more than the 512 weights of `model.layers.0.self_attn.v_proj`",
        (),
    ),
    "more than the gradients have": (
        LORA + 'rank = 9\ntargets = ["v_proj"]\ninit = { type = "lora-ga" }\n',
        "A851",
        "`method.rank` is more than half of the 16 singular vectors of `model.layers.0.self_attn.v_proj`",
        (),
    ),
    "odd group": (
        '[method]\ntype = "road"\ngroup_size = 1\n',
        "A852",
        "`group_size` is 1, which is odd",
        (),
    ),
    "odd orthogonal rank": (
        LORA + 'rank = 3\ninit = { type = "orthogonal" }\n',
        "A852",
        "`rank` is 3, which is odd",
        (),
    ),
    "norm that is not there": (
        '[method]\ntype = "ln-tuning"\nnorms = ["input_norm"]\n',
        "A855",
        "`input_norm` does not exist",
        (
            "a similar name is `input_layernorm`",
            "its layers are `input_layernorm`, `norm`, `post_attention_layernorm`",
        ),
    ),
    "norm that is none": (
        '[method]\ntype = "ln-tuning"\nnorms = ["q_proj"]\n',
        "A855",
        "`q_proj` is no normalisation layer",
        ("its layers are `input_layernorm`, `norm`, `post_attention_layernorm`",),
    ),
    "no adapter": (
        '[adapters]\npaths = ["data"]\n',
        "A803",
        "`data` is no adapter: it has no adapter_config.json",
        ("name the folder that an earlier training saved",),
    ),
    "adapter of another model": (
        '[adapters]\npaths = ["foreign-adapter"]\n',
        "A804",
        "`foreign-adapter` was trained on `org/foreign-7b`",
        ("make sure that both are the same model",),
    ),
    "adapter of another kind": (
        '[adapters]\npaths = ["adapter"]\n[method]\ntype = "ia3"\n',
        "A805",
        "`adapter` is an adapter of kind `lora`, the method is `ia3`",
        ('write `[method] type = "lora"`, or merge it first: `then = "new"`',),
    ),
    "adapter of another rank": (
        '[adapters]\npaths = ["wide-adapter"]\n',
        "A806",
        "`wide-adapter` has rank 16, `method.rank` is 4",
        ('write `rank = 16`, or start a new adapter: `then = "new"`',),
    ),
    "full training of an adapter": (
        '[adapters]\npaths = ["adapter"]\n[method]\ntype = "full"\n',
        "A807",
        "`full` training cannot continue an adapter",
        ('merge it into the model first: `[adapters] then = "new"`',),
    ),
    "merged under stage 3": (
        '[adapters]\npaths = ["adapter"]\nthen = "new"\n[deepspeed]\nzero_stage = 3\n',
        "A808",
        "adapters cannot be merged into weights that ZeRO stage 3 shards",
        ("merge them first with `tunec export`, and start from the result",),
    ),
    "unequal ranks": (
        '[adapters]\npaths = ["adapter", "wide-adapter"]\ncombine = "linear"\nthen = "new"\n',
        "A809",
        "`linear` adds factors of equal rank, these have 4 and 16",
        ('write `combine = "svd"`, which takes any ranks',),
    ),
    "weights missing": (
        '[adapters]\npaths = ["adapter", "other-adapter"]\ncombine = "svd"\nweights = [1.0]\nthen = "new"\n',
        "A810",
        "1 weights for 2 adapters",
        ("name one weight for each adapter",),
    ),
}


@pytest.mark.parametrize("case", WORDINGS, ids=[name.replace(" ", "-") for name in WORDINGS])
def test_wording(case: str, told: Told) -> None:
    """The findings about methods and adapters say the cause, and the way out in the help."""
    text, code, message, helps = WORDINGS[case]
    (finding,) = told(text)
    assert (finding.code, finding.message, finding.helps) == (code, message, helps)


@pytest.mark.parametrize(
    "target", ["embed_tokens", "lm_head", "self_attn.q_proj", "layers.0.mlp.up_proj"]
)
def test_embeddings_heads_and_dotted_names_are_targets(target: str, told: Told) -> None:
    """PEFT adapts embeddings and the head too, and takes the end of a name for the whole; a tied head counts."""
    assert told(LORA + f'rank = 4\ntargets = ["{target}"]\n') == []


@pytest.mark.parametrize("kind", KINDS)
def test_targets_of_every_method_are_looked_up(kind: str, told: Told) -> None:
    """A target that is no module is found for each method that has targets, not for LoRA alone."""
    findings = told(f'[method]\ntype = "{kind}"\ntargets = ["quary"]\n')
    assert [item.code for item in findings if item.level is Level.ERROR] == ["A801"]


def test_targets_of_a_packed_checkpoint_are_names(told: Told) -> None:
    """Packed weights have no matrix to look at, but modules of that name."""
    model = '[model]\npath = "quantized-model"\n'
    assert {item.code for item in told(model + LORA + 'targets = ["q_proj"]\n')} <= {"V901"}


def test_the_last_adapter_is_the_one_continued(told: Told) -> None:
    """Of several adapters the last one decides about kind and rank, and its place is labelled."""
    (finding,) = told('[adapters]\npaths = ["adapter", "wide-adapter"]\n')
    assert finding.path == ("method", "rank")
    assert finding.labels == (Label(("adapters", "paths", 1), "rank 16, continued here"),)
    assert told('[adapters]\npaths = ["wide-adapter", "adapter"]\n') == []


def test_a_merged_adapter_may_be_of_any_kind(told: Told) -> None:
    """What is merged leaves no trace, so that rank and method are free."""
    assert told('[adapters]\npaths = ["wide-adapter"]\nthen = "new"\n') == []
    assert (
        told('[adapters]\npaths = ["wide-adapter"]\nthen = "new"\n[method]\ntype = "full"\n') == []
    )


@pytest.mark.parametrize("name", ["Model", "org/model", "/data/models--org--model/snapshots/0a1b"])
def test_a_base_model_is_compared_by_its_name(name: str, folder: Path, told: Told) -> None:
    """A model that lies elsewhere under the same name is the same model, also in the hub client's folder."""
    tiny.write_adapter(folder / "moved-adapter", base_model_name_or_path=name)
    assert told('[adapters]\npaths = ["moved-adapter"]\n') == []
