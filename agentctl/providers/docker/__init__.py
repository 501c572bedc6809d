"""Sandboxes in containers, on any Docker engine."""
