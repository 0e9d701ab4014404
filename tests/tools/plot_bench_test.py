"""tools/plot_bench.py: needs matplotlib, which the rest of the project does not."""

import importlib.util
import json
import pathlib
import subprocess
import sys
import tempfile
import unittest

PLOT = pathlib.Path(__file__).resolve().parents[2] / "tools" / "plot_bench.py"

LATENCY = {"p50": 1.5, "p90": 2, "p99": 3, "max": 4}
SECOND = {"due": 2, "sent": 2, "completed": 1, "refused": 0, "failed": 0, "waiting": 0, "open": 1, "output_tokens": 30,
          "ttft_ms": LATENCY, "itl_ms": LATENCY, "refusal_ms": None}
SILENT = {**SECOND, "output_tokens": 0, "ttft_ms": None, "itl_ms": None}
FIGURES = {"offered_rate": 2.0, "seconds": 2.1, "requests": 4, "completed": 4, "output_tokens_per_second": 15.0,
           "goodput": 1.5, "series": [{"second": 0, **SECOND}, {"second": 1, **SILENT}]}


def plot(folder, content):
    path = pathlib.Path(folder) / "figures.json"
    path.write_text(content)
    return subprocess.run([sys.executable, str(PLOT), str(path)], capture_output=True, timeout=100)


class PlotBenchTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = folder.name

    def test_draws_a_picture_beside_the_figures(self):
        if importlib.util.find_spec("matplotlib") is None:
            self.skipTest("matplotlib is not installed (python3-matplotlib)")
        done = plot(self.folder, json.dumps(FIGURES))
        self.assertEqual(done.returncode, 0, done.stderr)
        picture = pathlib.Path(self.folder) / "figures.png"
        self.assertEqual(done.stdout.decode().strip(), str(picture))
        self.assertEqual(picture.read_bytes()[:8], b"\x89PNG\r\n\x1a\n")

    def test_says_when_there_is_nothing_to_draw(self):
        done = plot(self.folder, "{}")
        self.assertEqual(done.returncode, 1)
        self.assertIn(b"has no series", done.stderr)


if __name__ == "__main__":
    unittest.main()
