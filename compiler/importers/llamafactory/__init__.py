"""LLaMA-Factory: its configuration, its data set registry, and what it derives from both."""
