"""Plain data to `Spec` through cattrs: no coercion, and all structural errors at once.

The converter's hooks raise when a value does not fit its type; cattrs gathers these into a tree. Each error of
the tree becomes a diagnostic, its value gives way to the default (or to a placeholder of the right type), and
the data is structured again. So there is always a `Spec`, and rules can judge whatever is not broken.

Everything here follows from the attrs classes: a new section or field needs no change.
"""

from __future__ import annotations

import datetime
import re
import types
from collections.abc import Callable, Iterator, Mapping
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin

import attrs
from attrs import evolve, frozen
from cattrs import (
    AttributeValidationNote,
    ClassValidationError,
    Converter,
    ForbiddenExtraKeysError,
    IterableValidationError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from .diagnostics import Diagnostic, Label, SpecPath, error
from .docs import field_docs, first_sentence
from .spec import Spec

CODES: dict[str, str] = {
    "T201": (
        "The key or section does not exist. Unknown keys are errors, because a misspelled key would otherwise "
        "leave its default in force without a word. `tunec explain SECTION` lists the keys of a section."
    ),
    "T202": "A value or section without a default is missing. Add it where the finding points.",
    "T203": (
        'The value is of another type than its field. Nothing is converted silently: `"16"` is text and no '
        "number, `true` is no number, and `3.7` is no whole number. A whole number may stand for `3.0`."
    ),
    "T204": "The value is not one of the choices of its field. The choices are listed with the finding.",
    "T205": (
        "The section comes in several kinds, told apart by one key such as `type`, and this kind does not "
        "exist. The other keys of the section are judged once its kind is known."
    ),
    "T206": (
        'The key exists, but for another kind of this section: `rank` belongs to `type = "lora"` and means '
        'nothing for `type = "full"`. Remove the key or change the kind.'
    ),
}

RENAMED: dict[str, str] = {
    # LLaMA-Factory, Axolotl and TRL say -> here it is
    "model_name_or_path": "model.path",
    "base_model": "model.path",
    "pretrained_model_name_or_path": "model.path",
    "model_revision": "model.revision",
    "hf_hub_token": "model.token_env",
    "flash_attn": "model.attention",
    "attn_implementation": "model.attention",
    "tokenizer_name_or_path": "tokenizer.path",
    "template": "template.type",
    "chat_template": "template.type",
    "chat_template_jinja": "template.path",
    "dataset": "data.sources",
    "datasets": "data.sources",
    "dataset_dir": "data.sources",
    "train_file": "data.sources",
    "eval_dataset": "data.eval_sources",
    "test_datasets": "data.eval_sources",
    "val_size": "data.eval_rows",
    "val_set_size": "data.eval_rows",
    "cutoff_len": "data.max_length",
    "sequence_len": "data.max_length",
    "max_seq_length": "data.max_length",
    "model_max_length": "data.max_length",
    "max_samples": "data.sources.limit",
    "finetuning_type": "method.type",
    "adapter": "method.type",
    "lora_rank": "method.rank",
    "lora_r": "method.rank",
    "r": "method.rank",
    "lora_alpha": "method.alpha",
    "lora_dropout": "method.dropout",
    "lora_target": "method.targets",
    "lora_target_modules": "method.targets",
    "lora_target_linear": "method.targets",
    "target_modules": "method.targets",
    "stage": "objective.type",
    "rl": "objective.type",
    "train_on_inputs": "objective.loss_on",
    "train_on_prompt": "objective.loss_on",
    "assistant_only_loss": "objective.loss_on",
    "num_train_epochs": "training.epochs",
    "num_epochs": "training.epochs",
    "max_steps": "training.steps",
    "learning_rate": "training.learning_rate",
    "lr": "training.learning_rate",
    "lr_scheduler_type": "training.schedule",
    "lr_scheduler": "training.schedule",
    "warmup_ratio": "training.warmup_ratio",
    "warmup_steps": "training.warmup_steps",
    "max_grad_norm": "training.max_grad_norm",
    "bf16": 'training.precision = "bf16"',
    "fp16": 'training.precision = "fp16"',
    "pure_bf16": 'training.precision = "bf16"',
    "seed": "training.seed",
    "optim": "optimizer.type",
    "adam_beta1": "optimizer.beta1",
    "adam_beta2": "optimizer.beta2",
    "adam_epsilon": "optimizer.epsilon",
    "weight_decay": "optimizer.weight_decay",
    "train_batch_size": "batch.global_size",
    "per_device_train_batch_size": "batch.micro_size",
    "micro_batch_size": "batch.micro_size",
    "train_micro_batch_size_per_gpu": "batch.micro_size",
    "gradient_accumulation_steps": "batch.accumulation_steps",
    "eval_steps": "evaluation.every_steps",
    "per_device_eval_batch_size": "evaluation.micro_size",
    "eval_batch_size": "evaluation.micro_size",
    "zero_optimization": "deepspeed.zero_stage",
    "num_processes": "launch.processes",
    "nproc_per_node": "launch.processes",
    "use_cpu": 'launch.device = "cpu"',
    "save_steps": "checkpoints.every_steps",
    "save_total_limit": "checkpoints.keep",
    "logging_steps": "logging.every_steps",
    "plot_loss": "logging.plot",
    "run_name": "run.name",
    "overwrite_output_dir": 'run.on_existing = "overwrite"',
    "resume_from_checkpoint": 'run.on_existing = "resume"',
    "auto_resume_from_checkpoints": 'run.on_existing = "resume"',
    "default_system": "generation.system",
    "export_dir": "export.output_dir",
    "export_size": "export.max_shard_gib",
}
"""Names of other trainers, with the key (or the setting) that takes their place in a spec."""


@frozen
class Structured:
    """A spec that exists whatever the data were; `broken` names the paths that rules must not judge."""

    spec: Spec
    broken: frozenset[SpecPath]
    diagnostics: tuple[Diagnostic, ...]


def structure(data: dict[str, Any]) -> Structured:
    """Structure the data of a document; every structural error becomes a diagnostic."""
    converter = _converter()
    broken: set[SpecPath] = set()
    diagnostics: list[Diagnostic] = []
    while True:
        try:
            spec = converter.structure(data, Spec)
        except (ClassValidationError, _Refusal) as refusal:
            faults = _without_echoes(list(_walk(refusal, data, _Node((), Spec))))
            data = _repaired(data, faults)
            broken.update(path for fault in faults for path in fault.broken)
            diagnostics += [fault.diagnostic for fault in faults if fault.diagnostic is not None]
        else:
            return Structured(spec, frozenset(broken), tuple(diagnostics))


def unstructure(spec: Any) -> dict[str, Any]:
    """Return a spec (or one of its sections) as plain data: no `None`, lists for tuples."""
    named = ((field.name, getattr(spec, field.name)) for field in attrs.fields(type(spec)))
    return {name: _plain(value) for name, value in named if value is not None}


def _plain(value: Any) -> Any:
    if attrs.has(type(value)):
        return unstructure(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def dotted(path: SpecPath) -> str:
    """Return a path as people write it: `data.sources[0].path`."""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path)
    return text.removeprefix(".")


# --- types -----------------------------------------------------------------------------------------------


@cache
def _fields(cls: type) -> dict[str, attrs.Attribute[Any]]:
    attrs.resolve_types(cls)
    return attrs.fields_dict(cls)


def _arms(type_: Any) -> tuple[Any, ...]:
    """Return the members of a union but None; any other type is its own only arm."""
    if get_origin(type_) in (Union, types.UnionType):
        return tuple(arm for arm in get_args(type_) if arm is not types.NoneType)
    return (type_,)


def _is_union(type_: Any) -> bool:
    return get_origin(type_) in (Union, types.UnionType)


def _is_literal(type_: Any) -> bool:
    return get_origin(type_) is Literal


def _is_list(type_: Any) -> bool:
    return get_origin(type_) is tuple and get_args(type_)[1:] == (...,)


def _is_mapping(type_: Any) -> bool:
    return get_origin(type_) is dict and get_args(type_)[:1] == (str,)


def _are_tables(arms: tuple[Any, ...]) -> bool:
    return all(isinstance(arm, type) and attrs.has(arm) for arm in arms)


@cache
def _tag(cls: type) -> tuple[str, str] | None:
    """Return name and value of the field that tells a class from the others of its union."""
    for name, field in _fields(cls).items():
        choices = get_args(field.type) if _is_literal(field.type) else ()
        if len(choices) == 1 and isinstance(choices[0], str):
            return name, choices[0]
    return None


def _is_required(cls: type, name: str) -> bool:
    return _fields(cls)[name].default is attrs.NOTHING


def _choices(type_: Any) -> tuple[Any, ...]:
    return tuple(choice for arm in _arms(type_) if _is_literal(arm) for choice in get_args(arm))


def _placeholder(type_: Any) -> Any:
    """Return plain data that structures as the type, to stand in for what is missing or broken."""
    arm = _arms(type_)[0]
    if _is_literal(arm):
        return get_args(arm)[0]
    if _is_list(arm):
        return []
    if _is_mapping(arm):
        return {}
    if _are_tables((arm,)):
        required = (name for name in _fields(arm) if _is_required(arm, name))
        return {name: _placeholder(_fields(arm)[name].type) for name in required}
    return {int: 1, float: 1.0, str: "", bool: False}[arm]


# --- hooks -----------------------------------------------------------------------------------------------


class _Refusal(Exception):  # noqa: N818 - raised and caught in here only
    """A value that does not fit."""


class _Mismatch(_Refusal):
    def __init__(self, value: Any, expected: Any) -> None:
        self.value = value
        self.expected = expected
        super().__init__()


class _MissingTag(_Refusal):
    def __init__(self, value: dict[str, Any], arms: tuple[type, ...]) -> None:
        self.value = value
        self.arms = arms
        super().__init__()


class _UnknownTag(_MissingTag):
    pass


@cache
def _converter() -> Converter:
    # cattrs compiles a function for each class at first use: some milliseconds, spent once.
    converter = Converter(forbid_extra_keys=True)
    for exact in (int, str, bool):
        converter.register_structure_hook(exact, _structure_exact)
    converter.register_structure_hook(float, _structure_float)
    converter.register_structure_hook_func(_is_literal, _structure_literal)
    converter.register_structure_hook_factory(attrs.has, _table_hook)
    converter.register_structure_hook_factory(_is_list, _list_hook)
    converter.register_structure_hook_factory(_is_mapping, _mapping_hook)
    converter.register_structure_hook_factory(_is_union, _union_hook)
    return converter


_Hook = Callable[[Any, Any], Any]


def _structure_exact(value: Any, type_: Any) -> Any:
    if type(value) is not type_:
        raise _Mismatch(value, type_)
    return value


def _structure_float(value: Any, type_: Any) -> float:
    if type(value) not in (int, float):
        raise _Mismatch(value, type_)
    return float(value)


def _structure_literal(value: Any, type_: Any) -> Any:
    # `True in (0, 1)` holds, so that the type is compared as well.
    if any(type(value) is type(choice) and value == choice for choice in get_args(type_)):
        return value
    raise _Mismatch(value, type_)


def _table_hook(cls: type, converter: Converter) -> _Hook:
    structure_fields: _Hook = make_dict_structure_fn(cls, converter)

    def structure_table(value: Any, type_: Any) -> Any:
        _choose_arm(value, (cls,))
        return structure_fields(value, type_)

    return structure_table


def _choose_arm(value: Any, arms: tuple[type, ...]) -> type:
    """Return the class whose tag the table carries."""
    if type(value) is not dict:
        raise _Mismatch(value, Union[arms])  # noqa: UP007 - made at run time
    tags = {arm: tag for arm in arms if (tag := _tag(arm)) is not None}
    if not tags:
        return arms[0]
    for arm, (name, wanted) in tags.items():
        found = value.get(name)
        if found == wanted or (name not in value and not _is_required(arm, name)):
            return arm
    name = tags[arms[0]][0]
    raise (_UnknownTag if name in value else _MissingTag)(value, arms)


def _list_hook(type_: Any, converter: Converter) -> _Hook:
    item_type = get_args(type_)[0]

    def structure_list(value: Any, _: Any) -> tuple[Any, ...]:
        if type(value) is not list:
            raise _Mismatch(value, type_)
        return tuple(_structure_items(dict(enumerate(value)), item_type, type_, converter).values())

    return structure_list


def _mapping_hook(type_: Any, converter: Converter) -> _Hook:
    item_type = get_args(type_)[1]

    def structure_mapping(value: Any, _: Any) -> dict[str, Any]:
        if type(value) is not dict:
            raise _Mismatch(value, type_)
        return _structure_items(value, item_type, type_, converter)

    return structure_mapping


def _structure_items(
    items: Mapping[Any, Any], item_type: Any, type_: Any, converter: Converter
) -> dict[Any, Any]:
    structured = {}
    refusals: list[Exception] = []
    for index, item in items.items():
        try:
            structured[index] = converter.structure(item, item_type)
        except (_Refusal, ClassValidationError, IterableValidationError) as refusal:
            refusal.add_note(IterableValidationNote(str(index), index, item_type))
            refusals.append(refusal)
    if refusals:
        raise IterableValidationError("", refusals, type_)
    return structured


def _union_hook(type_: Any, converter: Converter) -> _Hook:
    arms = _arms(type_)

    def structure_table(value: Any, _: Any) -> Any:
        return converter.structure(value, _choose_arm(value, arms))

    def structure_value(value: Any, _: Any) -> Any:
        fitting = [arm for arm in arms if _fits(value, arm)]
        if not fitting:
            raise _Mismatch(value, type_)
        # A whole number fits `int | float` twice; its own type is the better one.
        arm = next((arm for arm in fitting if type(value) is arm), fitting[0])
        try:
            return converter.structure(value, arm)
        except _Mismatch:
            raise _Mismatch(value, type_) from None

    return structure_table if _are_tables(arms) else structure_value


def _fits(value: Any, arm: Any) -> bool:
    """Return whether the kind of value is right; whether the value is, its hook says."""
    if _is_literal(arm):
        return type(value) in {type(choice) for choice in get_args(arm)}
    if _is_list(arm):
        return type(value) is list
    if _is_mapping(arm) or _are_tables((arm,)):
        return type(value) is dict
    return type(value) is arm or (arm is float and type(value) is int)


# --- from cattrs' errors to faults -----------------------------------------------------------------------


_REMOVE = object()


@frozen
class _Fault:
    """One structural error: what to say, which paths it spoils, and what takes the value's place."""

    path: SpecPath
    diagnostic: Diagnostic | None
    broken: tuple[SpecPath, ...]
    repair: Any = _REMOVE
    claims: tuple[SpecPath, ...] = ()
    """Absent values that were probably meant; nothing is said about their absence."""


@frozen
class _Node:
    """A place in the data with its type, and what may stand there instead."""

    path: SpecPath
    type: Any
    repair: Any = _REMOVE

    def field(self, cls: type, name: str) -> _Node:
        type_ = _fields(cls)[name].type
        repair = _placeholder(type_) if _is_required(cls, name) else _REMOVE
        return _Node((*self.path, name), type_, repair)

    def item(self, index: str | int, type_: Any) -> _Node:
        return _Node((*self.path, index), type_, _placeholder(type_))


def _walk(refusal: BaseException, data: Any, node: _Node) -> Iterator[_Fault]:
    """Yield the faults of a tree of refusals. `data` is the value at the node."""
    if isinstance(refusal, ClassValidationError):
        for inner in refusal.exceptions:
            yield from _walk_field(inner, data, node, refusal.cl)
    elif isinstance(refusal, IterableValidationError):
        for inner in refusal.exceptions:
            note = _note(inner, IterableValidationNote)
            yield from _walk(inner, data[note.index], node.item(note.index, note.type))
    elif isinstance(refusal, _Refusal):
        diagnostic = _refusal_diagnostic(refusal, node)
        yield _Fault(node.path, diagnostic, (node.path,), node.repair)
    else:
        raise refusal  # a fault of this program, not of the spec


def _walk_field(inner: BaseException, data: Any, node: _Node, cls: type) -> Iterator[_Fault]:
    if isinstance(inner, ForbiddenExtraKeysError):
        for key in sorted(inner.extra_fields):
            yield _unknown_key(_Table(node, cls, data), key)
        return
    field = node.field(cls, _note(inner, AttributeValidationNote).name)
    if isinstance(inner, KeyError):
        yield _Fault(field.path, _missing_value(field, cls), (field.path,), field.repair)
    else:
        yield from _walk(inner, data[field.path[-1]], field)


def _note(refusal: BaseException, kind: Any) -> Any:
    for note in getattr(refusal, "__notes__", ()):
        if isinstance(note, kind):
            return note
    raise refusal  # a fault of this program, not of the spec


def _without_echoes(faults: list[_Fault]) -> list[_Fault]:
    """Silence "missing" where an unknown key was probably meant to be the missing one."""
    claimed = {path for fault in faults for path in fault.claims}
    return [
        evolve(fault, diagnostic=None)
        if fault.path in claimed
        and fault.diagnostic is not None
        and fault.diagnostic.code == "T202"
        else fault
        for fault in faults
    ]


def _repaired(data: dict[str, Any], faults: list[_Fault]) -> dict[str, Any]:
    data = _copy(data)
    for fault in faults:
        container: Any = data
        for part in fault.path[:-1]:
            container = container[part]
        if fault.repair is _REMOVE:
            del container[fault.path[-1]]
        else:
            container[fault.path[-1]] = fault.repair
    return data


def _copy(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _copy(item) for key, item in value.items()}
    return [_copy(item) for item in value] if isinstance(value, list) else value


# --- wording: values -------------------------------------------------------------------------------------


def _refusal_diagnostic(refusal: _Refusal, node: _Node) -> Diagnostic:
    if isinstance(refusal, _UnknownTag):
        return _unknown_tag(refusal, node)
    if isinstance(refusal, _MissingTag):
        return _missing_tag(refusal, node)
    assert isinstance(refusal, _Mismatch)
    # The node knows the whole type, the hook perhaps one arm of it.
    choices = _choices(node.type)
    if any(type(refusal.value) is type(choice) for choice in choices):
        return _not_a_choice(refusal.value, node, choices)
    return _wrong_type(refusal.value, node.type, node.path)


def _not_a_choice(value: Any, node: _Node, choices: tuple[Any, ...]) -> Diagnostic:
    near = _nearest(value, choices)
    helps = () if near is None else (f"write `{_toml(near)}`",)
    message = f"`{dotted(node.path)}` is {_quoted(value)}, expected {_expected(node.type)}"
    return error("T204", message, node.path, label="not one of the choices", helps=helps)


def _wrong_type(value: Any, type_: Any, path: SpecPath) -> Diagnostic:
    kind = _kind(value)
    message = f"`{dotted(path)}` is {kind}, expected {_expected(type_)}"
    helps = tuple(_conversions(value, type_, path))[:1]
    return error("T203", message, path, label=f"this is {kind}", helps=helps)


_KINDS: dict[type, str] = {
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    str: "text",
    list: "a list",
    dict: "a table",
    datetime.datetime: "a date and time",
    datetime.date: "a date",
    datetime.time: "a time",
}


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return f"`{_toml(value)}`"
    return _KINDS.get(type(value), f"a {type(value).__name__}")


_EXPECTED: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    str: "text",
    bool: "`true` or `false`",
}


