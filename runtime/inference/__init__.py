"""tunec.runtime.inference."""
