"""The runtime: what generated programs call. Never imports the compiler."""
