"""Raw ACP servers: ``/v1/acp``."""
