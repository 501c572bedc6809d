"""The way out of a sandbox that may reach some hosts only: a forward proxy, in a container of its own."""
