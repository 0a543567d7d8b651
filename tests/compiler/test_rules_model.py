"""Rules about the model: loading, tokens, templates, positions, kernels and quantization, in the user's words."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

import tiny
from tunec.compiler.chat import library
from tunec.compiler.diagnostics import Diagnostic, Label, Level
from tunec.compiler.model_types import MODEL_TYPES

Told = Callable[..., list[Diagnostic]]

BNB = '[quantization]\ntype = "bitsandbytes"\n'
GPU = '[launch]\ndevice = "gpu"\n'

WORDINGS: dict[str, tuple[str, str, str, tuple[str, ...]]] = {
    "full training of quantized weights": (
        BNB + '[method]\ntype = "full"\n',
        "Q601",
        "full training cannot update quantized weights",
        ('train adapters: `type = "lora"`', "or remove `[quantization]`"),
    ),
    "blocks of a quantized checkpoint": (
        '[model]\npath = "quantized-model"\n[method]\ntype = "freeze"\nblocks = 1\n',
        "Q601",
        "training of blocks cannot update quantized weights",
        ('train adapters: `type = "lora"`',),
    ),
    "quantized twice": (
        '[model]\npath = "quantized-model"\n' + BNB,
        "Q607",
        "the weights are quantized already (gptq, 4 bit)",
        ("remove `[quantization]`, or start from the original weights",),
    ),
    "8 bit sharded": (
        BNB + "bits = 8\n[deepspeed]\nzero_stage = 3\n",
        "Q606",
        "weights quantized by `bitsandbytes` in 8 bit cannot be sharded by ZeRO stage 3",
        ("write `zero_stage = 2`: frozen quantized weights are small", "or `bits = 4`"),
    ),
    "checkpoint sharded": (
        '[model]\npath = "quantized-model"\n[deepspeed]\nzero_stage = 3\n',
        "Q606",
        "weights quantized by `gptq` cannot be sharded by ZeRO stage 3",
        ("write `zero_stage = 2`: frozen quantized weights are small",),
    ),
    "embeddings of a quantized model": (
        BNB + "[tokenizer]\nresize = true\n",
        "Q602",
        "the embeddings of a quantized model cannot grow",
        ("grow them once without quantization, save that model, and start from it",),
    ),
    "two adapters on quantized weights": (
        BNB + '[adapters]\npaths = ["adapter", "other-adapter"]\n',
        "Q603",
        "adapters cannot be merged into quantized weights",
        (
            "merge them first with `tunec export`, and start from the result",
            "or continue a single one",
        ),
    ),
    "no room": (
        '[tokenizer]\nadd_special_tokens = ["<step>"]\n[method]\ntype = "full"\n',
        "M628",
        "the embeddings have 379 rows, the tokenizer would have 380 tokens",
        ("let the embeddings grow: `resize = true`",),
    ),
    "frozen rows": (
        '[tokenizer]\nadd_special_tokens = ["<step>"]\nresize = true\n',
        "M627",
        "embeddings of added tokens are not trained: `<step>`",
        ('train them: `[method] trainable_tokens = ["<step>"]`',),
    ),
    "ordinary and special": (
        '[tokenizer]\nadd_tokens = ["<a>"]\nresize = true\n'
        'described_tokens = { "<a>" = "a step" }\n[method]\ntype = "full"\n',
        "M624",
        "the token `<a>` is both ordinary and special",
        ("keep one of them",),
    ),
    "misspelt template": (
        '[template]\ntype = "named"\nname = "lama3"\n',
        "M630",
        "there is no template `lama3`",
        ("a similar name is `llama3`",),
    ),
    "strange template": (
        '[template]\ntype = "named"\nname = "zzzz"\n',
        "M630",
        "there is no template `zzzz`",
        ("they are called after families of models, such as `llama3`, `qwen3` or `gemma3`",),
    ),
    "code of its own": (
        '[model]\npath = "coded-model"\n',
        "M609",
        "the model type `bespoke` exists only as Python code shipped with the model",
        ("read that code, then write `trust_remote_code = true`",),
    ),
    "original release": (
        '[model]\npath = "unconverted-model"\n',
        "M610",
        "transformers cannot load the architecture `InternVLChatModel`",
        ("use the conversion whose name ends in `-hf`",),
    ),
    "beyond the stretched positions": (
        '[model]\nrope = { type = "linear", factor = 2.0 }\n[data]\nmax_length = 2000\n',
        "M606",
        "`data.max_length` is 2,000, the model has 1,024 positions when stretched",
        ("set it to 1024 or less",),
    ),
    "flash attention on a CPU": (
        '[model]\nattention = "flash3"\n',
        "M651",
        "`flash3` attention does not run on a CPU",
        ("remove it, or compute on a GPU",),
    ),
    "random and frozen": (
        '[model]\ninit = "random"\n',
        "M612",
        "the model starts from random weights that are not all trained",
        ('train all of them: `[method] type = "full"`, or start from `"pretrained"` ones',),
    ),
    "quarters": (
        "[model]\nshifted_attention = true\n[data]\nmax_length = 126\npad_multiple = 16\n",
        "M618",
        "`data.max_length` is 126, which is no multiple of 8",
        ("set it to 120",),
    ),
    "quarters of padded rows": (
        "[model]\nshifted_attention = true\n[data]\npad_multiple = 4\n",
        "M618",
        "rows are padded to a multiple of 4, which is no multiple of 8",
        ("write `pad_multiple = 8`",),
    ),
    "quarters of rows that several share": (
        "[model]\nshifted_attention = true\n[data]\npad_multiple = 8\npacking = 'isolated'\n",
        "M618",
        "shifted attention does not keep the samples of a row apart",
        ('write `packing = "off"`',),
    ),
    "unsloth in 8 bit": (
        BNB + "bits = 8\n[kernels]\nunsloth = true\n" + GPU,
        "M653",
        "unsloth loads weights in 4 bit by bitsandbytes, no others",
        ('write `type = "bitsandbytes"` and `bits = 4`, or remove `unsloth`',),
    ),
}


@pytest.mark.parametrize("case", WORDINGS, ids=[name.replace(" ", "-") for name in WORDINGS])
def test_wording(case: str, told: Told) -> None:
    """The findings about models say the cause, and the way out in the help; nothing else but packages is found."""
    text, code, message, helps = WORDINGS[case]
    (finding,) = (item for item in told(text) if item.code != "V901")
    assert (finding.code, finding.message, finding.helps) == (code, message, helps)


def test_both_places_are_shown(told: Told) -> None:
    """A finding about two settings lies on one and labels the other."""
    finding = told(BNB + '[method]\ntype = "full"\n')[0]
    assert finding.path == ("method", "type")
    assert finding.label == "full training here"
    assert finding.labels == (Label(("quantization", "type"), "quantized here"),)


def test_a_quantized_checkpoint_is_recognised(told: Told) -> None:
    """What the model's configuration says counts like the spec: LoRA trains beside it, and packages are named."""
    findings = told('[model]\npath = "quantized-model"\n')
    assert [(item.code, item.level) for item in findings] == [("V901", Level.WARNING)]
    assert findings[0].message == "the package `gptqmodel` is not installed here"


