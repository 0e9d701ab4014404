"""Every listening port of every process: strangers are told from friends, and bytes that mean nothing harm nobody."""

import pathlib
import random
import re
import socket
import unittest

from fleet import PICTURES, FleetTest
from harness import ROOT, run
from raw_calls import PREFACE, SETTINGS, STREAM_REPLY, frame, request_frames

UNAUTHENTICATED = b"grpc-status\x0216"
QUESTION = (f"--image={PICTURES / '008-0.png'}", "How many diamonds are there?", "--greedy")


def listening_ports(pid):
    """TCP ports on which that process listens, from the kernel's own list."""
    inodes = set()
    for link in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        match = re.fullmatch(r"socket:\[(\d+)\]", str(link.readlink()))
        if match:
            inodes.add(match.group(1))
    ports = set()
    for table in ("tcp", "tcp6"):
        for line in pathlib.Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                ports.add(int(fields[1].rsplit(":", 1)[1], 16))
    return ports


def all_methods():
    """"/package.Service/Method" of every RPC of the project's protos, and those that every process has besides."""
    methods = ["/grpc.health.v1.Health/Check", "/grpc.health.v1.Health/Watch",
               "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/nobody.Knows/This"]
    for path in sorted((ROOT / "proto").rglob("*.proto")):
        text = path.read_text()
        for service, body in re.findall(r"^service (\w+) \{(.*?)^\}", text, re.M | re.S):
            package = re.search(r"^package ([\w.]+);", text, re.M).group(1)
            methods += [f"/{package}.{service}/{method}" for method in re.findall(r"\brpc (\w+)", body)]
    return methods


def call_bytes(port, method, headers=()):
    """A connection that makes one call with an empty message."""
    return PREFACE + frame(SETTINGS, 0, 0, b"") + request_frames(port, method, headers)


def answer_to(port, data, until=None, patience=20):
    """What comes back until the other side closes, or until those bytes are among it."""
    with socket.create_connection(("127.0.0.1", port), timeout=patience) as connection:
        got = b""
        try:
            connection.sendall(data)
            if until is None:
                connection.shutdown(socket.SHUT_WR)
            while until is None or until not in got:
                more = connection.recv(1 << 16)
                if not more:
                    break
                got += more
        except OSError:  # it was cut off, or said nothing for so long
            pass
        return got


class PortsTest(FleetTest):
    def start_all(self, *flags):
        routers, workers = self.start_fleet(router_flags=flags, flags={"": flags}, more=flags)
        return [*routers, *workers]

    def test_a_stranger_is_refused_at_every_port_by_every_method(self):
        token = "a-token-of-this-cluster"
        path = self.write("token", token + "\n")
        processes = self.start_all(f"--token-file={path}", "--reflection")
        methods = all_methods()
        self.assertGreater(len(methods), 15)
        for process in processes:
            ports = listening_ports(process.pid)
            admin = int(process.admin.rsplit(":", 1)[1])
            port = int(process.address.rsplit(":", 1)[1])
            self.assertEqual(ports, {port, admin}, process.role)
            for method in methods:
                for headers in ((), (("authorization", "Bearer " + token[:-1]),), (("authorization", ""),)):
                    answer = answer_to(port, call_bytes(port, method, headers), until=UNAUTHENTICATED)
                    self.assertIn(UNAUTHENTICATED, answer, (process.role, method, headers))
            for flags in ((), (f"--token-file={self.write('other', 'not-the-token-of-it')}",)):
                for command in (("workers",), ("chat", "Hello")):
                    done = run(*command, f"--server={process.address}", *flags)
                    self.assertNotEqual(done.returncode, 0)
                    self.assertIn("token", done.stderr.decode(), (process.role, command))
            # So that the knocks are known to be understood.
            friend = call_bytes(port, "/grpc.health.v1.Health/Check", (("authorization", "Bearer " + token),))
            self.assertIn(b"grpc-status\x010", answer_to(port, friend, until=b"grpc-status\x010"), process.role)
        here = self.reply(*QUESTION)
        there = self.reply(*QUESTION, f"--server={processes[0].address}", f"--token-file={path}")
        self.assertEqual(there["tokens"], here["tokens"])
        self.assert_rests(processes)

    def test_bytes_that_mean_nothing_harm_nobody(self):
        processes = self.start_all()
        here = self.reply(*QUESTION)
        draw = random.Random(5)
        for process in processes:
            for port in listening_ports(process.pid):
                call = call_bytes(port, STREAM_REPLY)
                for data in (b"", b"\0", draw.randbytes(1), draw.randbytes(100), draw.randbytes(100_000),
                             b"GET / HTTP/1.1\r\n\r\n", b"GET /" + b"x" * 100_000, b"\r\n" * 50_000,
                             b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(500),  # a TLS greeting
                             PREFACE, PREFACE[:10], PREFACE + draw.randbytes(10_000),
                             PREFACE + frame(4, 0, 0, b"\0" * 7), PREFACE + frame(0, 0, 0, b"x" * 100),
                             PREFACE + frame(4, 0, 0, b"") + frame(1, 4, 1, draw.randbytes(200)),
                             PREFACE + b"\xff\xff\xff\0\0\0\0\0\1" + b"x" * 1000, call, call[:-3], call + call,
                             call.replace(b"\0\0\0\0\0", b"\0\xff\xff\xff\xff"), call + draw.randbytes(1000),
                             *(bytes(b if draw.random() > 0.05 else draw.randrange(256) for b in call)
                               for _ in range(30))):
                    answer_to(port, data)
            self.assertTrue(process.alive(), process.role)
        for _ in range(3):
            there = self.reply(*QUESTION, f"--server={processes[0].address}")
            self.assertEqual(there["tokens"], here["tokens"])
        self.assertEqual(len(self.await_workers(processes[0].address, 3)), 3)
        self.assert_rests(processes)


if __name__ == "__main__":
    unittest.main()
