"""Entry point: `python -m beliefstream.streams.cli` is `beliefstream`."""

from beliefstream.streams.cli import main

main()
