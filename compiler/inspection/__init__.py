"""Looking into data files: what their columns hold, and which source a spec would need to read them."""

from .proposals import Findings, propose
from .reading import NotLookedInto, Rows, read_rows
from .text import as_json, as_toml

__all__ = ["Findings", "NotLookedInto", "Rows", "as_json", "as_toml", "propose", "read_rows"]
