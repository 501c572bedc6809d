"""The built-in ``mock`` agent: ACP on stdio with the standard library only. ``agent.py`` is its program."""
