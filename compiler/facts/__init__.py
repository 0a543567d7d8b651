"""Facts: everything read about the world for one spec, gathered in one place and without torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from attrs import field, frozen

from ..diagnostics import SpecPath
from ..spec import FileTemplate, HostFile, Lora, NamedTemplate, RewardModel, Source, Spec
from .adapters import AdapterFacts, read_adapters
from .data import DataFacts, read_data
from .files import read_text
from .folder import FolderFacts, read_folder
from .hub_cache import cached_snapshot
from .model import ModelFacts, read_model, read_tokenizer, scoring
from .named import (
    FunctionFacts,
    HostFacts,
    PathState,
    function_rewards,
    read_function,
    read_hosts,
    read_states,
)
from .others import read_models
from .sample_kinds import wanted_by
from .tokens import Vocabulary, read_vocabulary
from .versions import Need, installed, needs

__all__ = [
    "AdapterFacts",
    "DataFacts",
    "Facts",
    "FolderFacts",
    "FunctionFacts",
    "HostFacts",
    "ModelFacts",
    "Need",
    "PathState",
    "Seen",
    "Vocabulary",
    "gather",
]


@frozen
class Facts:
    """What is known about the files a spec names. `data` and `eval_data` follow the order of the sources."""

    base: Path
    """Folder of the spec: what its relative paths start from."""
    spec_file: Path | None
    model: ModelFacts
    tokenizer: ModelFacts
    data: tuple[DataFacts, ...]
    eval_data: tuple[DataFacts, ...]
    output: FolderFacts
    template_text: str | None
    """The text of `template.path` or of the named template; None when there is none to be had, or none is named."""
    environment: Mapping[str, bool]
    """Which of the environment variables the spec names are set."""
    functions: Mapping[SpecPath, FunctionFacts]
    """Files with reward functions, by the place of the reward in the spec."""
    hosts: HostFacts | None
    """The host file, where one is named."""
    paths: Mapping[str, PathState]
    """Further paths the spec names, by their text."""
    adapters: Mapping[SpecPath, AdapterFacts] = field(factory=dict)
    """Every adapter the spec names, by the path of the setting that names it."""
    models: Mapping[SpecPath, ModelFacts] = field(factory=dict)
    """Models beside the trained one (reference, rewards), by the path of the setting that names them."""
    vocabulary: Vocabulary | None = None
    """The tokens of the tokenizer; read only for a spec that adds or trains tokens, or brings a template."""
    needs: tuple[Need, ...] = ()
    """Packages the run needs beyond tunec's own extras."""
    versions: Mapping[str, str | None] = field(factory=dict)
    """Versions of those packages that are installed here; None for one that is not."""

    @property
    def chat_template(self) -> str | None:
        """The template in force: the named file's, or the tokenizer's own."""
        return self.template_text if self.template_text is not None else self.tokenizer.template


R = TypeVar("R")

Seen = dict[tuple[Any, ...], Any]
"""Models and data files that were read already: many specs in one call often name the same ones."""


def gather(
    spec: Spec, spec_file: Path | None, environ: Mapping[str, str], seen: Seen | None = None
) -> Facts:
    """Read what `spec` names. Nothing here raises: what cannot be read is a fact as well.

    What is in `seen` is not read again, and what is read goes there.
    """
    base = (spec_file.parent if spec_file else Path()).absolute()
    known: Seen = {} if seen is None else seen
    fetched = partial(_fetched, spec, base, environ)
    model = _once(known, read_model, base, spec.model.path, fetched(spec.model.path))
    if isinstance(spec.objective, RewardModel):
        model = scoring(model)
    path = spec.tokenizer.path
    tokenizer = model if path is None else _once(known, read_tokenizer, base, path, fetched(path))
    needed = needs(spec, model)
    return Facts(
        base=base,
        spec_file=None if spec_file is None else spec_file.absolute(),
        model=model,
        tokenizer=tokenizer,
        data=_read_sources(known, base, spec, spec.data.sources),
        eval_data=_read_sources(known, base, spec, spec.data.eval_sources),
        output=read_folder(base / spec.run.output_dir),
        template_text=_template_text(base, spec),
        environment={name: name in environ for name in (spec.model.token_env,) if name is not None},
        functions={
            place: read_function(base / reward.path)
            for place, reward in function_rewards(spec).items()
        },
        hosts=read_hosts(base, spec.launch) if isinstance(spec.launch, HostFile) else None,
        paths=read_states(base, spec),
        adapters=read_adapters(base, spec),
        models=read_models(base, spec),
        vocabulary=read_vocabulary(base / (path or spec.model.path)) if _asks(spec) else None,
        needs=tuple(needed),
        versions=installed(needed),
    )


def _read_sources(
    known: Seen, base: Path, spec: Spec, sources: tuple[Source, ...]
) -> tuple[DataFacts, ...]:
    wanted = wanted_by(spec.objective)
    media_dir = None if spec.media.dir is None else base / spec.media.dir
    return tuple(_once(known, read_data, base, source, wanted, media_dir) for source in sources)


def _once(known: Seen, read: Callable[..., R], *what: Any) -> R:
    key = (read, *what)
    if key not in known:
        known[key] = read(*what)
    found: R = known[key]
    return found


def _fetched(spec: Spec, base: Path, environ: Mapping[str, str], path: str) -> Path | None:
    """Return where a hub model was fetched to before; other hubs keep theirs elsewhere."""
    if spec.model.hub != "huggingface" or "/" not in path or path.startswith((".", "/")):
        return None
    kept = None if spec.model.cache_dir is None else base / spec.model.cache_dir
    return cached_snapshot(path, spec.model.revision, kept, environ)


def _template_text(base: Path, spec: Spec) -> str | None:
    if isinstance(spec.template, NamedTemplate):
        return _named_template(spec.template)
    if not isinstance(spec.template, FileTemplate):
        return None
    try:
        return read_text(base / spec.template.path)
    except (OSError, ValueError):
        return None


def _named_template(template: NamedTemplate) -> str | None:
    # The library costs some milliseconds, and most specs use the tokenizer's own template.
    from ..chat import build

    try:
        return build(template)
    except (KeyError, ValueError):
        return None


def _asks(spec: Spec) -> bool:
    """Tell whether the spec says something about single tokens."""
    tokens = spec.tokenizer
    trained = spec.method.trainable_tokens if isinstance(spec.method, Lora) else ()
    added = (tokens.add_tokens, tokens.add_special_tokens, tokens.described_tokens)
    if tokens.path is not None or tokens.resize:
        return True
    return any(added) or bool(trained) or isinstance(spec.template, FileTemplate | NamedTemplate)
