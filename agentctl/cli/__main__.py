"""``python -m agentctl.cli``: the same as the ``agentctl`` command."""

from agentctl.cli.entry import main

main()
