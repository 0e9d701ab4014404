"""gRPC calls as HTTP/2 frames on a plain socket: for what no well-behaved client does."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS = 0, 1, 3, 4  # types of frames
ACK = END_STREAM = 1
END_HEADERS = 4
INITIAL_WINDOW_SIZE = 4  # a setting
CANCEL = 8  # an error code
STREAM_REPLY = "/minicpmv.chat.v1.ChatService/StreamReply"


def frame(kind, flags, stream, payload):
    return struct.pack(">I", len(payload))[1:] + bytes((kind, flags)) + struct.pack(">I", stream) + payload


def request_frames(port, method, headers=(), message=b"", stream=1):
    """One call with its only message, without any compression."""
    def header(name, value):
        return b"\0" + bytes((len(name),)) + name.encode() + bytes((len(value),)) + value.encode()

    block = b"".join(header(name, value) for name, value in (
        (":method", "POST"), (":scheme", "http"), (":path", method), (":authority", f"127.0.0.1:{port}"),
        ("te", "trailers"), ("content-type", "application/grpc"), *headers))
    data = b"\0" + struct.pack(">I", len(message)) + message
    pieces = [data[i:i + 16384] for i in range(0, len(data), 16384)]
    return frame(HEADERS, END_HEADERS, stream, block) + b"".join(
        frame(DATA, END_STREAM if i == len(pieces) - 1 else 0, stream, piece) for i, piece in enumerate(pieces))


def field(number, value):
    """One field of a protobuf message: a number, text or bytes."""
    def varint(n):
        low = []
        while n > 127:
            low.append(n & 127 | 128)
            n >>= 7
        return bytes((*low, n))

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    data = value.encode() if isinstance(value, str) else value
    return varint(number << 3 | 2) + varint(len(data)) + data


def reply_request(question, picture=None, tokens=None):
    """chat.v1.StreamReplyRequest: the question of a user; greedy; a reply of exactly so many tokens."""
    parts = field(2, field(1, question))
    if picture is not None:
        parts = field(2, field(2, field(1, picture))) + parts
    conversation = field(1, field(1, 2) + parts)
    options = field(1, field(1, 1))
    if tokens is not None:
        options += field(3, tokens) + field(4, tokens)
    return field(2, conversation) + field(3, options)


class Connection:
    """Reads only when asked to. `window`: how many bytes the other side may send on a stream unasked."""

    def __init__(self, port, window=65535, patience=60):
        self.port, self.next_stream, self.unread = port, 1, b""
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=patience)
        self.socket.sendall(PREFACE + frame(SETTINGS, 0, 0, struct.pack(">HI", INITIAL_WINDOW_SIZE, window)))

    def call(self, method, message, headers=()):
        """The number of its stream. Nobody waits for credit here: what is sent has to stay below 64 KiB."""
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        self.socket.sendall(request_frames(self.port, method, headers, message, stream))
        return stream

    def cancel(self, stream):
        self.socket.sendall(frame(RST_STREAM, 0, stream, struct.pack(">I", CANCEL)))

    def await_end(self, stream):
        """Reads until the other side has ended that stream."""
        while True:
            while len(self.unread) < 9 or len(self.unread) < 9 + int.from_bytes(self.unread[:3], "big"):
                more = self.socket.recv(1 << 16)
                if not more:
                    raise ConnectionResetError("closed by the other side")
                self.unread += more
            length = int.from_bytes(self.unread[:3], "big")
            kind, flags, number = struct.unpack(">BBI", self.unread[3:9])
            self.unread = self.unread[9 + length:]
            if kind == SETTINGS and not flags & ACK:
                self.socket.sendall(frame(SETTINGS, ACK, 0, b""))
            if number == stream and (kind == RST_STREAM or kind in (DATA, HEADERS) and flags & END_STREAM):
                return

    def close(self):
        self.socket.close()
