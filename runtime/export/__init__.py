"""tunec.runtime.export."""
