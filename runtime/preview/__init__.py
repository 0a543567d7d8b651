"""Preview: prepared samples as the loss sees them, on a terminal or as a page."""

from .options import Options, options
from .show import show

__all__ = ["Options", "options", "show"]
