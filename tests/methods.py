"""Every method as the text of a spec, with the configuration that PEFT is given by hand for the same."""

from __future__ import annotations

from typing import Any

from attrs import evolve, field, frozen

QV = ["q_proj", "v_proj"]
ALL = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]


@frozen
class Case:
    """One way to train the tiny model."""

    spec: str
    """Sections of a spec over the small base."""
    config: str = ""
    """The name of PEFT's configuration; empty where no adapter is trained."""
    settings: dict[str, Any] = field(factory=dict)
    """What it is given by hand."""
    merges: bool = True
    """PEFT can merge the adapter into the weights."""
    sharded: bool = True
    """It runs under ZeRO stage 3."""
    trained: str = ""
    """Without adapters, a pattern for the names of the parameters that are trained."""
    is_random: bool = False
    """Numbers are drawn while training, which a loop by hand draws in another order."""

    @property
    def method(self) -> str:
        """The name of the method."""
        return self.spec.split('"')[1]


def lora(text: str = "", *, sharded: bool = True, is_random: bool = False, **settings: Any) -> Case:
    """Return a case of LoRA with rank 4 on queries and values."""
    spec = f'[method]\ntype = "lora"\nrank = 4\ntargets = ["q_proj", "v_proj"]\n{text}\n'
    given = {"r": 4, "lora_alpha": 8.0, "target_modules": QV, **settings}
    return Case(spec, "LoraConfig", given, sharded=sharded, is_random=is_random)


def other(kind: str, config: str, text: str = "", **settings: Any) -> Case:
    """Return a case of another method with targets."""
    spec = f'[method]\ntype = "{kind}"\ntargets = ["q_proj", "v_proj"]\n{text}\n'
    return Case(spec, config, {"target_modules": QV, **settings})


