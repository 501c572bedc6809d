"""A file system with the rules of an S3 bucket mounted by ``mount-s3``: files are written whole, from front to end, and
never changed. Speaks the kernel's FUSE protocol itself, so that it needs ``/dev/fuse`` and root, and nothing else.

``python -m tests.supervisor.s3_files MOUNTPOINT BACKING`` serves until it is killed; what was not closed then is gone.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import stat
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[2]
LOOKUP, FORGET, GETATTR, SETATTR, MKDIR, UNLINK, RMDIR = 1, 2, 3, 4, 9, 10, 11
OPEN, READ, WRITE, STATFS, RELEASE, FSYNC, FLUSH, INIT = 14, 15, 16, 17, 18, 20, 25, 26
OPENDIR, READDIR, RELEASEDIR, ACCESS, CREATE, INTERRUPT, BATCH_FORGET = 27, 28, 29, 34, 35, 36, 42
FORBIDDEN = {SETATTR, 5, 6, 8, 12, 13, 21, 43, 45, 47}  # chmod and the like, links, mknod, rename, xattr, fallocate
ATOMIC_O_TRUNC, BIG_WRITES, DIRECT_IO = 1 << 3, 1 << 5, 1
MAX_WRITE = 128 * 1024


@contextlib.contextmanager
def mounted(place: Path, backing: Path):
    """Mount ``backing`` at ``place`` by S3's rules. Skips where the machine has no FUSE for us."""
    if not os.access("/dev/fuse", os.R_OK | os.W_OK) or os.geteuid() != 0:
        pytest.skip("there is no /dev/fuse that this user may use")
    place.mkdir(exist_ok=True)
    backing.mkdir(exist_ok=True)
    argv = [sys.executable, "-m", "tests.supervisor.s3_files", str(place), str(backing)]
    server = subprocess.Popen(argv, cwd=REPOSITORY, stdout=subprocess.PIPE)
    try:
        if server.stdout.readline() != b"ready\n":
            pytest.skip("this machine does not let us mount a FUSE file system")
        yield server
    finally:
        server.kill()
        server.wait()
        server.stdout.close()
        subprocess.run(["umount", "--lazy", str(place)], stderr=subprocess.DEVNULL)


class Refused(Exception):
    def __init__(self, number):
        self.number = number


class Upload:
    """A file while it is written: nobody sees it before it is whole."""

    def __init__(self, target):
        self.target = target
        self.file = tempfile.TemporaryFile()  # noqa: SIM115 - closed when it is done
        self.size = 0

    def done(self):
        if not self.file.closed:
            self.file.seek(0)
            with open(self.target, "wb") as target:
                while data := self.file.read(1 << 20):
                    target.write(data)
            self.file.close()


