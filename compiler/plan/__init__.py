"""tunec.compiler.plan."""
