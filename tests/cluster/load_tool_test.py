"""A load tool that others wrote, as it is, in front of the gateway: it counts the replies that `bench serve` counts."""

import re
import subprocess
import sys
import unittest

from fleet import PATIENCE, FleetTest
from harness import EXECUTABLE, ROOT

AIPERF = ROOT / "build" / "aiperf" / "bin" / "aiperf"
COUNTS = re.compile(r"^replies +(\d+) +(\d+)$", re.MULTILINE)


class LoadToolTest(FleetTest):
    @unittest.skipUnless(AIPERF.exists(), "aiperf is not there: tools/install_deps.sh --aiperf")
    def test_aiperf_drives_it_unmodified(self):
        # How well their figures agree is for an idle machine to say.
        done = subprocess.run([sys.executable, ROOT / "tools" / "compare_load_tools", f"--executable={EXECUTABLE}",
                               f"--aiperf={AIPERF}", "--seconds=4", "--tolerance=1e9"],
                              capture_output=True, text=True, timeout=3 * PATIENCE)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)
        ours, theirs = map(int, COUNTS.search(done.stdout).groups())
        self.assertEqual(ours, theirs)
        self.assertGreater(ours, 5)


if __name__ == "__main__":
    unittest.main()
