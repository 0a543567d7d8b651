"""tunec.compiler.render."""
