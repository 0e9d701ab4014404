"""deploy/alerts.yml: each alert fires when it should, and does not when it should not."""

import subprocess
import unittest

from deployment import DEPLOY, ROOT, alert_rules, needs_prometheus, needs_yaml, tool, yaml

UNIT_TESTS = ROOT / "tests" / "deploy" / "alerts_test.yml"


@needs_prometheus
@needs_yaml
class AlertsTest(unittest.TestCase):
    def assert_passes(self, *arguments):
        done = subprocess.run([tool("promtool"), *map(str, arguments)], capture_output=True, text=True, timeout=60)
        self.assertEqual(done.returncode, 0, done.stdout + done.stderr)

    def test_can_be_read(self):
        self.assert_passes("check", "rules", DEPLOY / "alerts.yml")
        self.assert_passes("check", "config", DEPLOY / "prometheus.yml")

    def test_fire_when_they_should(self):
        self.assert_passes("test", "rules", UNIT_TESTS)

    def test_have_a_history_where_they_fire_and_one_where_they_do_not(self):
        seen = set()
        for history in yaml.safe_load(UNIT_TESTS.read_text())["tests"]:
            for case in history["alert_rule_test"]:
                seen.add((case["alertname"], bool(case["exp_alerts"])))
        self.assertEqual(seen, {(rule["alert"], fires) for rule in alert_rules() for fires in (False, True)})


if __name__ == "__main__":
    unittest.main()
