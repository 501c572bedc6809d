"""Sandboxes of Daytona's cloud, through its own SDK."""