def _expected(type_: Any) -> str:
    arms = _arms(type_)
    if _are_tables(arms):
        return "a table"
    if set(arms) == {int, float}:
        return "a number"
    return _either([words for arm in arms for words in _arm_words(arm)])


def _arm_words(arm: Any) -> list[str]:
    if _is_literal(arm):
        return [_quoted(choice) for choice in get_args(arm)]
    if _is_list(arm):
        item = get_args(arm)[0]
        plural = {str: "texts", int: "whole numbers", float: "numbers"}.get(item)
        return [f"a list of {plural or ('tables' if _are_tables(_arms(item)) else 'values')}"]
    return ["a table"] if _is_mapping(arm) or _are_tables((arm,)) else [_EXPECTED[arm]]


def _either(words: list[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} or {words[-1]}"


def _conversions(value: Any, type_: Any, path: SpecPath) -> Iterator[str]:
    """Yield ways to write what was probably meant, the likeliest first."""
    arms = _arms(type_)
    if isinstance(value, str):
        yield from _from_text(value, type_)
    elif str in arms or any(str(value) == choice for choice in _choices(type_)):
        if not isinstance(value, list | dict):
            yield f'write `"{_toml(value)}"` in quotes'
    elif isinstance(value, float) and value.is_integer() and _accepts(int(value), type_):
        yield f"write `{int(value)}` without a fraction"
    elif bool in arms and type(value) is int and value in (0, 1):
        yield f"write `{_toml(bool(value))}`"
    if any(_is_list(arm) and _fits_item(value, arm) for arm in arms):
        in_brackets = isinstance(value, dict)
        yield (
            f"write `[[{_names(path)}]]`, with two brackets"
            if in_brackets
            else f"write `[{_toml(value)}]`"
        )
    if _are_tables(arms):
        yield _table_advice(value, arms, path)


def _from_text(value: str, type_: Any) -> Iterator[str]:
    for convert in (int, float, {"true": True, "false": False}.__getitem__):
        try:
            found = convert(value.strip().lower())
        except (ValueError, KeyError):
            continue
        if _accepts(found, type_) and len(value) < 40:
            yield f"write `{_toml(found)}` without quotes"


def _accepts(value: Any, type_: Any) -> bool:
    if isinstance(value, float) and not abs(value) < float("inf"):
        return False
    choices = _choices(type_)
    if any(type(value) is type(choice) for choice in choices):
        return value in choices
    return any(_fits(value, arm) for arm in _arms(type_))


def _fits_item(value: Any, arm: Any) -> bool:
    return any(_fits(value, item) for item in _arms(get_args(arm)[0]))


def _table_advice(value: Any, arms: tuple[Any, ...], path: SpecPath) -> str:
    if isinstance(value, list):
        return f"write `[{_names(path)}]`, with one bracket"
    header = _header(path)
    tags = [tag for arm in arms if (tag := _tag(arm)) is not None]
    for name, choice in tags:
        if choice == value:
            return f'write a section `{header}` with `{name} = "{choice}"`'
    return f"write a section `{header}`"


def _quoted(value: Any) -> str:
    text = value if isinstance(value, str) else _toml(value)
    return f"`{text if len(text) <= 60 else text[:57] + '...'}`"


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped if len(escaped) <= 60 else escaped[:57] + "..."}"'
    return str(value)


