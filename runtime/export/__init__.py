"""Export: the trained model as a folder that any server loads."""

from .export import export

__all__ = ["export"]
