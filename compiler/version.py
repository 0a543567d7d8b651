"""The version of tunec."""

VERSION = "0.1.0"
