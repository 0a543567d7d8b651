"""The model and its tokenizer in programs: where they come from, and how they are loaded."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..plan import Plan
from ..rules.combine import num_merged
from ..spec import FileTemplate, NamedTemplate, RewardModel, Spec
from .calls import Arg, Call, Places, nested
from .literals import python_literal
from .quantization_calls import quantization_args
from .structure_calls import structure_args

WIDTH = 100
"""Columns of a line in programs."""
TEMPLATE = "chat_template.jinja"
"""The chat template in the run folder, where the spec names one of the library."""
AROUND = "template_options.jinja"
"""What stands around any other template, where the spec has options for it."""


def base_call(plan: Plan, places: Places, indent: int) -> Call:
    """Return `models.Base(...)`: the model a run starts from, the same in every program.

    Its arguments stand `indent` columns deep.
    """
    model = plan.spec.model
    args = [_place(plan, places, model.path, plan.facts.model.state == "hub")]
    if model.attention != "auto":
        args.append(Arg("attention", python_literal(model.attention)))
    args += _weights_args(plan)
    args += _rows_args(plan, indent)
    args += earlier_args(plan, places, indent)
    args += structure_args(plan, indent)
    args += quantization_args(plan, indent)
    return Call("models.Base", (*args, *_hub_args(plan, places)))


def scores(spec: Spec) -> bool:
    """Tell whether the trained model scores texts; else it writes them."""
    return isinstance(spec.objective, RewardModel)


def loader(spec: Spec) -> str:
    """Return the function that loads the trained model."""
    return "models.load_reward_model" if scores(spec) else "models.load_causal_lm"


def load_call(plan: Plan) -> Call:
    """Return the call that loads the model of the training, without its first argument, the base."""
    args = [Arg("dtype", python_literal(weights_dtype(plan.spec)))]
    if has_new_rows(plan) or scores(plan.spec):
        args.append(Arg("tokenizer", "tokenizer"))
    if scores(plan.spec):
        seed = python_literal(plan.spec.training.seed)
        args.append(Arg("seed", seed, "decides the head that scores, where the model has none"))
    return Call(loader(plan.spec), tuple(args))


def weights_dtype(spec: Spec) -> str:
    """Return the number format that the weights are loaded in."""
    precision = spec.training.precision
    return "bf16" if precision in ("pure-bf16", "fp8") else precision


def _weights_args(plan: Plan) -> Iterator[Arg]:
    model = plan.spec.model
    if model.init == "random":
        yield Arg("init", '"random"', "training from scratch")
        yield Arg("seed", python_literal(plan.spec.training.seed))
    if model.allow_pickle:
        yield Arg("allow_pickle", "True", "read without running code")


def tokenizer_args(plan: Plan, places: Places, indent: int) -> list[Arg]:
    """Return the arguments of `models.load_tokenizer`; they stand `indent` columns deep."""
    spec = plan.spec
    path = spec.tokenizer.path or spec.model.path
    args = [_place(plan, places, path, plan.facts.tokenizer.state == "hub")]
    added = (*template_args(plan, places), *token_args(plan, indent), *splitting_args(plan))
    return [*args, *added, *_hub_args(plan, places)]


def token_args(plan: Plan, indent: int) -> Iterator[Arg]:
    """Yield the arguments that append tokens to the vocabulary; those that it has already are left out."""
    tokenizer = plan.spec.tokenizer
    special = (*tokenizer.add_special_tokens, *tokenizer.described_tokens)
    for name, tokens in (("add_tokens", tokenizer.add_tokens), ("add_special_tokens", special)):
        if new := _new(plan, tokens):
            yield Arg(name, _wrapped(name, "[]", map(python_literal, new), indent))


def splitting_args(plan: Plan) -> Iterator[Arg]:
    """Yield the argument that cuts special tokens in texts like ordinary words."""
    if plan.spec.tokenizer.split_special_tokens:
        yield Arg("split_special_tokens", "True")


def has_new_rows(plan: Plan) -> bool:
    """Tell whether the embeddings get rows for tokens that were added, or for those they lack already."""
    return plan.spec.tokenizer.resize or any(token_args(plan, 0))


def _wrapped(name: str, brackets: str, items: Iterable[str], indent: int) -> str:
    """Return a list or dictionary as the argument `name`, one item a line where one line is too short for it."""
    listed = list(items)
    text = f"{brackets[0]}{', '.join(listed)}{brackets[1]}"
    if indent + len(f"{name}={text},") <= WIDTH:
        return text
    lines = "".join(f"\n{' ' * (indent + 4)}{item}," for item in listed)
    return f"{brackets[0]}{lines}\n{' ' * indent}{brackets[1]}"


def _new(plan: Plan, tokens: tuple[str, ...]) -> list[str]:
    known = plan.facts.vocabulary
    return [token for token in dict.fromkeys(tokens) if known is None or token not in known]


def _rows_args(plan: Plan, indent: int) -> Iterator[Arg]:
    tokenizer = plan.spec.tokenizer
    if not has_new_rows(plan):
        return
    named = (*tokenizer.add_tokens, *tokenizer.add_special_tokens, *tokenizer.described_tokens)
    new = map(python_literal, _new(plan, named))
    args = [Arg("tokens", _wrapped("tokens", "[]", new, indent + 4))]
    if tokenizer.new_rows != "noise":
        args.append(Arg("start", python_literal(tokenizer.new_rows)))
        pairs = tokenizer.described_tokens.items()
        words = (f"{python_literal(t)}: {python_literal(d)}" for t, d in pairs)
        args.append(Arg("descriptions", _wrapped("descriptions", "{}", words, indent + 4)))
    if tokenizer.resize:
        args.append(Arg("resize", "True"))
        args.append(Arg("pad_to_multiple", python_literal(tokenizer.pad_to_multiple)))
    args.append(Arg("seed", python_literal(plan.spec.training.seed)))
    yield Arg("new_rows", nested(Call("models.NewRows", tuple(args)), indent + 4))


def template_args(plan: Plan, places: Places) -> Iterator[Arg]:
    """Yield the arguments that put another chat template in place of the tokenizer's own."""
    from ..chat import around, describe

    template = plan.spec.template
    if isinstance(template, FileTemplate):
        yield Arg("chat_template", places.text(template.path))
    if not isinstance(template, NamedTemplate):
        if around(template) is not None:
            yield Arg("around_template", f"RUN_DIR / {python_literal(AROUND)}", "its options")
    else:
        known = describe(template)
        yield Arg("chat_template", f"RUN_DIR / {python_literal(TEMPLATE)}", f"{template.name}")
        if known.eos_token is not None:
            yield Arg("eos_token", python_literal(known.eos_token))
        if known.special_tokens:
            words = ", ".join(map(python_literal, known.special_tokens))
            yield Arg("stop_words", f"[{words}]")