# --- wording: keys ---------------------------------------------------------------------------------------


def _names(path: SpecPath) -> str:
    return ".".join(part for part in path if isinstance(part, str))


def _header(path: SpecPath) -> str:
    """Return the header under which the keys of a table stand."""
    is_item = bool(path) and isinstance(path[-1], int)
    return f"[[{_names(path)}]]" if is_item else f"[{_names(path)}]"


def _missing_value(node: _Node, cls: type) -> Diagnostic:
    name = str(node.path[-1])
    doc = first_sentence(field_docs(cls).get(name, "a required value"))
    example = f"add `{_example(node.path, node.type)}`"
    if cls is Spec:
        message = f"section `[{name}]` is missing: {doc}"
        return error("T202", message, node.path, helps=(example + _example_keys(node),))
    message = f"`{dotted(node.path)}` is missing: {doc}"
    return error("T202", message, node.path, label=f"no `{name}` here", helps=(example,))


def _example(path: SpecPath, type_: Any) -> str:
    """Return the first line of TOML that gives a value of the type."""
    arms = _arms(type_)
    if _are_tables(arms):
        return _header(path)
    if _is_list(arms[0]) and _are_tables(_arms(get_args(arms[0])[0])):
        return f"[[{_names(path)}]]"
    value = _placeholder(type_)
    return f"{path[-1]} = {_toml(value or '...') if isinstance(value, str) else _toml(value)}"


