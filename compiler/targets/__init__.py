"""tunec.compiler.targets."""
