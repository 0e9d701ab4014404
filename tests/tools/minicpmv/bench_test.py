"""The subcommand bench: its form, not its figures."""

import json
import unittest

from harness import ExecutableTest, run

SMALL = ("--prompt=40", "--tokens=4", "--batch=1,3", "--slices=2")


class BenchTest(ExecutableTest):
    def answer(self, *arguments):
        """Standard output; on standard error there may be lines of progress, where the machine is slow."""
        done = run(*arguments)
        self.assertEqual(done.returncode, 0, done.stderr)
        for line in done.stderr.decode().splitlines():
            self.assertRegex(line, r"\Abench \d/6: [a-z, 0-9]+, \d+/\d+ [a-z-]+ after \d+ s\Z")
        return done.stdout.decode()

    def test_tells_how_far_it_is_when_it_takes_long(self):
        done = run("bench", "--threads=1", "--prompt=16", "--tokens=1900", "--batch=10")
        self.assertEqual(done.returncode, 0, done.stderr)
        lines = done.stderr.decode().splitlines()
        self.assertTrue(any("bench 4/5: decode, 10, " in line for line in lines), lines)

    def test_prints_one_json_object(self):
        figures = json.loads(self.answer("bench", "--json", "--threads=1", *SMALL))
        self.assertEqual(list(figures), ["bounds", "load_seconds", "decode", "prefill", "vision", "rss_anon_bytes"])
        self.assertEqual(list(figures["bounds"]), ["read_bytes_per_second", "fma_flops_per_second"])
        for entry in figures["decode"]:
            self.assertEqual(list(entry), ["batch", "tokens_per_second", "bound_share"])
        self.assertEqual([entry["batch"] for entry in figures["decode"]], [1, 3])
        self.assertEqual(list(figures["prefill"]), ["tokens_per_second", "bound_share"])
        self.assertEqual(list(figures["vision"]), ["slices_per_second", "bound_share"])
        rates = [*figures["bounds"].values(), figures["load_seconds"], figures["rss_anon_bytes"]]
        for part in (*figures["decode"], figures["prefill"], figures["vision"]):
            rates += part.values()
        self.assertTrue(all(rate > 0 for rate in rates), figures)

    def test_prints_a_table(self):
        table = self.answer("bench", "--devices=cpu:threads=1,cpu:threads=1", *SMALL)
        for word in ("bounds", "load", "decode,    1", "decode,    3", "prefill", "vision", "anonymous memory"):
            self.assertIn(word, table)


if __name__ == "__main__":
    unittest.main()
