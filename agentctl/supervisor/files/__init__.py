"""The files of a sandbox: ``/v1/fs``, and the host's own through the same code."""
