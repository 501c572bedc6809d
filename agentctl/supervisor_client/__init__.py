"""The host's side of ``wire.py``: one client class for each family of the supervisor's routes."""

from agentctl.supervisor_client.client import SupervisorClient

__all__ = ["SupervisorClient"]
