"""`python -m rnncore.cli`."""

from rnncore.cli.main import main

main()
