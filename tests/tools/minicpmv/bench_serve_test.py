"""The subcommand bench serve, against real servers."""

import json
import re
import signal
import subprocess
import sys
import unittest

from harness import EXECUTABLE, ROOT, run

sys.path.insert(0, str(ROOT / "tests" / "cluster"))

from fleet import PATIENCE, FleetTest, die_with_parent  # noqa: E402

LINE = re.compile(r"bench serve \d+/\d+ s: \d+ sent, \d+ waiting, \d+ open, \d+ completed, \d+ refused, \d+ failed, "
                  r"\d+ tokens/s")
FIGURES = ["requests", "completed", "refused", "failed", "resumptions", "errors", "output_tokens_per_second", "goodput",
           "ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"]


class BenchServeTest(FleetTest):
    def serve(self, *flags):
        return self.start("serve", "--listen=127.0.0.1:0", *flags).await_ready()

    def start_bench(self, servers, *flags):
        at = ",".join(server.address for server in servers)
        command = [EXECUTABLE, "bench", "serve", f"--server={at}", f"--json={self.folder / 'f.json'}",
                   "--slo=ttft:1m,itl:1m", *flags]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=die_with_parent)
        self.addCleanup(self.discard, process)
        return process

    def end_bench(self, process):
        """The JSON object and the table."""
        output, error = process.communicate(timeout=PATIENCE)
        self.assertEqual(process.returncode, 0, error)
        lines = error.decode().splitlines()
        for line in lines:
            if "late: this machine is too busy" not in line:
                self.assertRegex(line, LINE)
        return json.loads((self.folder / "f.json").read_bytes()), output.decode()

    def bench(self, server, *flags):
        return self.end_bench(self.start_bench([server], *flags))

    def assert_adds_up(self, figures):
        self.assertEqual(figures["requests"], figures["completed"] + figures["refused"] + figures["failed"])
        self.assertEqual(sum(figures["errors"].values()), figures["refused"] + figures["failed"])
        for name in ("requests", "completed", "refused", "failed"):
            self.assertEqual(sum(entry[name] for entry in figures["by_class"].values()), figures[name])
        for name, ended in (("due", "requests"), ("sent", "requests"), ("completed", "completed"),
                            ("refused", "refused"), ("failed", "failed")):
            self.assertEqual(sum(second[name] for second in figures["series"]), figures[ended], name)
        self.assertEqual((figures["series"][-1]["waiting"], figures["series"][-1]["open"]), (0, 0))

    def test_measures_every_class_and_second(self):
        figures, table = self.bench(self.serve(), "--rate=12", "--seconds=3", "--mix=text:2,image:2,images:1",
                                    "--burstiness=0.5", "--think=50ms", "--seed=3")
        self.assertEqual(list(figures), ["offered_rate", "seconds", *FIGURES, "by_class", "series"])
        self.assertEqual(list(figures["by_class"]), ["text", "image", "images"])
        self.assert_adds_up(figures)
        self.assertEqual(figures["completed"], figures["requests"])
        self.assertEqual(figures["offered_rate"], 12)
        self.assertAlmostEqual(figures["goodput"], figures["completed"] / figures["seconds"])
        for entry in (figures, *figures["by_class"].values()):
            self.assertGreater(entry["completed"], 0)
            self.assertEqual(list(entry)[-len(FIGURES):] if "series" not in entry else FIGURES, FIGURES)
            for name in ("ttft_ms", "itl_ms", "tpot_ms", "e2e_ms"):
                values = list(entry[name].values())
                self.assertEqual(list(entry[name]), ["p50", "p90", "p99", "max"])
                self.assertEqual(values, sorted(values))
                self.assertGreater(values[-1], 0)
        tokens = sum(second["output_tokens"] for second in figures["series"])
        self.assertAlmostEqual(figures["output_tokens_per_second"], tokens / figures["seconds"])
        self.assertIn(f"{figures['requests']} requests, {figures['completed']} completed, 0 refused, 0 failed", table)

    def test_counts_waiting_for_a_stream_as_latency(self):
        # Each reply takes its time: one after the other they fall behind.
        figures, _ = self.bench(self.serve("--threads=1"), "--rate=100", "--seconds=1", "--mix=text:1", "--turns=1",
                                "--scale=0.2", "--streams=1")
        self.assert_adds_up(figures)
        self.assertEqual(figures["failed"], 0)
        self.assertLessEqual(max(second["open"] for second in figures["series"]), 1)
        self.assertGreater(figures["seconds"], 1.2)
        self.assertGreater(figures["ttft_ms"]["max"], 500 * (figures["seconds"] - 1))

    def test_counts_what_a_full_server_turns_away_as_refused(self):
        server = self.serve("--sequences=1", "--queue=1", "--threads=1")
        figures, table = self.bench(server, "--rate=100", "--seconds=2", "--mix=text:1", "--scale=0.2")
        self.assert_adds_up(figures)
        self.assertGreater(figures["refused"], 0)
        self.assertGreater(figures["completed"], 0)
        self.assertEqual(figures["errors"], {"RESOURCE_EXHAUSTED": figures["refused"]})
        self.assertIn(f"refusals: {figures['refused']} of {figures['refused']} say when to come again", table)
        self.assert_rests([server])

    def test_ends_by_itself_when_the_server_goes_away(self):
        server = self.serve()
        bench = self.start_bench([server], "--rate=20", "--seconds=3")
        self.assertRegex(bench.stderr.readline().decode(), LINE)
        server.stop(signal.SIGKILL)
        figures, _ = self.end_bench(bench)
        self.assert_adds_up(figures)
        self.assertGreater(figures["completed"], 0)
        self.assertGreater(figures["failed"], 0)
        self.assertEqual(figures["refused"], 0)
        self.assertEqual(set(figures["errors"]), {"UNAVAILABLE"})

    def test_gives_up_on_a_server_that_froze(self):
        server = self.serve()
        bench = self.start_bench([server], "--rate=20", "--seconds=2", "--timeout=1s")
        self.assertRegex(bench.stderr.readline().decode(), LINE)
        server.process.send_signal(signal.SIGSTOP)
        figures, _ = self.end_bench(bench)
        self.assert_adds_up(figures)
        self.assertGreater(figures["failed"], 0)

    def test_tells_what_came_so_far_when_it_is_interrupted(self):
        server = self.serve()
        bench = self.start_bench([server], "--rate=20", "--seconds=600")
        self.assertRegex(bench.stderr.readline().decode(), LINE)
        bench.send_signal(signal.SIGINT)
        figures, table = self.end_bench(bench)
        self.assert_adds_up(figures)
        self.assertGreater(figures["completed"], 0)
        self.assertEqual(figures["errors"], {})
        self.assertIn(f"{figures['requests']} requests", table)
        self.assert_rests([server])

    def test_goes_on_with_another_router(self):
        (lost, kept), _ = self.start_fleet(routers=2)
        bench = self.start_bench([lost, kept], "--rate=30", "--seconds=4", "--patience=1m")
        self.assertRegex(bench.stderr.readline().decode(), LINE)
        lost.stop(signal.SIGKILL)
        figures, table = self.end_bench(bench)
        self.assert_adds_up(figures)
        self.assertEqual(figures["completed"], figures["requests"])
        if figures["resumptions"] > 0:  # some reply was under way, or none
            self.assertIn(f"replies that broke went on {figures['resumptions']} times", table)

    def test_says_what_is_wrong(self):
        server = "--server=127.0.0.1:1"
        self.assert_refused("--server", "bench", "serve")
        self.assert_refused("--mix", "bench", "serve", server, "--mix=video:1")
        self.assert_refused("--slo", "bench", "serve", server, "--slo=soon")
        self.assert_refused("--rate", "bench", "serve", server, "--rate=0")
        self.assert_refused("--rate", "bench", "serve", server, "--rate=1000", "--seconds=10000")
        self.assert_refused("--json", "bench", "serve", server, "--json=/nowhere/figures.json")
        self.assert_refused("127.0.0.1:1", "bench", "serve", server, "--seconds=1", status=1)


if __name__ == "__main__":
    unittest.main()
