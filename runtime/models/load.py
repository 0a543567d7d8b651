"""Loading: a folder in the Hugging Face layout or a hub id becomes a tokenizer and a model."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import torch

from ..credentials import token_of
from ..data.around import put_around, read_template
from ..errors import ExitCode, UserError
from .adapters.earlier import Merged, merge_earlier
from .dtypes import DTYPES as DTYPES
from .dtypes import Dtype as Dtype
from .folder import display
from .hubs import Hub, snapshot
from .parts import auto_class, freeze_towers
from .quantization import Quantization, finish_quantized, quantized_arguments, widened_arguments
from .scratch import random_model
from .structure import ATTENTION, Rope, configured, finish, is_expected
from .vocabulary import NewRows, add_rows
from .vocabulary import add_tokens as append_tokens


@dataclass(frozen=True)
class Base:
    """The model a run starts from: a folder in the Hugging Face layout or a hub id, and how it is loaded."""

    path: Path | str
    _: KW_ONLY
    attention: str = "auto"
    rope: Rope | None = None
    shifted_attention: bool = False
    mixture_of_depths: Literal["off", "convert", "load"] = "off"
    fp32_norms: bool = False
    fp32_logits: bool = False
    quantization: Quantization | None = None
    revision: str | None = None
    cache_dir: Path | None = None
    token_env: str | None = None
    trust_remote_code: bool = False
    init: Literal["pretrained", "random"] = "pretrained"
    seed: int = 0
    """Decides random weights, and the rows of new tokens."""
    allow_pickle: bool = False
    new_rows: NewRows | None = None
    adapters: Merged | None = None
    hub_name: Hub = "huggingface"

    def __post_init__(self) -> None:
        """Make a family known that transformers has not."""
        if self.mixture_of_depths != "off":
            from .structure.depths import register

            register()

    @property
    def hub(self) -> dict[str, Any]:
        """What a hub is asked with, under the names `load_tokenizer` takes."""
        names = ("revision", "cache_dir", "token_env", "trust_remote_code", "hub_name")
        return {name: getattr(self, name) for name in names}


def load_tokenizer(
    path: Path | str,
    *,
    chat_template: Path | None = None,
    around_template: Path | None = None,
    eos_token: str | None = None,
    stop_words: Sequence[str] = (),
    add_tokens: Sequence[str] = (),
    add_special_tokens: Sequence[str] = (),
    split_special_tokens: bool = False,
    revision: str | None = None,
    cache_dir: Path | None = None,
    token_env: str | None = None,
    trust_remote_code: bool = False,
    hub_name: Hub = "huggingface",
) -> Any:
    """Return the fast tokenizer at `path`, with `chat_template` in place of its own when given.

    `add_tokens` and `add_special_tokens` are appended to its vocabulary. With `split_special_tokens`, special tokens
    that stand in texts are cut like ordinary words; that is not saved with the tokenizer.

    `around_template` is a file of options that stand around the template, see `data.around`.
    `eos_token` becomes the end-of-sequence token; `stop_words` become further special tokens. Both must be
    tokens of the vocabulary, as it is or with the added ones.

    Raises:
        UserError: the files are missing or broken, there is no chat template, or an end mark is no token.
    """
    from transformers import AutoTokenizer

    _check_folder(path)
    found = fetched(
        Base(path, revision=revision, cache_dir=cache_dir, token_env=token_env, hub_name=hub_name)
    )
    path, hub = found.path, hub_arguments(**{**found.hub, "trust_remote_code": trust_remote_code})
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(path), **hub)
    except Exception as fault:
        raise _load_fault("tokenizer", path, fault) from None
    if not tokenizer.is_fast:
        raise UserError(
            f"{display(path)}: the tokenizer has no fast form (`tokenizer.json`), which the loss mask needs",
            code=ExitCode.ENVIRONMENT,
        )
    tokenizer.split_special_tokens = split_special_tokens
    append_tokens(tokenizer, add_tokens, add_special_tokens)
    if chat_template is not None:
        tokenizer.chat_template = read_template(chat_template)
    if not tokenizer.chat_template:
        raise UserError(
            f"{display(path)}: the tokenizer has no chat template",
            help='name one: `[template] type = "file"`',
            code=ExitCode.DATA,
        )
    if around_template is not None:
        options = read_template(around_template)
        tokenizer.chat_template = put_around(tokenizer.chat_template, options)
    _set_ends(tokenizer, path, eos_token, stop_words)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    if tokenizer.pad_token is None:
        raise UserError(
            f"{display(path)}: the tokenizer has neither a padding nor an end-of-sequence token",
            help="name an `eos_token` in its tokenizer_config.json",
            code=ExitCode.ENVIRONMENT,
        )
    return tokenizer


def _set_ends(
    tokenizer: Any, path: Path | str, eos_token: str | None, stop_words: Sequence[str]
) -> None:
    vocabulary = tokenizer.get_vocab()
    if eos_token is not None:
        if eos_token not in vocabulary:
            raise UserError(
                f"{display(path)}: the template ends answers with {eos_token!r}, which is no token of the model",
                help="use the template that belongs to the model, or `replace_eos = false`",
                code=ExitCode.DATA,
            )
        tokenizer.eos_token = eos_token
    known = [word for word in stop_words if word in vocabulary]
    tokenizer.stop_words = known
    if known:
        tokenizer.add_special_tokens({"additional_special_tokens": known})


def load_causal_lm(base: Base | Path | str, *, dtype: Dtype, tokenizer: Any = None) -> Any:
    """Return the causal language model `base`, as it is set to be or by its path alone, with its weights in `dtype`.

    With `tokenizer`, the model gets the rows that `base` wants for tokens which were added to it.

    Where `base` is quantized it says itself what its layers compute in.

    Raises:
        UserError: the folder is missing, a weight file is missing, truncated or not safetensors, or its
            tensors do not fit the configuration.
    """
    return load_model(base, Kind(), dtype=dtype, tokenizer=tokenizer)


@dataclass(frozen=True)
class Kind:
    """What a base is loaded as: a model that writes, if nothing else is said."""

    classes: Callable[[Any], Any] = auto_class
    """Returns the class of transformers for a configuration."""
    change: Callable[[Any], None] | None = None
    """Changes the configuration before the weights are read."""
    made_anew: tuple[str, ...] = ()
    """Tensors that no file need have."""
    make: Callable[[Any], None] | None = None
    """Fills in those of them that no file has."""


def load_model(base: Base | Path | str, kind: Kind, *, dtype: Dtype, tokenizer: Any = None) -> Any:
    """Return the model `base` as a model of some kind; everything else is as in `load_causal_lm`."""
    settings = fetched(base if isinstance(base, Base) else Base(base))
    path, attention = settings.path, settings.attention
    _check_folder(path)
    chosen: dict[str, Any] = (
        {} if attention == "auto" else {"attn_implementation": ATTENTION.get(attention, attention)}
    )
    hub = hub_arguments(**settings.hub)
    quantization = settings.quantization
    if quantization is not None:
        chosen |= quantized_arguments(quantization)
        dtype = quantization.dtype
    try:
        if quantization is None:
            chosen |= widened_arguments(str(path), hub)
        chosen |= configured(settings, hub)
        model, info = _made(settings, kind, DTYPES[dtype], chosen, hub)
    except UserError:
        raise
    except Exception as fault:
        raise _load_fault("model", path, fault) from None
    missing = [name for name in info.get("missing_keys", ()) if not is_expected(name, settings)]
    _check_complete(path, [name for name in missing if name not in kind.made_anew])
    if missing and kind.make is not None:
        kind.make(model)
    if settings.adapters is not None:
        model = merge_earlier(model, settings.adapters)
    if tokenizer is not None and settings.new_rows is not None:
        model = add_rows(model, tokenizer, settings.new_rows)
    return finish_quantized(finish(model, settings), quantization)


def _made(
    base: Base, kind: Kind, dtype: torch.dtype, chosen: dict[str, Any], hub: dict[str, Any]
) -> tuple[Any, dict[str, Any]]:
    """Return the model, and what transformers says of the tensors that it found for it."""
    from transformers import AutoConfig

    config = chosen.get("config") or AutoConfig.from_pretrained(str(base.path), **hub)
    if kind.change is not None:
        kind.change(config)
        chosen["config"] = config
    classes = kind.classes(config)
    if base.init == "random":
        chosen.pop("config", None)
        code = {"trust_remote_code": base.trust_remote_code}
        return random_model(config, classes, dtype=dtype, seed=base.seed, **chosen, **code), {}
    if base.allow_pickle:
        # Otherwise transformers asks a service on the hub to convert the model.
        os.environ["DISABLE_SAFETENSORS_CONVERSION"] = "1"
    model, info = classes.from_pretrained(
        str(base.path),
        dtype=dtype,
        # None: safetensors where they are there. Pickles are unpickled without running their code.
        use_safetensors=None if base.allow_pickle else True,
        weights_only=True,
        output_loading_info=True,
        **chosen,
        **hub,
    )
    return model, info


def stored_dtype(base: Base) -> Dtype:
    """Return the number format the model's configuration names; fp32 where it names none tunec writes."""
    from transformers import AutoConfig

    base = fetched(base)
    path = base.path
    _check_folder(path)
    arguments = hub_arguments(**base.hub)
    try:
        config = AutoConfig.from_pretrained(str(path), **arguments)
    except Exception as fault:
        raise _load_fault("configuration", path, fault) from None
    named = config.dtype or config.get_text_config().dtype
    return next((name for name, dtype in DTYPES.items() if dtype == named), "fp32")