def earlier_args(plan: Plan, places: Places, indent: int) -> Iterator[Arg]:
    """Yield the argument that puts adapters of an earlier training into the weights."""
    adapters, count = plan.spec.adapters, num_merged(plan.spec)
    if not count:
        return
    paths = ", ".join(adapter_place(plan, places, number) for number in range(count))
    args = [Arg("", f"[{paths}]")]
    if adapters.subfolder is not None:
        args.append(Arg("subfolder", python_literal(adapters.subfolder)))
    if adapters.combine != "merge" and count > 1:
        args.append(Arg("combine", python_literal(adapters.combine)))
        if adapters.weights:
            args.append(Arg("weights", python_literal([float(w) for w in adapters.weights])))
    text = nested(Call("models.Merged", tuple(args)), indent + 4)
    yield Arg("adapters", text, "part of the base from here on")


def adapter_place(plan: Plan, places: Places, number: int) -> str:
    """Return the Python text of the folder or hub id of an adapter of an earlier training."""
    path = plan.spec.adapters.paths[number]
    known = plan.facts.adapters.get(("adapters", "paths", number))
    is_hub = known is not None and known.state == "hub"
    return python_literal(path) if is_hub else places.text(path)


def _hub_args(plan: Plan, places: Places) -> list[Arg]:
    model = plan.spec.model
    args = []
    if model.hub != "huggingface":
        args.append(Arg("hub_name", python_literal(model.hub)))
    if model.revision is not None:
        args.append(Arg("revision", python_literal(model.revision)))
    if model.cache_dir is not None:
        args.append(Arg("cache_dir", places.text(model.cache_dir)))
    if model.token_env is not None:
        args.append(Arg("token_env", python_literal(model.token_env), "the name, not the token"))
    if model.trust_remote_code:
        args.append(Arg("trust_remote_code", "True", "code shipped with the model runs"))
    return args


def _place(plan: Plan, places: Places, path: str, is_hub: bool) -> Arg:
    return Arg("", python_literal(path) if is_hub else places.text(path))
