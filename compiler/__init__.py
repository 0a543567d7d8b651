"""The compiler: a typed TOML spec in, readable programs out. Never imports torch or the runtime."""
