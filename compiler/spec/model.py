"""`[model]`: the weights to start from."""

from __future__ import annotations

from typing import Literal

from attrs import frozen

Attention = Literal["auto", "eager", "sdpa"]


@frozen(kw_only=True)
class Model:
    """The model to adapt."""

    path: str
    """Folder in the Hugging Face layout (relative to the spec), or a hub id such as `org/name`.
    A GGUF file becomes such a folder with `tunec fetch`."""

    revision: str | None = None
    """Branch, tag or commit of a hub model. A commit keeps the run repeatable."""

    cache_dir: str | None = None
    """Folder that keeps downloaded models, relative to the spec. Default: the hub client's own."""

    token_env: str | None = None
    """Name of the environment variable that holds the hub token. The token itself never stands in a spec."""

    trust_remote_code: bool = False
    """Run Python code shipped inside the model's repository. Leave this off unless you have read that code."""

    attention: Attention = "auto"
    """Attention implementation: `auto` (what transformers picks for the model), `eager` or `sdpa`."""
