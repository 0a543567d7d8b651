"""The model, its tokenizer and its template."""

from __future__ import annotations

from collections.abc import Iterator

from ..diagnostics import Diagnostic, Label, SpecPath, error, warning
from ..facts import Facts, ModelFacts
from ..facts.config import rope_length
from ..spec import FileTemplate, Spec, TokenizerTemplate
from .common import text_at
from .rule import Rule


def check_model(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The model is not where the spec says.

    Fails:
    ```toml
    [model]
    path = "no/such/model"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    yield from _missing("M601", facts.model, spec.model.path, ("model", "path"), "model")
    if spec.tokenizer.path is not None:
        place: SpecPath = ("tokenizer", "path")
        yield from _missing("M601", facts.tokenizer, spec.tokenizer.path, place, "tokenizer")
    for place, model in facts.models.items():
        yield from _missing("M601", model, text_at(spec, place), place, "model")


def _missing(
    code: str, model: ModelFacts, path: str, place: SpecPath, what: str
) -> Iterator[Diagnostic]:
    fetch = "fetch one with `tunec fetch SOURCE FOLDER` (a GGUF file, a folder or a hub id)"
    texts = {
        "missing": (f"there is no folder `{path}`, and it is no hub id", fetch),
        "file": (f"`{path}` is a file, expected the folder of a {what}", fetch),
        "gguf": (
            f"`{path}` is a GGUF file, which cannot be trained as it is",
            "turn it into a folder once: `tunec fetch FILE.gguf FOLDER`, and name that folder",
        ),
        "no-config": (f"`{path}` is no {what} folder: it has no config.json", fetch),
        "bad-config": (f"the config.json of `{path}` is not JSON", "fetch the model again"),
        "impossible": (f"`{path}` cannot be a path here", fetch),
    }
    if model.state in texts:
        message, help = texts[model.state]
        yield error(code, message, place, helps=(help,))


def check_weights(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The weight files are missing, damaged or truncated.

    Each safetensors file says in its header how long it must be, so a download that stopped half-way is seen
    without reading the weights. Pickles (`.bin`) can hold code and are read only with `allow_pickle`, which runs none of
    it.

    Fails:
    ```toml
    [model]
    path = "torn-model"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    model = facts.model
    if spec.model.init == "random" or (model.pickles and spec.model.allow_pickle):
        return
    if model.weights_fault is not None:
        yield error(
            "M602",
            f"the weights of `{spec.model.path}` cannot be used: {model.weights_fault}",
            ("model", "path"),
            helps=("fetch it as safetensors, or read pickles as well: `allow_pickle = true`",)
            if model.pickles
            else ("fetch the model again",),
        )


def check_tokenizer(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """There is no fast tokenizer.

    The loss mask is cut from the rendered text by character offsets, which only a fast tokenizer
    (`tokenizer.json`) reports.

    Fails:
    ```toml
    [model]
    path = "bare-model"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    if facts.tokenizer.state == "folder" and not facts.tokenizer.has_tokenizer:
        place = ("model", "path") if spec.tokenizer.path is None else ("tokenizer", "path")
        path = spec.tokenizer.path or spec.model.path
        yield error(
            "M603",
            f"`{path}` has no tokenizer.json",
            place,
            helps=("name the folder of a tokenizer: `[tokenizer] path = ...`",),
        )


def check_template(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """There is no chat template.

    Base models often ship without one. Without it nobody knows how a conversation becomes text.

    Fails:
    ```toml
    [model]
    path = "untemplated-model"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    if isinstance(spec.template, FileTemplate):
        if facts.template_text is None:
            yield error(
                "M604",
                f"the template file `{spec.template.path}` cannot be read",
                ("template", "path"),
            )
    elif (
        isinstance(spec.template, TokenizerTemplate)
        and facts.tokenizer.has_tokenizer
        and facts.tokenizer.template is None
    ):
        place = ("model", "path") if spec.tokenizer.path is None else ("tokenizer", "path")
        yield error(
            "M604",
            f"the tokenizer of `{spec.tokenizer.path or spec.model.path}` has no chat template",
            place,
            helps=(
                'name one of the library: `[template] type = "named"`, or a Jinja file: `type = "file"`',
            ),
        )


def check_remote_code(spec: Spec) -> Iterator[Diagnostic]:
    """Code from the model's repository will run.

    Loading such a model runs Python that came with the weights, with all your rights.

    Fails:
    ```toml
    [model]
    trust_remote_code = true
    ```
    Passes:
    ```toml
    [model]
    trust_remote_code = false
    ```
    """
    if spec.model.trust_remote_code:
        yield warning(
            "M605",
            "Python code shipped with the model will run on this machine",
            ("model", "trust_remote_code"),
            helps=('read that code, and pin it: `revision = "<commit>"`',),
        )


def check_length(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """Samples may be longer than the positions the model knows.

    Fails:
    ```toml
    [data]
    max_length = 100000
    ```
    Passes:
    ```toml
    [data]
    max_length = 64
    ```
    """
    limit = facts.model.number("max_position_embeddings")
    rope, scaled = spec.model.rope, ""
    if limit is None or (rope is not None and rope.factor is None):
        return
    if rope is not None and rope.factor is not None and 1 < rope.factor <= 1024:
        limit, scaled = (
            int((rope_length(facts.model.config) or limit) * rope.factor),
            " when stretched",
        )
    if spec.data.max_length > limit:
        yield error(
            "M606",
            f"`data.max_length` is {spec.data.max_length:,}, the model has {limit:,} positions{scaled}",
            ("data", "max_length"),
            label="longer than the model",
            labels=(Label(("model", "rope", "factor"), "stretched here"),) if scaled else (),
            notes=("`max_position_embeddings` of the model's config.json",),
            helps=(f"set it to {limit} or less",),
        )


def check_hub(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """A path that looks like a local folder is taken for a hub id.

    `weights/small` is no folder here, but a model on the hub may have that name. When the folder `weights` is here,
    the name was more likely meant as a path, and the run would end at start for want of that model.

    Fails:
    ```toml
    [model]
    path = "data/small"
    ```
    Passes:
    ```toml
    [model]
    path = "HuggingFaceTB/SmolLM2-135M-Instruct"
    ```
    """
    named = [
        (facts.model, spec.model.path, "model"),
        (facts.tokenizer, spec.tokenizer.path, "tokenizer"),
    ]
    for fact, path, section in named:
        if path is not None and fact.state == "hub" and fact.beside:
            folder = path.partition("/")[0]
            yield warning(
                "M607",
                f"`{path}` is no folder here, so it is taken for a hub id",
                (section, "path"),
                notes=(f"there is a folder `{folder}`, without `{path.partition('/')[2]}` in it",),
                helps=(f"for a folder write `./{path}`",),
            )


def check_token_set(spec: Spec, facts: Facts) -> Iterator[Diagnostic]:
    """The environment variable with the hub token is not set here.

    It may well be set where the run starts, so this is a warning.

    Fails:
    ```toml
    [model]
    token_env = "SOME_UNSET_TOKEN"
    ```
    Passes:
    ```toml
    [model]
    path = "model"
    ```
    """
    name = spec.model.token_env
    if name is not None and facts.environment.get(name) is False:
        yield warning(
            "S502",
            f"the environment variable `{name}` is not set here",
            ("model", "token_env"),
            helps=("set it where the run starts",),
        )


RULES = (
    Rule("M601", "model missing", factual=check_model),
    Rule("M602", "weights unusable", factual=check_weights),
    Rule("M603", "no fast tokenizer", factual=check_tokenizer),
    Rule("M604", "no chat template", factual=check_template),
    Rule("M605", "code of others runs", pure=check_remote_code),
    Rule("M606", "longer than the model", factual=check_length),
    Rule("M607", "folder or hub id", factual=check_hub),
    Rule("S502", "token not set", factual=check_token_set),
)
