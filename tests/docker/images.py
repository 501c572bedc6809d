"""A tiny Python image without a registry: Debian packages, unpacked and imported. Kept in the cache by its recipe."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

CACHE = Path("~/.cache/agentctl-tests").expanduser()
REPOSITORY = "agentctl-test"
_PACKAGES = (
    *("libc6", "zlib1g", "libexpat1", "libssl3", "libuuid1", "libffi8", "libbz2-1.0", "liblzma5", "libcrypt1"),
    *("libsqlite3-0", "libpython3.11-minimal", "libpython3.11-stdlib", "python3.11-minimal", "busybox-static"),
    *("media-types", "libgcc-s1"),
    *("libstdc++6", "bash", "libtinfo6"),  # what Node and the shell tools of agents need
)
_VERSION = 1  # of the steps below
_LEFT_OUT = ("doc", "man", "lintian", "locale")
_DIRECTORIES = ("bin", "etc", "home/agent", "tmp", "proc", "sys", "dev", "run", "var/tmp", "usr/local/bin", "root")
_CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
_AGENT = 1000
_FILES = {
    "etc/passwd": f"root:x:0:0::/root:/bin/sh\nagent:x:{_AGENT}:{_AGENT}::/home/agent:/bin/sh\n",
    "etc/group": f"root:x:0:\nagent:x:{_AGENT}:\n",
    "etc/nsswitch.conf": "hosts: files dns\n",
}
CHANGES = (
    "ENV PATH=/usr/local/bin:/usr/bin:/bin",
    "ENV SSL_CERT_FILE=/etc/ca.crt",
    "WORKDIR /home/agent",
    'CMD ["python3","-V"]',
)


def tiny(api) -> str:
    """The tag of the tiny image in the engine of ``api``, imported when it is not there."""
    tag = _recipe_hash()
    name = f"{REPOSITORY}:tiny-{tag}"
    if not api.images(name=name, quiet=True):
        _import(api, _tarball(tag), f"tiny-{tag}", CHANGES)
    return name


def without_python(api) -> str:
    """An image that holds nothing but an empty directory."""
    name = f"{REPOSITORY}:bare"
    if not api.images(name=name, quiet=True):
        with tempfile.TemporaryDirectory() as scratch:
            path = Path(scratch) / "bare.tar"
            with tarfile.open(path, "w") as tar:
                tar.addfile(_directory("etc"))
            _import(api, path, "bare", ('CMD ["/none"]',))
    return name


def _directory(name: str) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = tarfile.DIRTYPE, 0o755
    return info


def _import(api, path: Path, tag: str, changes) -> None:
    said = api.import_image(src=str(path), repository=REPOSITORY, tag=tag, changes=list(changes))
    if '"error"' in said:
        raise RuntimeError(f"The engine did not take {path}: {said}")


def _recipe_hash() -> str:
    certificates = _CERTIFICATES.read_text() if _CERTIFICATES.exists() else ""
    recipe = [_VERSION, _PACKAGES, _LEFT_OUT, _DIRECTORIES, _FILES, CHANGES, certificates]
    return hashlib.sha256(repr(recipe).encode()).hexdigest()[:16]


def _tarball(tag: str) -> Path:
    """The image's files as a tar, from the cache or made in three seconds."""
    path = CACHE / f"docker-tiny-{tag}.tar"
    if path.exists():
        return path
    CACHE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="agentctl-image-") as scratch:
        root = Path(scratch) / "root"
        root.mkdir()
        _unpack(Path(scratch), root)
        _furnish(root)
        new = Path(scratch) / "new.tar"
        with tarfile.open(new, "w") as tar:
            tar.add(root, arcname=".", filter=_owned)
        kept = path.with_suffix(f".{os.getpid()}")
        shutil.copyfile(new, kept)
        for older in CACHE.glob("docker-tiny-*.tar"):
            older.unlink(missing_ok=True)
        kept.rename(path)
    return path


def _unpack(scratch: Path, root: Path) -> None:
    debs = scratch / "debs"
    debs.mkdir()
    _download(debs)
    excluded = [f"--exclude=./usr/share/{name}" for name in _LEFT_OUT]
    for deb in sorted(debs.glob("*.deb")):
        files = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", deb], stdout=subprocess.PIPE)
        _run("tar", "-C", str(root), "-x", "--keep-directory-symlink", *excluded, stdin=files.stdout)
        files.stdout.close()
        if files.wait():
            raise RuntimeError(f"{deb} cannot be unpacked.")


def _download(debs: Path) -> None:
    command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=root", "download", *_PACKAGES]
    if subprocess.run(command, cwd=debs, capture_output=True).returncode:
        _run("apt-get", "-qq", "update")
        _run(*command, cwd=debs)


def _furnish(root: Path) -> None:
    """What maintainer scripts would have done, and a shell."""
    for name in _DIRECTORIES:
        (root / name).mkdir(parents=True, exist_ok=True)
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    applets = subprocess.run([root / "bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout
    for name in applets.split():
        if not (root / "bin" / name).exists():
            (root / "bin" / name).symlink_to("busybox")
    (root / "usr/bin/python3").symlink_to("python3.11")
    for name, text in _FILES.items():
        (root / name).write_text(text)
    if _CERTIFICATES.exists():
        shutil.copyfile(_CERTIFICATES, root / "etc/ca.crt")
    if sys.version_info[:2] == (3, 11):  # another one's compiled files would be of no use
        _run(sys.executable, "-m", "compileall", "-q", "-s", str(root), "-p", "/", str(root / "usr/lib/python3.11"))


def _owned(info: tarfile.TarInfo) -> tarfile.TarInfo:
    info.uid = info.gid = _AGENT if info.name == "./home/agent" else 0
    info.uname = info.gname = ""
    return info


def _run(*command: str, **how) -> None:
    done = subprocess.run(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True, **how)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command[:3])} … failed: {done.stderr}")
