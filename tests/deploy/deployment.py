"""What deploy/ holds, read for its tests."""

import json
import os
import pathlib
import re
import shutil
import sys
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
for folder in (DEPLOY, ROOT / "tests" / "cluster", ROOT / "tests" / "tools" / "minicpmv"):
    sys.path.insert(0, str(folder))

try:
    import yaml
except ImportError:
    yaml = None


def tool(name):
    """The path of prometheus or promtool: where tools/install_deps.sh unpacks them, or installed. None without."""
    return shutil.which(name, path=os.pathsep.join([os.environ.get("MINICPMV_PROMETHEUS", ""), os.environ["PATH"]]))


def needs_prometheus(test):
    return unittest.skipUnless(tool("promtool") and tool("prometheus"),
                               "no promtool (tools/install_deps.sh --prometheus=DIR)")(test)


def needs_yaml(test):
    return unittest.skipUnless(yaml, "no yaml module for this Python (python3-yaml)")(test)


def read_yaml(name):
    return yaml.safe_load((DEPLOY / name).read_text())


def read_compose():
    """compose.yaml as an engine without any variable set reads it."""
    text = (DEPLOY / "compose.yaml").read_text()
    return yaml.safe_load(re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", text))


def own_services(compose):
    """{name: service} of those that run our image."""
    return {name: service for name, service in compose["services"].items() if service["image"] == "minicpmv"}


def alert_rules():
    return [rule for group in read_yaml("alerts.yml")["groups"] for rule in group["rules"]]


def dashboard_targets():
    """(panel's title, query, legend) of each line that the dashboard draws."""
    board = json.loads((DEPLOY / "grafana" / "dashboards" / "minicpmv.json").read_text())
    return [(panel["title"], target["expr"], target["legendFormat"])
            for panel in board["panels"] for target in panel.get("targets", ())]
