"""Other trainers' files to TOML. Every name that another trainer knows has its home in `homes`."""
