"""Every query of the dashboard and of the alerts, asked of a Prometheus that reads a living fleet."""

import json
import re
import subprocess
import time
import unittest
import urllib.parse
import urllib.request

from composed_fleet import ComposedFleetTest
from deployment import DEPLOY, alert_rules, dashboard_targets, needs_prometheus, needs_yaml, read_yaml, tool, yaml
from fleet import PATIENCE, PICTURES, die_with_parent

SCRAPE_EVERY = "1s"
RANGE = "1m"  # what Grafana would put for $__rate_interval
# A series by its name, with what a query asks of its labels.
SELECTOR = re.compile(r"\b((?:minicpmv|process)_\w+|up)\b(?:\{([^}]*)\})?")


def parse_series(line):
    name, _, labels = line.partition("{")
    return name, dict(re.findall(r'(\w+)="([^"]*)"', labels))


def matches(labels, conditions):
    for label, how, value in re.findall(r'(\w+)\s*(=~|!~|!=|=)\s*"([^"]*)"', conditions or ""):
        if label == "job":  # Prometheus's own
            continue
        has = labels.get(label, "")
        is_met = re.fullmatch(value, has) is not None if "~" in how else has == value
        if is_met == how.startswith("!"):
            return False
    return True


@needs_prometheus
@needs_yaml
class MetricsTest(ComposedFleetTest):
    def setUp(self):
        super().setUp()
        self.services = self.start_composed()
        self.ask()

    def ask(self):
        picture = f"--image={PICTURES / '008-0.png'}"
        self.answer("chat", *self.server, picture, "How many diamonds are there?")

    def start_prometheus(self):
        """Reads the fleet as deploy/prometheus.yml says, but often."""
        config = read_yaml("prometheus.yml")
        config["global"] = {"scrape_interval": SCRAPE_EVERY, "evaluation_interval": SCRAPE_EVERY}
        config["rule_files"] = [str(DEPLOY / name) for name in config["rule_files"]]
        for scrape in config["scrape_configs"]:
            for static in scrape["static_configs"]:
                static["targets"] = [self.here(target, "router") for target in static["targets"]]
        path = self.write("prometheus.yml", yaml.safe_dump(config))
        log = open(self.folder / "prometheus.log", "ab")
        self.addCleanup(log.close)
        process = subprocess.Popen([tool("prometheus"), f"--config.file={path}", "--web.listen-address",
                                    self.prometheus_address, f"--storage.tsdb.path={self.folder / 'tsdb'}"],
                                   stdin=subprocess.DEVNULL, stdout=log, stderr=log, preexec_fn=die_with_parent)
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)

    def get(self, page, **parameters):
        url = f"http://{self.prometheus_address}/api/v1/{page}?{urllib.parse.urlencode(parameters)}"
        with urllib.request.urlopen(url, timeout=PATIENCE) as answer:
            return json.load(answer)["data"]

    def query(self, expression):
        """The samples that promtool gets. On a busy machine a process may just not have been read in time: for a while
        none is asked for again."""
        end = time.monotonic() + 10
        while True:
            done = subprocess.run([tool("promtool"), "query", "instant", "--format=json",
                                   f"http://{self.prometheus_address}", expression],
                                  capture_output=True, text=True, timeout=PATIENCE)
            self.assertEqual(done.returncode, 0, (expression, done.stderr))
            if (samples := json.loads(done.stdout)) or time.monotonic() > end:
                return samples
            time.sleep(0.2)

    def await_scrapes(self):
        """Every process has been read a few times, so that there are rates."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                found = self.get("query", query='count_over_time(up{job="minicpmv"}[1m])')["result"]
            except (OSError, ValueError):
                found = []
            if len(found) == len(self.services) and all(int(series["value"][1]) >= 3 for series in found):
                return
            self.assertLess(time.monotonic(), end, (self.folder / "prometheus.log").read_text())
            time.sleep(0.1)

    def test_every_query_is_answered(self):
        self.start_prometheus()
        self.await_scrapes()
        self.ask()
        for title, expression, legend in dashboard_targets():
            with self.subTest(panel=title, query=expression):
                samples = self.query(expression.replace("$__rate_interval", RANGE))
                self.assertTrue(samples)
                for label in re.findall(r"\{\{(\w+)\}\}", legend):
                    self.assertTrue(all(label in sample["metric"] for sample in samples), f"no label {label}")
        (group,) = self.get("rules")["groups"]
        self.assertEqual({rule["name"]: rule["health"] for rule in group["rules"]},
                         {rule["alert"]: "ok" for rule in alert_rules()})
        self.assertNotIn("firing", [rule["state"] for rule in group["rules"]])

    def test_every_series_that_is_asked_for_exists(self):
        exposed = [parse_series(name) for process in self.services.values() for name in process.metrics()]
        queries = [expression for _, expression, _ in dashboard_targets()] + [rule["expr"] for rule in alert_rules()]
        for expression in queries:
            for name, conditions in SELECTOR.findall(expression):
                with self.subTest(query=expression, series=name):
                    self.assertTrue(name == "up" or any(name == other and matches(labels, conditions)
                                                        for other, labels in exposed))

    def test_metrics_are_as_prometheus_wants_them(self):
        for name, process in self.services.items():
            with urllib.request.urlopen(f"http://{process.admin}/metrics", timeout=PATIENCE) as answer:
                text = answer.read()
            done = subprocess.run([tool("promtool"), "check", "metrics"], input=text, capture_output=True, timeout=PATIENCE)
            self.assertEqual((done.returncode, done.stdout + done.stderr), (0, b""), name)


if __name__ == "__main__":
    unittest.main()
