"""A session's spec, completed and checked before there is a session: directories, image, origin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from agentctl import errors, ids
from agentctl.model import SessionSpec
from agentctl.ops.report import Report, silent

if TYPE_CHECKING:
    from agentctl.ops.app import App


def placed(app: App, spec: SessionSpec, *, sure: bool = False, report: Report = silent) -> SessionSpec:
    """The spec with its directories and origin. Raise ``UsageError`` for a directory that is not there, and as
    ``projects.placed`` and ``mounts.check``."""
    provider = app.provider(spec.provider)
    if spec.project is not None:
        from agentctl.ops import projects

        spec = projects.placed(app, spec)
    ids.require_name(spec.volume, "a volume")
    if spec.workspace is not None:
        ids.require_name(spec.workspace, "a workspace")
    cwd = spec.cwd or provider.capabilities.default_cwd or str(Path.cwd())
    sees_host = provider.capabilities.layout is None
    if sees_host:
        path = Path(cwd).expanduser().absolute()
        if not path.is_dir():
            raise errors.UsageError(f"--cwd {cwd} is not a directory.")
        cwd = str(path)
    root = _completed_root(spec.root, cwd, local=sees_host)
    _check_compute(spec)
    if spec.sandbox is None and (spec.compute.mounts or spec.project):
        from agentctl.ops import mounts

        mounts.check(app, spec, sure=sure, report=report)
    image = _image(app, spec, provider.capabilities.images)
    return replace(spec, cwd=cwd, root=root, image=image, origin=spec.origin or app.origin)


def _check_compute(spec: SessionSpec) -> None:
    """Raise ``Unsupported`` for what the provider has no answer to."""
    from agentctl.providers.lookup import COMPUTE

    for name in spec.compute.asked():
        if name not in COMPUTE.get(spec.provider, ()):
            able = sorted(provider for provider, has in COMPUTE.items() if name in has)
            option = "--" + name.removesuffix("_bytes").removesuffix("s" if name != "cpus" else "").replace("_", "-")
            raise errors.Unsupported(
                f"The provider {spec.provider} has no {option}.", hint=f"These have it: {', '.join(able)}."
            )


def _image(app: App, spec: SessionSpec, has_images: bool) -> str | None:
    """The image for a provider that makes containers. Raise ``UsageError`` or ``Unsupported``."""
    if not has_images:
        if spec.image is not None:
            raise errors.Unsupported(
                f"The provider {spec.provider} makes no containers, so --image says nothing to it.",
                hint="Add --provider docker, or leave --image out.",
            )
        return None
    if spec.sandbox is not None:  # it has what it was made from
        return spec.image
    if spec.image is not None and spec.compute.dockerfile is not None:
        raise errors.UsageError("--image and --dockerfile cannot go together.", hint="Leave one of them out.")
    image = None if spec.compute.dockerfile else spec.image or app.config.image
    if app.provider(spec.provider).capabilities.machines:
        return image
    if image is None and spec.compute.dockerfile is None:
        raise errors.UsageError(
            f"The provider {spec.provider} needs to know which image to make a container from.",
            hint="Name one that has Python 3.11 or newer: --image python:3.12, or `image` in the configuration.",
        )
    return image


def _completed_root(root: str | None, cwd: str, *, local: bool) -> str | None:
    """The directory that files are confined to, as an absolute path. Raise ``UsageError``."""
    if root is None:
        return None
    path = Path(cwd, Path(root).expanduser() if local else root)
    if local and not path.is_dir():
        raise errors.UsageError(f"--root {root} is not a directory.")
    return str(path)
