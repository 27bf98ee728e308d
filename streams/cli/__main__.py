"""Entry point: `python -m streams.cli` is `beliefstream`."""

from streams.cli import main

main()
