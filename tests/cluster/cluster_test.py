"""`minicpmv cluster`: a router and its workers as children of one process, of which nothing is left over."""

import os
import re
import signal
import time
import unittest

from fleet import PATIENCE, PICTURES, FleetTest
from harness import run

QUESTION = (f"--image={PICTURES / '008-0.png'}", "How many diamonds are there?", "--greedy")


def is_alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


class ClusterTest(FleetTest):
    def pids(self):
        return {name: member.pid for name, member in self.members.items()}

    def assert_none_left(self, pids, within=PATIENCE):
        end = time.monotonic() + within
        while left := [pid for pid in pids if is_alive(pid)]:
            self.assertLess(time.monotonic(), end, f"{left} are left over")
            time.sleep(0.01)

    def test_answers_and_stops_without_a_trace(self):
        here = self.reply(*QUESTION)
        for how in (signal.SIGTERM, signal.SIGINT):
            cluster, address = self.start_cluster("--vision=2", "--prefill=1", "--decode=2")
            self.assertEqual(sorted(self.members), ["decode-0", "decode-1", "prefill-0", "router", "vision-0", "vision-1"])
            self.await_workers(address, 5)
            self.assertEqual(self.reply(*QUESTION, f"--server={address}")["tokens"], here["tokens"])
            self.assertEqual(cluster.stop(how), 0)
            self.assert_none_left(self.pids().values(), within=0)

    def test_starts_again_what_dies(self):
        here = self.reply(*QUESTION)
        cluster, address = self.start_cluster()
        for name in ("decode-0", "vision-0", "router"):
            before = self.pids()
            os.kill(before[name], signal.SIGKILL)
            self.note_member(cluster.read_line())
            self.assertNotEqual(self.pids()[name], before[name])
            self.await_workers(address, 3)
            self.assertEqual(self.reply(*QUESTION, f"--server={address}")["tokens"], here["tokens"])
            self.assertIn(f"{name} ended: signal 9; it starts again in ", self.log_of("cluster"))
        self.assertEqual(cluster.stop(), 0)
        self.assert_none_left(self.pids().values(), within=0)

    def test_takes_its_children_along_when_it_is_killed(self):
        cluster, _ = self.start_cluster()
        cluster.process.kill()
        cluster.process.wait()
        self.assert_none_left(self.pids().values())

    def test_stops_where_one_cannot_start(self):
        done = run("cluster", "--listen=127.0.0.1:0", "--model=/absent")
        self.assertEqual(done.returncode, 2)
        self.assertEqual(done.stdout, b"")
        last = done.stderr.decode().splitlines()[-1]
        self.assertIn("could not start", last)
        self.assertIn("--model", last)
        self.assert_none_left([int(pid) for pid in re.findall(r", pid (\d+)", done.stderr.decode())], within=0)

    def test_names_a_flag_that_is_wrong(self):
        self.assert_refused("--vision", "cluster", "--vision=0")
        self.assert_refused("--settle", "cluster", "--settle=soon")
        self.assert_refused("--router", "cluster", "--router=127.0.0.1:1")

    def test_checks_its_settings_without_starting_anybody(self):
        self.assertEqual(self.answer("cluster", "--check-config", "--listen=127.0.0.1:0"), "")
        for flag, words in (("--listen=nowhere", "--listen"), ("--listen=0.0.0.0:0", "--listen"),
                            ("--admin-listen=x", "--admin-listen"), ("--token-file=/absent", "/absent"),
                            ("--tenants=/absent", "--tenants"), ("--http=0.0.0.0:0", "--http")):
            self.assert_refused(words, "cluster", "--check-config", flag)


if __name__ == "__main__":
    unittest.main()
