"""tunec.compiler.rules."""
