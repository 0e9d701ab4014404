"""Stands between processes of this machine, and spoils what passes."""

import contextlib
import socket
import struct
import threading

LINK = b"TransferService"  # what the connection of a link begins with asking for


class Reset(Exception):
    """Raised by a fault: the connection ends without a goodbye."""


class Passage:
    """One direction of one connection. A fault is called with it and with what is about to pass, and returns what passes;
    it may take its time."""

    def __init__(self, proxy, connection, to_target):
        self.proxy, self.connection, self.to_target = proxy, connection, to_target

    @property
    def is_link(self):
        return self.connection.is_link


class Connection:
    def __init__(self, client, server):
        self.sockets = (client, server)
        self.is_link = False

    def reset(self):
        for end in self.sockets:
            with contextlib.suppress(OSError):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end()

    def end(self):
        for end in self.sockets:
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()


class FaultProxy:
    """Listens at `address` from the start; `target` ("host:port") may be said later. `fault` may change at any time."""

    def __init__(self):
        self.target, self.fault = None, None
        self.connections, self.threads = [], []
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.start(self.accept)

    def start(self, what, *arguments):
        thread = threading.Thread(target=what, args=arguments, daemon=True)
        self.threads.append(thread)
        thread.start()

    def accept(self):
        while True:
            try:
                client, _ = self.listener.accept()
            except OSError:
                return
            try:
                host, port = self.target.rsplit(":", 1)
                server = socket.create_connection((host, int(port)))
            except OSError:
                client.close()
                continue
            for end in (client, server):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = Connection(client, server)
            self.connections.append(connection)
            self.start(self.forward, client, server, Passage(self, connection, True))
            self.start(self.forward, server, client, Passage(self, connection, False))

    def forward(self, here, there, passage):
        connection = passage.connection
        try:
            while data := here.recv(1 << 16):
                connection.is_link = connection.is_link or passage.to_target and LINK in data
                fault = self.fault
                if fault is not None:
                    data = fault(passage, data)
                there.sendall(data)
        except Reset:
            connection.reset()
            return
        except OSError:
            pass
        connection.end()

    def close(self):
        self.fault = None
        with contextlib.suppress(OSError):
            self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()
        for connection in self.connections:
            connection.end()
        for thread in self.threads:
            thread.join(10)
