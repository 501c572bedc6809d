"""A way to a database server that is cut at the worst moment: after a COMMIT went through, before its answer comes."""

from __future__ import annotations

import select
import socket
import threading


class CuttingProxy:
    """Use as a context manager. ``cut_next_commit()`` arms it for once; else it passes everything on."""

    def __init__(self, port: int) -> None:
        self._target = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        self.cuts = 0
        self._armed = threading.Event()
        self._ended = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]

    def __enter__(self) -> CuttingProxy:
        self._threads[0].start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        for thread in self._threads:
            thread.join(timeout=10)
        self._listener.close()

    def cut_next_commit(self) -> None:
        self._armed.set()

    def _accept(self) -> None:
        while not self._ended.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                client, _ = self._listener.accept()
                self._threads.append(threading.Thread(target=self._pass_on, args=(client,)))
                self._threads[-1].start()

    def _pass_on(self, client: socket.socket) -> None:
        with client, socket.create_connection(("127.0.0.1", self._target)) as server:
            while not self._ended.is_set():
                for ready in select.select([client, server], [], [], 0.05)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return
                    if ready is client and b"COMMIT" in data and self._armed.is_set():
                        self._armed.clear()
                        server.sendall(data)
                        server.recv(65536)  # it has been done; nobody is told
                        self.cuts += 1
                        return
                    (server if ready is client else client).sendall(data)
