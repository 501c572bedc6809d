"""The network of one stand-in, run in a namespace of its own: nothing but a loopback, and what this relays.

``relay.py <socket> <way out> [port …]``: a stream that comes in on ``socket`` says a port in two bytes and is connected
to it; whoever in the namespace connects to one of the ``port``s gets that port of the host, by the socket ``way out``.
Says ``up`` when it is ready. Standard library only, and no asyncio: it starts for every sandbox.
"""

import contextlib
import fcntl
import os
import socket
import struct
import sys
import threading

_SIOCSIFFLAGS, _UP_AND_RUNNING = 0x8914, 0x41


def main():
    inward, outward, *ports = sys.argv[1:]
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP_AND_RUNNING))
    door = socket.socket(socket.AF_UNIX)
    door.bind(inward)
    door.listen(64)
    for port in ports:
        gate = socket.create_server(("127.0.0.1", int(port)), backlog=64)
        threading.Thread(target=serve, args=(gate, go_out(outward, int(port))), daemon=True).start()
    os.write(1, b"up\n")
    serve(door, come_in)


def serve(listener, connect):
    while True:
        stream, _ = listener.accept()
        threading.Thread(target=join, args=(stream, connect), daemon=True).start()


def come_in(stream):
    head = stream.recv(2, socket.MSG_WAITALL)
    return socket.create_connection(("127.0.0.1", int.from_bytes(head, "big")))


def go_out(path, port):
    def connect(_):
        way = socket.socket(socket.AF_UNIX)
        way.connect(path)
        way.sendall(port.to_bytes(2, "big"))
        return way

    return connect


def join(stream, connect):
    try:
        other = connect(stream)
    except OSError:
        stream.close()
        return
    threading.Thread(target=pump, args=(stream, other), daemon=True).start()
    pump(other, stream)


def pump(source, target):
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        for end in (source, target):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


if __name__ == "__main__":
    main()
