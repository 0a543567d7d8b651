"""Optimizers by name: spec text of full training at stage 0 in fp32, which every one of them can do."""

from __future__ import annotations

WITHOUT_CLIPPING = "[training]\nmax_grad_norm = 0.0\n"

KINDS: dict[str, str] = {
    "adamw": 'type = "adamw"\nweight_decay = 0.1',
    "adamw-8bit": 'type = "adamw"\nstate = "8bit"\nweight_decay = 0.1',
    "adamw-paged-8bit": 'type = "adamw"\nstate = "paged-8bit"',
    "adamw-paged-32bit": 'type = "adamw"\nstate = "paged-32bit"',
    "adafactor": 'type = "adafactor"\nweight_decay = 0.1',
    "sgd": 'type = "sgd"\nmomentum = 0.9\nweight_decay = 0.1',
    "lion": 'type = "lion"\nweight_decay = 0.1',
    "lion-8bit": 'type = "lion"\nstate = "8bit"',
    "lion-paged-32bit": 'type = "lion"\nstate = "paged-32bit"',
    "adam-mini": 'type = "adam-mini"\nweight_decay = 0.1',
    "muon": 'type = "muon"\nweight_decay = 0.1',
    "galore": 'type = "galore"\nrank = 4\ninterval = 2',
    "galore-right": 'type = "galore"\nrank = 4\ninterval = 2\nprojection = "right"',
    "galore-reverse-std": 'type = "galore"\nrank = 4\ninterval = 2\nprojection = "reverse-std"',
    "galore-full": 'type = "galore"\nrank = 4\ninterval = 2\nprojection = "full"',
    "galore-adafactor": 'type = "galore"\nbase = "adafactor"\nrank = 4\ninterval = 2',
    "galore-layerwise": 'type = "galore"\nlayerwise = true\nrank = 4\ninterval = 2',
    "apollo": 'type = "apollo"\nrank = 4\ninterval = 2',
    "apollo-tensor": 'type = "apollo"\nscaling = "tensor"\nrank = 1\ninterval = 2',
    "apollo-svd": 'type = "apollo"\nprojection = "svd"\nrank = 4\ninterval = 2\nlimit_after_scaling = true',
    "apollo-layerwise": 'type = "apollo"\nlayerwise = true\nrank = 4\ninterval = 2',
    "badam": 'type = "badam"\ninterval = 2\nweight_decay = 0.1',
    "badam-random": 'type = "badam"\norder = "random"\ninterval = 2',
    "badam-fixed": 'type = "badam"\norder = "fixed"\nstart_block = 1\ninterval = 2',
    "badam-ratio": 'type = "badam-ratio"\nratio = 0.2\ninterval = 2',
    "badam-ratio-scatter": 'type = "badam-ratio"\nratio = 0.2\nmask = "scatter"\ninterval = 2',
}
"""The kinds of the spec."""

NAMES = (
    "adagrad", "ademamix", "ademamix_8bit", "paged_ademamix_32bit", "paged_ademamix_8bit", "rmsprop",
    "rmsprop_bnb", "rmsprop_bnb_8bit", "rmsprop_bnb_32bit", "schedule_free_radam",
    "schedule_free_adamw", "schedule_free_sgd",
)  # fmt: skip
"""Names of transformers that run on a CPU."""


def spec_text(name: str) -> str:
    """Return the sections of a spec for one of `KINDS` or `NAMES`."""
    own = KINDS.get(name, f'type = "transformers"\nname = "{name}"')
    accumulation = 1 if "layerwise" in name else 2
    clipping = "0.0" if "layerwise" in name else "1.0"
    return (
        f"[optimizer]\n{own}\n"
        f'[method]\ntype = "full"\n'
        f"[batch]\nglobal_size = 4\naccumulation_steps = {accumulation}\n"
        f"[training]\nsteps = 6\nlearning_rate = 1e-2\nmax_grad_norm = {clipping}\n"
        'precision = "fp32"\ngradient_checkpointing = false\n'
        "[deepspeed]\nzero_stage = 0\n"
    )
