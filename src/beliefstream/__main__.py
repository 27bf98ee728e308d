"""Entry point: `python -m beliefstream` is `beliefstream`."""

from beliefstream.streams.cli import main

main()
