"""Facts about a model folder: configuration, tensor shapes, tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from attrs import evolve, field, frozen

from . import config as settings_of
from .config import Quantized
from .files import read_json, read_text
from .unpacked import unpacked
from .weights import TensorFacts, pickles, read_tensors

ModelState = Literal[
    "folder", "hub", "missing", "gguf", "file", "no-config", "bad-config", "impossible"
]
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
NOT_ADAPTED = re.compile(r"embed|wte|wpe|lm_head|embed_out|^score$")
WORD_HEADS = ("lm_head", "embed_out", "output")
"""Names of heads that write, of which a reward model has none."""
SCORE = "score.weight"
"""The tensor of the head that scores."""
HUB_ROUTES = ("models/", "datasets/", "spaces/")
"""Names that no organisation on the hub can have: such a path is a folder."""


@frozen
class ModelFacts:
    """What is known about a model (or tokenizer) without loading it."""

    state: ModelState
    config: Mapping[str, Any] = field(factory=dict)
    tensors: Mapping[str, TensorFacts] | None = None
    weights_fault: str | None = None
    template: str | None = None
    has_tokenizer: bool = False
    eos_token: str | None = None
    pad_token: str | None = None
    pickles: tuple[str, ...] = ()
    """Weight files that are pickles."""
    tokenizer_class: str | None = None
    generation: Mapping[str, Any] = field(factory=dict)
    """`generation_config.json`."""
    beside: bool = False
    """A hub id whose first part is also the name of a folder here."""

    @property
    def known(self) -> bool:
        """Tell whether tensor shapes are known."""
        return self.tensors is not None

    @property
    def text_config(self) -> Mapping[str, Any]:
        """The configuration of the language part."""
        return settings_of.text_part(self.config)

    @property
    def has_config(self) -> bool:
        """Tell whether the configuration is known; that of a hub id is not."""
        return bool(self.config)

    @property
    def model_type(self) -> str | None:
        """The family of the model, such as `llama`."""
        return settings_of.text(self.config, "model_type")

    @property
    def text_type(self) -> str | None:
        """The family of the language part."""
        return settings_of.text(self.text_config, "model_type") or self.model_type

    @property
    def architectures(self) -> tuple[str, ...]:
        """Names of the classes the weights were saved from."""
        listed = self.config.get("architectures")
        return tuple(map(str, listed)) if isinstance(listed, list) else ()

    @property
    def has_code(self) -> bool:
        """Tell whether the model brings Python code of its own."""
        return isinstance(self.config.get("auto_map"), Mapping)

    @property
    def is_tied(self) -> bool | None:
        """Tell whether output head and input embeddings are one; None where the configuration is silent."""
        value = self.config.get("tie_word_embeddings", self.text_config.get("tie_word_embeddings"))
        return value if isinstance(value, bool) else None

    @property
    def quantized(self) -> Quantized | None:
        """How the checkpoint is quantized already."""
        return settings_of.quantized(self.config)

    @property
    def num_layers(self) -> int | None:
        """Number of transformer blocks."""
        return settings_of.num_layers(self.config)

    @property
    def num_experts(self) -> int:
        """Number of experts; 0 for a dense model."""
        return settings_of.num_experts(self.config)

    @property
    def embedding_rows(self) -> int | None:
        """Rows of the embeddings, which is room for so many tokens."""
        return settings_of.whole(self.text_config, "vocab_size")

    def number(self, name: str) -> int | None:
        """Return a whole number of the configuration, or None."""
        return settings_of.whole(self.text_config, name)

    def linear_modules(self) -> dict[str, TensorFacts]:
        """Return the two-dimensional weights by module, without embeddings and the output head.

        Of a model that sees or hears, those of the language model: nothing else is trained on texts.
        """
        return self._linear

    @cached_property
    def _linear(self) -> dict[str, TensorFacts]:
        sees = settings_of.sees_or_hears(self.config)
        return {
            name.removesuffix(".weight"): tensor
            for name, tensor in self._unpacked.items()
            if name.endswith(".weight")
            and len(tensor.shape) == 2
            and not NOT_ADAPTED.search(name.rsplit(".", 2)[-2])
            and not (sees and settings_of.BESIDE_LANGUAGE.search(name))
        }

    @cached_property
    def _unpacked(self) -> Mapping[str, TensorFacts]:
        return unpacked(self.tensors or {}, self.quantized, self.text_config)

    def count_beside_language(self) -> int:
        """Number of parameters of towers and projectors, which stay frozen; 0 for a model that only reads."""
        if not settings_of.sees_or_hears(self.config):
            return 0
        named = (self.tensors or {}).items()
        return sum(t.count for name, t in named if settings_of.BESIDE_LANGUAGE.search(name))

    def parameter_count(self) -> int | None:
        """Number of parameters that the weight files stand for."""
        return None if self.tensors is None else sum(t.count for t in self._unpacked.values())


def read_model(base: Path, path: str, snapshot: Path | None = None) -> ModelFacts:
    """Return the facts of the model at `path`, relative to `base`; a name that is no folder may be a hub id.

    Those of a hub id are unknown, unless `snapshot` names the folder it was fetched to before.
    """
    return _with_snapshot(_read(base, path, _read_folder), snapshot, _read_folder)


def read_tokenizer(base: Path, path: str, snapshot: Path | None = None) -> ModelFacts:
    """Return the facts of a tokenizer, which needs neither `config.json` nor weights."""
    return _with_snapshot(
        _read(base, path, _read_tokenizer_folder), snapshot, _read_tokenizer_folder
    )


def scoring(model: ModelFacts) -> ModelFacts:
    """Return the facts of the model as one that scores texts: its head is another."""
    hidden = model.number("hidden_size")
    if model.tensors is None or hidden is None:
        return model
    kept = {n: t for n, t in model.tensors.items() if _module(n) not in WORD_HEADS}
    dtype = next((tensor.dtype for tensor in kept.values()), "F32")
    return evolve(
        model,
        config={**model.config, "tie_word_embeddings": False},
        tensors={**kept, SCORE: TensorFacts((1, hidden), dtype)},
    )


def _module(tensor: str) -> str:
    return tensor.rsplit(".", 2)[-2] if "." in tensor else ""


def _with_snapshot(
    found: ModelFacts, snapshot: Path | None, read_folder: Callable[[Path], ModelFacts]
) -> ModelFacts:
    if found.state != "hub" or snapshot is None:
        return found
    fetched = read_folder(snapshot)
    if fetched.state != "folder" or fetched.weights_fault is not None:
        # Fetched in part only: the run fetches the rest, and nothing is wrong with the spec.
        return found
    return evolve(fetched, state="hub", beside=found.beside)


def _read(base: Path, path: str, read_folder: Callable[[Path], ModelFacts]) -> ModelFacts:
    try:
        place = base / path
        if place.is_dir():
            return read_folder(place)
        if place.exists():
            return ModelFacts("gguf" if place.suffix == ".gguf" else "file")
        beside = (base / path.partition("/")[0]).is_dir()
    except (OSError, ValueError):
        return ModelFacts("impossible")
    is_local = path.endswith(".gguf") or path.startswith(HUB_ROUTES) or not HUB_ID.fullmatch(path)
    return ModelFacts("missing") if is_local else ModelFacts("hub", beside=beside)


def _read_folder(folder: Path) -> ModelFacts:
    if not (folder / "config.json").is_file():
        return ModelFacts("no-config")
    config = read_json(folder / "config.json")
    if config is None:
        return ModelFacts("bad-config")
    tensors, fault = read_tensors(folder)
    tokenizer = _read_tokenizer_folder(folder)
    return evolve(
        tokenizer,
        config=config,
        tensors=tensors,
        weights_fault=fault,
        pickles=pickles(folder),
        generation=read_json(folder / "generation_config.json") or {},
    )


def _read_tokenizer_folder(folder: Path) -> ModelFacts:
    settings = read_json(folder / "tokenizer_config.json") or {}
    class_name = settings.get("tokenizer_class")
    return ModelFacts(
        "folder",
        template=_template(folder, settings),
        has_tokenizer=(folder / "tokenizer.json").is_file(),
        eos_token=_token_text(settings.get("eos_token")),
        pad_token=_token_text(settings.get("pad_token")),
        tokenizer_class=class_name if isinstance(class_name, str) else None,
    )


def _template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    try:
        return read_text(folder / "chat_template.jinja")
    except (OSError, UnicodeDecodeError):
        value = settings.get("chat_template")
        return value if isinstance(value, str) else None


def _token_text(value: Any) -> str | None:
    if isinstance(value, dict):
        value = value.get("content")
    return value if isinstance(value, str) else None
