"""Facts: everything read about the world for one spec, gathered in one place and without torch."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from attrs import frozen

from ..diagnostics import SpecPath
from ..spec import FileTemplate, HostFile, Source, Spec
from .data import DataFacts, read_data
from .files import read_text
from .folder import FolderFacts, read_folder
from .model import ModelFacts, read_model, read_tokenizer
from .named import (
    FunctionFacts,
    HostFacts,
    PathState,
    function_rewards,
    read_function,
    read_hosts,
    read_states,
)

__all__ = [
    "DataFacts",
    "Facts",
    "FolderFacts",
    "FunctionFacts",
    "HostFacts",
    "ModelFacts",
    "PathState",
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
    """The text of `template.path`, or None when it cannot be read or none is named."""
    environment: Mapping[str, bool]
    """Which of the environment variables the spec names are set."""
    functions: Mapping[SpecPath, FunctionFacts]
    """Files with reward functions, by the place of the reward in the spec."""
    hosts: HostFacts | None
    """The host file, where one is named."""
    paths: Mapping[str, PathState]
    """Further paths the spec names, by their text."""

    @property
    def chat_template(self) -> str | None:
        """The template in force: the named file's, or the tokenizer's own."""
        return self.template_text if self.template_text is not None else self.tokenizer.template


def gather(spec: Spec, spec_file: Path | None, environ: Mapping[str, str]) -> Facts:
    """Read what `spec` names. Nothing here raises: what cannot be read is a fact as well."""
    base = (spec_file.parent if spec_file else Path()).absolute()
    model = read_model(base, spec.model.path)
    path = spec.tokenizer.path
    tokenizer = model if path is None else read_tokenizer(base, path)
    return Facts(
        base=base,
        spec_file=None if spec_file is None else spec_file.absolute(),
        model=model,
        tokenizer=tokenizer,
        data=_read_sources(base, spec.data.sources),
        eval_data=_read_sources(base, spec.data.eval_sources),
        output=read_folder(base / spec.run.output_dir),
        template_text=_template_text(base, spec),
        environment={name: name in environ for name in (spec.model.token_env,) if name is not None},
        functions={
            place: read_function(base / reward.path)
            for place, reward in function_rewards(spec).items()
        },
        hosts=read_hosts(base, spec.launch) if isinstance(spec.launch, HostFile) else None,
        paths=read_states(base, spec),
    )


def _read_sources(base: Path, sources: tuple[Source, ...]) -> tuple[DataFacts, ...]:
    return tuple(read_data(base, source) for source in sources)


def _template_text(base: Path, spec: Spec) -> str | None:
    if not isinstance(spec.template, FileTemplate):
        return None
    try:
        return read_text(base / spec.template.path)
    except (OSError, ValueError):
        return None