def _example_keys(node: _Node) -> str:
    """Return " with `key = value` ..." for the keys that a section must have."""
    arm = _arms(node.type)[0]
    required = [name for name in _fields(arm) if _is_required(arm, name)]
    lines = [f"`{_example((*node.path, name), _fields(arm)[name].type)}`" for name in required]
    return f" with {' and '.join(lines)}" if lines else ""


def _missing_tag(refusal: _MissingTag, node: _Node) -> Diagnostic:
    tags = {arm: tag for arm in refusal.arms if (tag := _tag(arm)) is not None}
    # The kind that knows most of the keys is the likeliest.
    likeliest = sorted(tags, key=lambda arm: -len(refusal.value.keys() & _fields(arm).keys()))
    name = tags[refusal.arms[0]][0]
    lines = [f'`{name} = "{tags[arm][1]}"`' for arm in likeliest]
    message = f"`{dotted((*node.path, name))}` is missing: the kind of `{_header(node.path)}`"
    path = (*node.path, name)
    return error("T202", message, path, label=f"no `{name}` here", helps=(f"add {_either(lines)}",))


def _unknown_tag(refusal: _UnknownTag, node: _Node) -> Diagnostic:
    tags = [tag for arm in refusal.arms if (tag := _tag(arm)) is not None]
    name = tags[0][0]
    path = (*node.path, name)
    kinds = tuple(choice for _, choice in tags)
    value = refusal.value[name]
    if not isinstance(value, str):
        return _wrong_type(value, Literal[kinds], path)
    known = _either([f"`{kind}`" for kind in kinds])
    near = _nearest(value, kinds)
    helps = () if near is None else (f"write `{_toml(near)}`",)
    message = f"{_names(node.path)} {name} {_quoted(value)} does not exist, expected {known}"
    return error("T205", message, path, label=f"unknown {name}", helps=helps)


