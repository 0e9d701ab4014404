"""The subcommand bench: its form, not its figures."""

import json
import unittest

from harness import ExecutableTest

SMALL = ("--prompt=40", "--tokens=4", "--batch=1,3", "--slices=2")


class BenchTest(ExecutableTest):
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
