"""tunec.compiler.facts."""