@frozen
class _Table:
    """A table of the data with the class it is structured as."""

    node: _Node
    cls: type
    data: dict[str, Any]

    @property
    def path(self) -> SpecPath:
        return self.node.path

    def absent(self) -> list[str]:
        """Return the keys that could be added."""
        return [name for name in _fields(self.cls) if name not in self.data]


def _unknown_key(table: _Table, key: str) -> _Fault:
    path = (*table.path, key)
    other_kind = _key_of_other_kind(table, key)
    if other_kind is not None:
        return _Fault(path, other_kind, (path,))
    advice, claims = _advise(table, key)
    claims = tuple(claim for claim in claims if not _is_present(table, claim))
    found = error(
        "T201",
        _unknown_message(table, key),
        path,
        label="unknown section" if _is_section(table, key) else "unknown key",
        on_key=True,
        helps=(advice,) if advice else (),
        notes=() if advice else _known_keys(table),
    )
    return _Fault(path, found, (path, *claims), claims=claims)


def _is_section(table: _Table, key: str) -> bool:
    return not table.path and isinstance(table.data[key], dict | list)


def _is_present(table: _Table, path: SpecPath) -> bool:
    """Return whether a value of this table is given; other tables are not looked at."""
    return path[:-1] == table.path and path[-1] in table.data


