"""agentctl runs coding agents that speak ACP inside sandboxes, from one command line."""

__version__ = "0.1.0"
