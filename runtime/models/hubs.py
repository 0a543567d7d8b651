"""Models of hubs other than Hugging Face: their own clients bring the files, and what comes is a folder like any."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Literal

from ..credentials import token_of
from ..errors import ExitCode, UserError

Hub = Literal["huggingface", "modelscope", "modelers"]
UNUSED = ["*.gguf", "*.onnx", "*.pth", "*.msgpack", "*.h5", "original/*"]
"""Forms of the weights that are never read."""


def snapshot(
    hub: Hub,
    id: str,
    *,
    revision: str | None = None,
    cache_dir: Path | None = None,
    token_env: str | None = None,
) -> Path:
    """Return the folder with the files of a model; those that were fetched before are not fetched again.

    Raises:
        UserError: (ENVIRONMENT) the hub's package is missing, the model cannot be had, or the token is not set.
    """
    token = None if token_env is None else token_of(token_env, "model.token_env")
    cache = None if cache_dir is None else str(cache_dir)
    try:
        return Path(CLIENTS[hub](id, revision, cache, token))
    except ImportError as fault:
        missing = (fault.name or hub).split(".")[0]
        raise UserError(
            f'models with `hub = "{hub}"` need the package {missing}',
            help="pip install 'tunec[hubs]'",
            code=ExitCode.ENVIRONMENT,
        ) from None
    except Exception as fault:
        cause = next((line.strip() for line in str(fault).splitlines() if line.strip()), "")
        raise UserError(
            f"{id}: {hub} does not give the model: {cause or type(fault).__name__}",
            help="compare `model.path` and `model.revision`; a private model needs `model.token_env`",
            code=ExitCode.ENVIRONMENT,
        ) from None


def _from_modelscope(id: str, revision: str | None, cache: str | None, token: str | None) -> str:
    """See `snapshot_download` at https://modelscope.cn/docs/models/download."""
    from modelscope.hub.snapshot_download import snapshot_download

    return str(
        snapshot_download(
            id, revision=revision, cache_dir=cache, token=token, ignore_patterns=UNUSED
        )
    )


def _from_modelers(id: str, revision: str | None, cache: str | None, token: str | None) -> str:
    """See `snapshot_download` at https://modelers.cn/docs/zh/openmind-hub-client."""
    from openmind_hub import snapshot_download

    return str(
        snapshot_download(
            id, revision=revision, cache_dir=cache, token=token, ignore_patterns=UNUSED
        )
    )


Client = Callable[[str, str | None, str | None, str | None], str]
CLIENTS: dict[str, Client] = {"modelscope": _from_modelscope, "modelers": _from_modelers}