def _unknown_message(table: _Table, key: str) -> str:
    if _is_section(table, key):
        brackets = "[[{}]]" if isinstance(table.data[key], list) else "[{}]"
        return f"unknown section {_quoted(brackets.format(key))}"
    where = f"in `{_header(table.path)}`" if table.path else "outside of any section"
    return f"unknown key {_quoted(key)} {where}"


def _known_keys(table: _Table) -> tuple[str, ...]:
    names = ", ".join(f"`{name}`" for name in _fields(table.cls))
    return (f"the {'keys' if table.path else 'sections'} are {names}",)


def _key_of_other_kind(table: _Table, key: str) -> Diagnostic | None:
    mine = _tag(table.cls)
    kinds = [arm for arm in _arms(table.node.type) if key in _fields(arm)]
    if mine is None or not kinds:
        return None
    name, choice = mine
    theirs = _either([f"`{tag[1]}`" for arm in kinds if (tag := _tag(arm)) is not None])
    tag_path = (*table.path, name)
    labels = (Label(tag_path, "the kind is chosen here"),) if name in table.data else ()
    return error(
        "T206",
        f"`{key}` belongs to {_names(table.path)} {name} {theirs}, this is `{choice}`",
        (*table.path, key),
        label=f"not a key of `{choice}`",
        on_key=True,
        labels=labels,
        helps=(f"remove `{key}`, or choose {name} {theirs}",),
    )