METHODS: dict[str, Case] = {
    "full": Case('[method]\ntype = "full"\n', trained="."),
    "freeze": Case('[method]\ntype = "freeze"\nblocks = 1\n', trained=r"layers\.1\."),
    "freeze-first": Case(
        '[method]\ntype = "freeze"\nblocks = 1\nside = "first"\nmodules = ["mlp"]\n'
        'extra_modules = ["norm", "embed_tokens"]\n',
        trained=r"layers\.0\.mlp\.|model\.norm|embed_tokens",
    ),
    "lora": lora(),
    "lora-all": Case(
        '[method]\ntype = "lora"\nrank = 4\n',
        "LoraConfig",
        {"r": 4, "lora_alpha": 8.0, "target_modules": ALL},
    ),
    "lora-dropout": lora("dropout = 0.2", is_random=True, lora_dropout=0.2),
    "rslora": lora("rank_stabilized = true", use_rslora=True),
    "dora": lora("dora = true", use_dora=True),
    "gaussian": lora('init = { type = "gaussian" }', init_lora_weights="gaussian"),
    "orthogonal": lora('init = { type = "orthogonal" }', init_lora_weights="orthogonal"),
    "olora": lora('init = { type = "olora" }', sharded=False, init_lora_weights="olora"),
    "pissa": lora(
        'init = { type = "pissa", iterations = 4 }',
        sharded=False,
        init_lora_weights="pissa_niter_4",
    ),
    "pissa-exact": lora(
        'init = { type = "pissa", exact = true, convert = false }',
        sharded=False,
        init_lora_weights="pissa",
    ),
    "patterns": lora(
        'rank_pattern = { "layers.0.*q_proj" = 2 }\nalpha_pattern = { "v_proj" = 2.0 }',
        rank_pattern={"layers.0.*q_proj": 2},
        alpha_pattern={"v_proj": 2.0},
    ),
    "layers": lora("layers = [1]", layers_to_transform=[1]),
    "bias": lora('bias = "all"', bias="all"),
    "full-modules": lora('full_modules = ["norm"]', modules_to_save=["norm"]),
    "embeddings": lora(
        'full_modules = ["embed_tokens"]',
        modules_to_save=["embed_tokens"],
        ensure_weight_tying=True,
    ),
    "tokens": lora(
        'trainable_tokens = ["<|im_start|>", "<|im_end|>"]',
        sharded=False,
        trainable_token_indices=[1, 2],
    ),
    "oft": other("oft", "OFTConfig", "block_size = 8", r=0, oft_block_size=8),
    "oft-blocks": other("oft", "OFTConfig", "num_blocks = 4", r=4, oft_block_size=0),
    "boft": other("boft", "BOFTConfig", boft_block_size=4, boft_n_butterfly_factor=1),
    "ia3": Case(
        '[method]\ntype = "ia3"\ntargets = ["k_proj", "v_proj", "down_proj"]\n',
        "IA3Config",
        {
            "target_modules": ["k_proj", "v_proj", "down_proj"],
            "feedforward_modules": ["down_proj"],
        },
    ),
    "adalora": Case(
        '[method]\ntype = "adalora"\ntargets = ["q_proj", "v_proj"]\nrank = 2\ninitial_rank = 4\n',
        "AdaLoraConfig",
        {
            "target_r": 2,
            "init_r": 4,
            "lora_alpha": 4.0,
            "target_modules": QV,
            "total_step": 4,
        },
        sharded=False,
    ),
    "vera": other("vera", "VeraConfig", "rank = 16", r=16),
    "loha": evolve(other("loha", "LoHaConfig", "rank = 4", r=4, alpha=4.0), sharded=False),
    "lokr": other("lokr", "LoKrConfig", "rank = 2", r=2, alpha=2.0),
    "fourierft": other(
        "fourierft", "FourierFTConfig", "frequencies = 50", n_frequency=50, scaling=150.0
    ),
    "fourierft-zero": other(
        "fourierft",
        "FourierFTConfig",
        'frequencies = 20\nscale = 300\nseed = 5\nstart = "zero"\nlayers = [1]',
        n_frequency=20,
        scaling=300.0,
        random_loc_seed=5,
        init_weights=True,
        layers_to_transform=[1],
    ),
    "hra": other("hra", "HRAConfig", "rank = 4", r=4),
    "randlora": other("randlora", "RandLoraConfig", "rank = 4", r=4, randlora_alpha=80),
    "randlora-sparse": other(
        "randlora",
        "RandLoraConfig",
        'rank = 5\nalpha = 20.0\nsparsity = "sparse"',
        r=5,
        randlora_alpha=20,
        sparse=True,
    ),
    "miss": other("miss", "MissConfig", "rank = 8", r=8),
    "miss-uneven": other("miss", "MissConfig", "rank = 5", r=5),
    "miss-bat": other("miss", "MissConfig", 'rank = 8\nvariant = "bat"', r=8, init_weights="bat"),
    "miss-mini": other(
        "miss",
        "MissConfig",
        'rank = 8\nvariant = "mini"\nmini_rank = 4',
        r=8,
        init_weights="mini",
        mini_r=4,
    ),
    "shira": other("shira", "ShiraConfig", "rank = 4\nseed = 7", r=4, random_seed=7),
    "c3a": other("c3a", "C3AConfig", "block_size = 8", block_size=8),
    "c3a-zero": other(
        "c3a", "C3AConfig", 'block_size = 16\nstart = "zero"', block_size=16, init_weights=True
    ),
    "ln-tuning": Case(
        '[method]\ntype = "ln-tuning"\n',
        "LNTuningConfig",
        {"target_modules": ["input_layernorm", "post_attention_layernorm", "norm"]},
        sharded=False,
    ),
    "ln-tuning-some": Case(
        '[method]\ntype = "ln-tuning"\nnorms = ["input_layernorm"]\nfull_modules = ["o_proj"]\n',
        "LNTuningConfig",
        {"target_modules": ["input_layernorm"], "modules_to_save": ["o_proj"]},
        sharded=False,
    ),
    "road": other("road", "RoadConfig", "group_size = 8", group_size=8),
    "road-4": other(
        "road", "RoadConfig", "group_size = 16\nvariant = 4", group_size=16, variant="road_4"
    ),
    "vblora": evolve(
        other(
            "vblora",
            "VBLoRAConfig",
            "rank = 2\nnum_vectors = 12\nvector_length = 8",
            r=2,
            num_vectors=12,
            vector_length=8,
        ),
        sharded=False,
    ),
    "vblora-full-modules": evolve(
        other(
            "vblora",
            "VBLoRAConfig",
            "rank = 2\nnum_vectors = 12\nvector_length = 8\ntop_k = 3\nbank_bound = 0.1\nlogits_std = 0.5\n"
            'full_modules = ["norm"]',
            r=2,
            num_vectors=12,
            vector_length=8,
            topk=3,
            init_vector_bank_bound=0.1,
            init_logits_std=0.5,
            modules_to_save=["norm"],
        ),
        sharded=False,
    ),
    "prefix": Case(
        '[method]\ntype = "prefix"\nnum_tokens = 5\n',
        "PrefixTuningConfig",
        {"num_virtual_tokens": 5},
        merges=False,
    ),
    "prefix-projection": Case(
        '[method]\ntype = "prefix"\nnum_tokens = 5\nprojection = true\n',
        "PrefixTuningConfig",
        {"num_virtual_tokens": 5, "prefix_projection": True, "encoder_hidden_size": 32},
        merges=False,
    ),
    "prompt": Case(
        '[method]\ntype = "prompt"\nnum_tokens = 5\n',
        "PromptTuningConfig",
        {"num_virtual_tokens": 5},
        merges=False,
    ),
    "prompt-text": Case(
        '[method]\ntype = "prompt"\nnum_tokens = 5\ntext = "You are Wren."\n',
        "PromptTuningConfig",
        {
            "num_virtual_tokens": 5,
            "prompt_tuning_init": "TEXT",
            "prompt_tuning_init_text": "You are Wren.",
        },
        merges=False,
    ),
    "p-tuning": Case(
        '[method]\ntype = "p-tuning"\nnum_tokens = 5\n',
        "PromptEncoderConfig",
        {"num_virtual_tokens": 5, "encoder_hidden_size": 32},
        merges=False,
    ),
    "p-tuning-lstm": Case(
        '[method]\ntype = "p-tuning"\nnum_tokens = 5\nnetwork = "lstm"\nhidden_size = 12\nnum_layers = 3\n',
        "PromptEncoderConfig",
        {
            "num_virtual_tokens": 5,
            "encoder_reparameterization_type": "LSTM",
            "encoder_hidden_size": 12,
            "encoder_num_layers": 3,
        },
        merges=False,
    ),
}
