"""`python -m tunec.compiler.cli`."""

from . import main

main()