_Advice = tuple[str, tuple[SpecPath, ...]]
"""What to do about an unknown key, and the paths of the values it was probably meant for."""


def _advise(table: _Table, key: str) -> _Advice:
    """Propose what was meant: the same name spelled otherwise, a near one, another tool's, another section's."""
    if len(key) > 64:
        return "", ()
    absent = table.absent()
    same = [name for name in absent if name == _normalized(key)]
    near = same or _close(_normalized(key), absent, 0.8)
    if near:
        return _spelling(table, near[0])
    elsewhere = _renamed(table, key) or _other_section(table, _normalized(key))
    if elsewhere:
        return elsewhere
    far = _close(_normalized(key), absent, 0.6)
    return _spelling(table, far[0]) if far else ("", ())


def _spelling(table: _Table, name: str) -> _Advice:
    shown = name if table.path or not _are_tables(_arms(_fields(Spec)[name].type)) else f"[{name}]"
    return f"a similar name is `{shown}`", ((*table.path, name),)


def _renamed(table: _Table, key: str) -> _Advice | None:
    setting = RENAMED.get(key) or RENAMED.get(_normalized(key))
    if setting is None:
        return None
    target, _, value = setting.partition(" = ")
    path: SpecPath = tuple(target.split("."))
    shown = f"{target} = {value}" if value else target
    if value:
        return f"here this is `{shown}`", (path,)
    *section, name = target.split(".")
    if tuple(section) == table.path:
        return f"here this is called `{name}`", (path,)
    return f"here this is `{name}` in `{_section_header(tuple(section))}`", (path,)


