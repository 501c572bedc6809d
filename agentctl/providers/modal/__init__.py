"""Sandboxes of Modal, through its SDK: the package ``modal``, which is imported only when it is used."""