def train_all(model: Any) -> Any:
    """Return the model with every parameter trainable; of one that sees or hears, those of the language model."""
    for parameter in model.parameters():
        parameter.requires_grad_(True)
    freeze_towers(model)
    return model


def _check_folder(path: Path | str) -> None:
    if isinstance(path, Path) and not path.is_dir():
        what = "is no folder" if path.exists() else "there is no such model folder"
        raise UserError(
            f"{display(path)}: {what}",
            help="see `model.path`; `tunec fetch` writes a model folder",
            code=ExitCode.ENVIRONMENT,
        )


def fetched(base: Base) -> Base:
    """Return the base as a folder where it is a model of another hub than Hugging Face, whose files are fetched."""
    if not isinstance(base.path, str) or base.hub_name == "huggingface":
        return base
    folder = snapshot(
        base.hub_name,
        base.path,
        revision=base.revision,
        cache_dir=base.cache_dir,
        token_env=base.token_env,
    )
    return replace(
        base, path=folder, revision=None, cache_dir=None, token_env=None, hub_name="huggingface"
    )


def hub_arguments(
    revision: str | None = None,
    cache_dir: Path | None = None,
    token_env: str | None = None,
    trust_remote_code: bool = False,
    hub_name: Hub = "huggingface",
) -> dict[str, Any]:
    arguments: dict[str, Any] = {"trust_remote_code": trust_remote_code}
    if revision is not None:
        arguments["revision"] = revision
    if cache_dir is not None:
        arguments["cache_dir"] = str(cache_dir)
    if token_env is not None:
        arguments["token"] = token_of(token_env, "model.token_env")
    return arguments


def _check_complete(path: Path | str, missing: Sequence[str]) -> None:
    if missing:
        many = (
            f"{len(missing)} tensors of the model, such as " if len(missing) > 1 else "the tensor "
        )
        raise UserError(
            f"{display(path)}: the weight files lack {many}`{min(missing)}`",
            help="the download is incomplete or belongs to another model; fetch it again",
            code=ExitCode.ENVIRONMENT,
        )


def _load_fault(what: str, path: Path | str, fault: Exception) -> UserError:
    cause = next((line.strip() for line in str(fault).splitlines() if line.strip()), "")
    known = {
        "deserializing header": "a weight file is damaged (its header is not safetensors)",
        "incomplete metadata": "a weight file is truncated",
        "Weights only load failed": "a weight file holds more than tensors; its code was not run",
        "Unsupported global": "a weight file holds more than tensors; its code was not run",
        "ignore_mismatched_sizes": "the weight files have other shapes than config.json says",
    }
    for sign, text in known.items():
        if sign in str(fault):
            cause = text
    name = type(fault).__name__
    return UserError(
        f"{display(path)}: cannot load the {what}: {cause or name}",
        help="check the folder, or fetch the model again",
        code=ExitCode.ENVIRONMENT,
    )
