"""Clients that take much and give nothing: others get their answers, and nothing is left once they are gone."""

import os
import pathlib
import resource
import time
import unittest

from fleet import PATIENCE, PICTURES, FleetTest
from harness import SANITIZERS
from raw_calls import STREAM_REPLY, Connection, reply_request

STREAMS = 1000
CONNECTIONS = 10_000
QUESTION = (f"--image={PICTURES / '008-0.png'}", "How many diamonds are there?", "--greedy")
MIB = 1 << 20


@unittest.skipIf(SANITIZERS, "sanitizers take more memory and time than the crowds")
class CrowdTest(FleetTest):
    def setUp(self):
        super().setUp()
        self.here = self.reply(*QUESTION)["tokens"]

    def start_all(self, *router_flags):
        routers, workers = self.start_fleet(router_flags=router_flags)
        self.router, self.processes = routers[0], [*routers, *workers]
        self.port = int(self.router.address.rsplit(":", 1)[1])
        self.assert_others_answered()

    def assert_others_answered(self):
        there = self.reply(*QUESTION, f"--server={self.router.address}", "--cache-scope=somebody-else")
        self.assertEqual(there["tokens"], self.here)

    def files(self):
        return len(os.listdir(f"/proc/{self.router.pid}/fd"))

    def memory(self):
        """Bytes in the router's memory."""
        pages = int(pathlib.Path(f"/proc/{self.router.pid}/statm").read_text().split()[1])
        return pages * resource.getpagesize()

    def await_that(self, holds):
        end = time.monotonic() + PATIENCE
        while not holds():
            self.assertLess(time.monotonic(), end, (self.router.metrics(), self.log_of("router")))
            time.sleep(0.01)

    def test_a_client_that_opens_a_thousand_streams_and_reads_none(self):
        self.start_all(f"--queue={2 * STREAMS}", f"--tenant-queue={2 * STREAMS}")
        files, memory = self.files(), self.memory()
        ended = 'minicpmv_requests_total{code="OK",stream="true"}'
        before = self.router.metrics()[ended]
        connection = Connection(self.port, window=0)
        for _ in range(STREAMS):
            connection.call(STREAM_REPLY, reply_request("Who are you?", tokens=24))
        self.assert_others_answered()
        # All have been made, and nobody has taken any of them.
        self.await_that(lambda: self.router.metrics()[ended] >= before + STREAMS + 1)
        self.assertLess(self.memory() - memory, 256 * MIB)
        self.assert_others_answered()
        connection.close()
        self.await_that(lambda: self.files() <= files)
        self.assert_rests(self.processes)
        self.assert_others_answered()

    def test_ten_thousand_idle_connections(self):
        needed = CONNECTIONS + 500
        soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        if hard != resource.RLIM_INFINITY and hard < needed:
            self.skipTest(f"needs {needed} open files; the hard limit is {hard}")
        resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, needed), hard))
        self.addCleanup(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        self.start_all()
        files, memory = self.files(), self.memory()
        idle = [Connection(self.port) for _ in range(CONNECTIONS)]
        self.await_that(lambda: self.files() >= files + CONNECTIONS)
        self.assertLess(self.memory() - memory, 1024 * MIB)
        self.assert_others_answered()
        self.assert_rests(self.processes)
        for connection in idle:
            connection.close()
        self.await_that(lambda: self.files() <= files)
        self.assert_others_answered()


if __name__ == "__main__":
    unittest.main()
