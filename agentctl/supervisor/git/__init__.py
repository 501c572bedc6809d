"""Repositories cloned in a sandbox: ``/v1/git``."""
