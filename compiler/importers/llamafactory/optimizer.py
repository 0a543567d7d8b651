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


def read_optimizer(work: Import, key: str = "optim") -> None:
    """Decide kind and state of the optimizer by a setting, unless a switch such as `use_galore` has."""
    name = work.settings.word(key)
    if "optimizer" in work.kinds:
        _beside_switch(work, key, name)
    elif name in ADAMW:
        work.choose("optimizer", "adamw", key)
    elif name in STATES:
        kind, state = STATES[name]
        work.choose("optimizer", kind, key)
        work.put("optimizer.state", state, key)
    elif name in ("adafactor", "sgd"):
        work.choose("optimizer", name, key)
    elif name.startswith("galore_"):
        _galore(work, key, name)
    elif name.startswith("apollo_adamw"):
        work.choose("optimizer", "apollo", key)
        work.put("optimizer.layerwise", name.endswith("_layerwise"), key)
    elif name:
        work.choose("optimizer", "transformers", key)
        work.put("optimizer.name", work.settings.text(key), key)


def _galore(work: Import, key: str, name: str) -> None:
    work.choose("optimizer", "galore", key)
    work.put("optimizer.base", BASES.get(name.removesuffix("_layerwise"), "adamw"), key)
    work.put("optimizer.layerwise", name.endswith("_layerwise"), key)


def _beside_switch(work: Import, key: str, name: str) -> None:
    if work.kinds["optimizer"] == "galore" and name in BASES:
        work.put("optimizer.base", BASES[name], key)
    elif name and name not in ADAMW:
        work.idle(key, f"the optimizer is `{work.kinds['optimizer']}`, which a switch chose")