def _other_section(table: _Table, key: str) -> _Advice | None:
    homes = [path for path in _homes().get(key, ()) if path != table.path]
    if not 0 < len(homes) <= 3:
        return None
    headers = _either([f"`{_section_header(path)}`" for path in homes])
    claims = tuple((*path, key) for path in homes) if len(homes) == 1 else ()
    return f"`{key}` belongs in {headers}", claims


@cache
def _homes() -> dict[str, list[tuple[str, ...]]]:
    """Return the sections in which each key exists; a table inside a section has a path of two names."""
    homes: dict[str, list[tuple[str, ...]]] = {}
    waiting: list[tuple[tuple[str, ...], Any]] = [((), Spec)]
    while waiting:
        path, cls = waiting.pop(0)
        for name, field in _fields(cls).items():
            if path and path not in homes.setdefault(name, []):
                homes[name].append(path)
            waiting += [((*path, name), inner) for inner in _table_classes(field.type)]
    return homes


def _table_classes(type_: Any) -> list[type]:
    """Return the classes of the tables that a field may hold, also in a list."""
    arms = [
        inner
        for arm in _arms(type_)
        for inner in (_arms(get_args(arm)[0]) if _is_list(arm) else (arm,))
    ]
    return [arm for arm in arms if _are_tables((arm,))]


def _section_header(path: tuple[str, ...]) -> str:
    type_: Any = Spec
    for name in path:
        type_ = next(_fields(c)[name].type for c in _table_classes(type_) if name in _fields(c))
    return (
        f"[[{'.'.join(path)}]]"
        if any(_is_list(arm) for arm in _arms(type_))
        else f"[{'.'.join(path)}]"
    )


def _normalized(key: str) -> str:
    """Return a name in our spelling: `learningRate` and `Learning-Rate` become `learning_rate`."""
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])|[-\s]+", "_", key).lower()


def _nearest(value: Any, choices: tuple[Any, ...]) -> Any:
    names = [choice for choice in choices if isinstance(choice, str)]
    if not isinstance(value, str) or len(value) > 64:
        return None
    wanted = value.lower().replace("_", "-")
    same = [name for name in names if name.lower().replace("_", "-") == wanted]
    return next(iter(same or _close(value.lower(), names, 0.6)), None)


def _close(word: str, names: list[str], cutoff: float) -> list[str]:
    import difflib  # only faulty specs pay for it

    return difflib.get_close_matches(word, names, n=1, cutoff=cutoff)
