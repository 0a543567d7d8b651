"""Names of transformers' optimizers and what they are here."""

from __future__ import annotations

from ..placing import Import

ADAMW = ("adamw_torch", "adamw_torch_fused", "adamw_hf", "adamw_apex_fused", "adamw_torch_xla")
STATES = {
    "adamw_bnb_8bit": ("adamw", "8bit"),
    "adamw_8bit": ("adamw", "8bit"),
    "paged_adamw": ("adamw", "paged-32bit"),
    "paged_adamw_32bit": ("adamw", "paged-32bit"),
    "paged_adamw_8bit": ("adamw", "paged-8bit"),
    "lion": ("lion", "fp32"),
    "lion_32bit": ("lion", "fp32"),
    "lion_8bit": ("lion", "8bit"),
    "paged_lion": ("lion", "paged-32bit"),
    "paged_lion_32bit": ("lion", "paged-32bit"),
    "paged_lion_8bit": ("lion", "paged-8bit"),
}
"""Name to kind and state."""

BASES = {
    "adamw_torch": "adamw",
    "adamw_torch_fused": "adamw",
    "adamw_bnb_8bit": "adamw-8bit",
    "adamw_8bit": "adamw-8bit",
    "paged_adamw_8bit": "adamw-8bit",
    "adafactor": "adafactor",
    "galore_adamw": "adamw",
    "galore_adamw_8bit": "adamw-8bit",
    "galore_adafactor": "adafactor",
}
"""Name to what GaLore works with."""


def read_optimizer(work: Import) -> None:
    """Decide kind and state of the optimizer by `optim`, unless a switch such as `use_galore` has."""
    name = work.settings.word("optim")
    if "optimizer" in work.kinds:
        _beside_switch(work, name)
    elif name in ADAMW:
        work.choose("optimizer", "adamw", "optim")
    elif name in STATES:
        kind, state = STATES[name]
        work.choose("optimizer", kind, "optim")
        work.put("optimizer.state", state, "optim")
    elif name in ("adafactor", "sgd"):
        work.choose("optimizer", name, "optim")
    elif name.startswith("galore_"):
        _galore(work, name)
    elif name.startswith("apollo_adamw"):
        work.choose("optimizer", "apollo", "optim")
        work.put("optimizer.layerwise", name.endswith("_layerwise"), "optim")
    elif name:
        work.choose("optimizer", "transformers", "optim")
        work.put("optimizer.name", work.settings.text("optim"), "optim")


def _galore(work: Import, name: str) -> None:
    work.choose("optimizer", "galore", "optim")
    work.put("optimizer.base", BASES.get(name.removesuffix("_layerwise"), "adamw"), "optim")
    work.put("optimizer.layerwise", name.endswith("_layerwise"), "optim")


def _beside_switch(work: Import, name: str) -> None:
    if work.kinds["optimizer"] == "galore" and name in BASES:
        work.put("optimizer.base", BASES[name], "optim")
    elif name and name not in ADAMW:
        work.idle("optim", f"the optimizer is `{work.kinds['optimizer']}`, which a switch chose")
