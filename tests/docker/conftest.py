"""Docker sandboxes as the contract suite makes them."""

from __future__ import annotations

import pytest

from tests.contract.conftest import create, docker_provider, known_images, paths, runtime_root, spec_of

__all__ = ["create", "docker_provider", "known_images", "paths", "runtime_root", "spec_of"]


@pytest.fixture
def provider(docker_provider):
    return docker_provider