@pytest.mark.parametrize("method", ["fp8", "mxfp4"])
def test_formats_that_are_widened_when_loaded_train(method: str, folder: Path, told: Told) -> None:
    """fp8 and mxfp4 checkpoints become ordinary weights, so that nothing speaks against full training."""
    name = f"{method}-model"
    shutil.copytree(folder / "model", folder / name)
    tiny.change_config(folder / name, quantization_config={"quant_method": method})
    assert told(f'[model]\npath = "{name}"\n[method]\ntype = "full"\n') == []


def test_nothing_is_guessed_about_a_hub_model(told: Told) -> None:
    """A hub id says nothing about modules, tokens or kinds, so no finding is made up."""
    text = (
        '[model]\npath = "org/name"\nshifted_attention = true\n'
        'moe_aux_loss = 0.1\nrope = { type = "linear" }\nattention = "sdpa"\n'
        '[tokenizer]\nadd_tokens = ["<a>"]\n[media]\nvideo_fps = 1.0\n'
        '[method]\ntype = "lora"\ntargets = ["anything"]\nfull_modules = ["any"]\n'
        'rank_pattern = { "any" = 4 }\nparameters = ["any"]\n'
        '[adapters]\npaths = ["org/adapter"]\n[data]\npad_multiple = 8\n'
    )
    assert [item.code for item in told(text) if item.code != "V901"] == ["M657"]


def test_a_model_type_that_is_too_new_is_told(folder: Path, told: Told) -> None:
    """A type that transformers does not know, and that brings no code, cannot be loaded."""
    shutil.copytree(folder / "model", folder / "future-model")
    tiny.change_config(folder / "future-model", model_type="llama9")
    (finding,) = told('[model]\npath = "future-model"\n')
    assert finding.message == "transformers 5.23 knows no models of type `llama9`"


def test_models_beside_the_trained_one_must_be_there(told: Told) -> None:
    """A reference model that is missing is reported at its own setting."""
    text = (
        '[objective]\ntype = "dpo"\nreference = { type = "model", path = "models/none" }\n'
        '[data]\nsources = [{ format = "preference", path = "data/pairs.jsonl" }]\n'
    )
    (finding,) = (item for item in told(text) if item.code == "M601")
    assert finding.path == ("objective", "reference", "path")
    assert finding.message == "there is no folder `models/none`, and it is no hub id"


def test_an_attention_that_a_family_lacks_is_an_error(told: Told) -> None:
    """Soft caps are not in sdpa: transformers would refuse to build the model."""
    (finding,) = told('[model]\npath = "capped-model"\nattention = "sdpa"\n')
    assert finding.message == "a model of type `gemma2` does not work with `sdpa` attention"


def test_packages_are_asked_for_only_when_needed(told: Told) -> None:
    """A plain spec looks no package up; one that needs some gets a warning for each, at the setting."""
    assert told("") == []
    findings = told(
        '[kernels]\nliger = true\n[model]\nattention = "flash2"\n[training]\nprecision = "bf16"\n'
        + GPU
    )
    assert [(item.code, item.path) for item in findings] == [
        ("V901", ("model", "attention")),
        ("V901", ("kernels", "liger")),
    ]
    assert findings[0].helps == ('install it where the run starts: `pip install "flash-attn"`',)


def test_names_of_templates_are_complete() -> None:
    """The library has 124 templates; those that think are among them."""
    assert len(library()) == 124
    assert {name for name in library() if library()[name].is_reasoning} < set(library())


def test_model_types_are_those_of_transformers() -> None:
    """The list of model types is that of the transformers the run is made for."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    assert set(CONFIG_MAPPING_NAMES) == MODEL_TYPES
