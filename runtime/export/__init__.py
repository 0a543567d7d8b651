"""Export: the trained model as a folder that any server loads."""

from .export import export
from .quantized import export_quantized

__all__ = ["export", "export_quantized"]