class Server:
    def __init__(self, backing):
        self.paths = {1: backing}
        self.ids = {backing: 1}
        self.handles = {}
        self.next_handle = 1

    def serve(self, fd):
        while True:
            try:
                request = os.read(fd, MAX_WRITE + 8192)
            except OSError as e:
                if e.errno == errno.ENODEV:
                    return
                if e.errno in (errno.ENOENT, errno.EINTR):
                    continue
                raise
            _, opcode, unique, node = struct.unpack_from("<IIQQ", request)
            if opcode in (FORGET, BATCH_FORGET, INTERRUPT):
                continue
            error, data = 0, b""
            try:
                data = self.answer(opcode, node, request[40:])
            except Refused as e:
                error = e.number
            except OSError as e:
                error = e.errno
            with contextlib.suppress(FileNotFoundError):  # whoever asked is dead
                os.write(fd, struct.pack("<IiQ", 16 + len(data), -error, unique) + data)

    def answer(self, opcode, node, body):
        if opcode in FORBIDDEN:
            raise Refused(errno.EPERM)
        methods = {
            INIT: self.init, LOOKUP: self.lookup, GETATTR: self.getattr, MKDIR: self.mkdir, UNLINK: self.unlink,
            RMDIR: self.rmdir, OPEN: self.open, CREATE: self.create, READ: self.read, WRITE: self.write,
            RELEASE: self.release, FLUSH: self.flush, FSYNC: self.flush, OPENDIR: self.opendir, READDIR: self.readdir,
            RELEASEDIR: self.releasedir, STATFS: self.statfs,
        }  # fmt: skip
        if opcode not in methods:
            raise Refused(errno.ENOSYS)
        return methods[opcode](node, body)

    def path(self, node, name):
        return os.path.join(self.paths[node], os.fsdecode(name.split(b"\0")[0]))

    def init(self, node, body):
        major, minor = struct.unpack_from("<II", body)
        flags = ATOMIC_O_TRUNC | BIG_WRITES
        return struct.pack("<IIIIHHIIHHI28x", major, min(minor, 31), 0, flags, 16, 12, MAX_WRITE, 1, 32, 0, 0)

    def attr(self, path):
        writing = [h for h in self.handles.values() if isinstance(h, Upload) and h.target == path]
        if writing and not os.path.exists(path):
            mode, size, when = stat.S_IFREG, writing[-1].size, 0
        else:
            status = os.stat(path)
            mode, size, when = stat.S_IFMT(status.st_mode), status.st_size, int(status.st_mtime)
        mode |= 0o777 if stat.S_ISDIR(mode) else 0o666
        times = (when, when, when, 0, 0, 0)
        return struct.pack("<6Q10I", self.id(path), size, -(-size // 512), *times[:3], *times[3:],
                           mode, 1, 0, 0, 0, 4096, 0)  # fmt: skip

    def id(self, path):
        if path not in self.ids:
            self.ids[path] = len(self.ids) + 1
            self.paths[self.ids[path]] = path
        return self.ids[path]

    def entry(self, path):
        attr = self.attr(path)
        return struct.pack("<QQQQII", self.id(path), 0, 0, 0, 0, 0) + attr

    def lookup(self, node, body):
        return self.entry(self.path(node, body))

    def getattr(self, node, body):
        return struct.pack("<QII", 0, 0, 0) + self.attr(self.paths[node])

    def mkdir(self, node, body):
        path = self.path(node, body[8:])
        os.mkdir(path)
        return self.entry(path)

    def unlink(self, node, body):
        os.unlink(self.path(node, body))
        return b""

    def rmdir(self, node, body):
        os.rmdir(self.path(node, body))
        return b""

    def opened(self, handle):
        number, self.next_handle = self.next_handle, self.next_handle + 1
        self.handles[number] = handle
        return struct.pack("<QII", number, DIRECT_IO, 0)

    def open(self, node, body):
        (flags,) = struct.unpack_from("<I", body)
        path = self.paths[node]
        if flags & os.O_ACCMODE == os.O_RDONLY:
            return self.opened(open(path, "rb"))
        if flags & os.O_APPEND or not flags & os.O_TRUNC or flags & os.O_ACCMODE == os.O_RDWR:
            raise Refused(errno.EPERM)
        return self.opened(Upload(path))

    def create(self, node, body):
        (flags,) = struct.unpack_from("<I", body)
        path = self.path(node, body[16:])
        if flags & os.O_APPEND or flags & os.O_ACCMODE == os.O_RDWR:
            raise Refused(errno.EPERM)
        answer = self.opened(Upload(path))
        return self.entry(path) + answer

    def read(self, node, body):
        handle, offset, size = struct.unpack_from("<QQI", body)
        return os.pread(self.handles[handle].fileno(), size, offset)

    def write(self, node, body):
        handle, offset, size = struct.unpack_from("<QQI", body)
        upload = self.handles[handle]
        if upload.file.closed or offset != upload.size:
            raise Refused(errno.EINVAL)
        upload.file.write(body[40 : 40 + size])
        upload.size += size
        return struct.pack("<II", size, 0)

    def flush(self, node, body):
        """A writer that was killed closes its files as well: then what it had written is the whole file."""
        (handle,) = struct.unpack_from("<Q", body)
        if isinstance(self.handles.get(handle), Upload):
            self.handles[handle].done()
        return b""

    def release(self, node, body):
        self.flush(node, body)
        handle = self.handles.pop(struct.unpack_from("<Q", body)[0])
        if not isinstance(handle, Upload):
            handle.close()
        return b""

    def opendir(self, node, body):
        return self.opened(sorted(os.listdir(self.paths[node])))

    def readdir(self, node, body):
        handle, offset, size = struct.unpack_from("<QQI", body)
        out = b""
        for place, name in enumerate(self.handles[handle][offset:], offset + 1):
            raw = os.fsencode(name)
            path = os.path.join(self.paths[node], name)
            kind = stat.S_IFDIR if os.path.isdir(path) else stat.S_IFREG
            entry = struct.pack("<QQII", self.id(path), place, len(raw), kind >> 12) + raw
            entry += bytes(-len(entry) % 8)
            if len(out) + len(entry) > size:
                break
            out += entry
        return out

    def releasedir(self, node, body):
        del self.handles[struct.unpack_from("<Q", body)[0]]
        return b""

    def statfs(self, node, body):
        return struct.pack("<5Q4I24x", 1 << 30, 1 << 30, 1 << 30, 1 << 30, 1 << 30, 4096, 255, 4096, 0)


def main(place, backing):
    fd = os.open("/dev/fuse", os.O_RDWR | os.O_CLOEXEC)
    libc = ctypes.CDLL(None, use_errno=True)
    options = f"fd={fd},rootmode=40000,user_id=0,group_id=0,allow_other".encode()
    if libc.mount(b"s3", os.fsencode(place), b"fuse.s3", 0, options) != 0:
        print(os.strerror(ctypes.get_errno()), flush=True)
        return 1
    print("ready", flush=True)
    Server(backing).serve(fd)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
