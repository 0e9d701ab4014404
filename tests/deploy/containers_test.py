"""deploy/Containerfile and compose.yaml against the executable that they run. What it takes a bare Debian root to prove,
deploy/prove_containerfile.py does."""

import json
import os
import platform
import re
import shutil
import subprocess
import unittest
import urllib.request

from composed_fleet import KEY, TOKEN, ComposedFleetTest
from deployment import DEPLOY, ROOT, needs_yaml, own_services, read_compose, read_yaml
from harness import EXECUTABLE, NANO, SANITIZERS, ExecutableTest
from prove_containerfile import CONTAINERFILE, SUITES, read_instructions, words_of

# What every Debian has, and what a build with sanitizers links beside it.
NOT_NAMED = {"libc6", "libgcc-s1", "libstdc++6", "libasan8", "libubsan1", "libtsan2"}
# What is read, and not linked.
NOT_LINKED = {"ca-certificates"}


def packages_of(libraries):
    """The Debian packages that hold these shared libraries of this machine."""
    # A package may name its folder with or without /usr; dpkg grumbles about the other one.
    folders = [f"{top}/lib/{platform.machine()}-linux-gnu" for top in ("", "/usr")]
    listed = subprocess.run(["dpkg", "-S", *(f"{folder}/{library}" for folder in folders for library in libraries)],
                            capture_output=True, text=True, timeout=100).stdout
    return {line.split(":")[0] for line in listed.splitlines()}


class ContainerfileTest(unittest.TestCase):
    def setUp(self):
        self.instructions = [(name, rest) for _, name, rest in read_instructions(CONTAINERFILE.read_text())]
        starts = [i for i, (name, _) in enumerate(self.instructions) if name == "FROM"]
        self.image = self.instructions[starts[-1]:]

    @unittest.skipUnless(shutil.which("dpkg") and shutil.which("objdump"), "not a Debian with binutils")
    @unittest.skipIf(SANITIZERS, "sanitizers change what is linked")
    def test_installs_the_libraries_that_the_executable_links(self):
        (installing,) = (rest for name, rest in self.image if name == "RUN" and "apt-get install" in rest)
        named = set(installing.partition("--no-install-recommends")[2].partition("&&")[0].split())
        listed = subprocess.run(["objdump", "-p", EXECUTABLE], capture_output=True, text=True, check=True).stdout
        self.assertEqual(named - NOT_LINKED, packages_of(re.findall(r"NEEDED\s+(\S+)", listed)) - NOT_NAMED)

    def test_copies_what_is_there_and_ends_without_being_root(self):
        for name, rest in self.instructions:
            if name == "FROM":
                self.assertIn(rest.partition(" AS ")[0], SUITES)
            if name == "COPY" and not rest.startswith("--from="):
                for source in rest.split()[:-1]:
                    self.assertTrue((ROOT / source).exists(), rest)
        last = dict(self.image)
        self.assertNotIn(last["USER"], ("0", "root"))
        self.assertEqual(words_of(last["ENTRYPOINT"]), ["minicpmv"])
        self.assertIn(f"COPY deploy/health.sh /usr/bin/{words_of(last['HEALTHCHECK'].partition('CMD ')[2])[0]}",
                      [f"{name} {rest}" for name, rest in self.image])


@needs_yaml
class ComposeTest(ExecutableTest):
    def setUp(self):
        super().setUp()
        self.compose = read_compose()
        self.services = own_services(self.compose)

    def test_has_the_services_and_those_who_watch_them(self):
        self.assertEqual([service["command"][0] for service in self.services.values()],
                         ["router", "vision", "prefill", "decode", "gateway"])
        self.assertEqual(set(self.compose["services"]) - set(self.services), {"prometheus", "grafana"})

    def test_gives_flags_that_are_taken_and_would_not_listen_to_strangers(self):
        token, keys = self.write("token", TOKEN), self.write("keys", f"me {KEY}\n")
        for name, service in self.services.items():
            environment = {**os.environ, **service["environment"], "MINICPMV_TOKEN_FILE": str(token),
                           "MINICPMV_MODEL": str(NANO / "model")}
            command = [word.replace("/run/secrets/api_keys", str(keys)) for word in service["command"]]
            self.answer(*command, "--check-config", env=environment)
            secret = "--api-keys-file" if name == "gateway" else "--token-file"
            environment.pop("MINICPMV_TOKEN_FILE")
            self.assert_refused(secret, *(word for word in command if not word.startswith(secret)), "--check-config",
                                env=environment)

    def test_publishes_ports_on_this_machine_only(self):
        for name, service in self.compose["services"].items():
            for port in service.get("ports", ()):
                self.assertTrue(port.startswith("127.0.0.1:"), (name, port))

    def test_mounts_what_is_there(self):
        for name, service in self.compose["services"].items():
            for volume in service.get("volumes", ()):
                source = volume.split(":")[0]
                is_there = (DEPLOY / source).exists() if source.startswith(".") else source in self.compose["volumes"]
                self.assertTrue(is_there, (name, volume))

    def test_is_what_prometheus_and_grafana_look_for(self):
        (job,) = read_yaml("prometheus.yml")["scrape_configs"]
        ports = {name: service["environment"]["MINICPMV_ADMIN_LISTEN"].split(":")[1]
                 for name, service in self.services.items()}
        self.assertEqual(job["static_configs"], [{"targets": [f"{name}:{port}" for name, port in ports.items()]}])
        (source,) = read_yaml("grafana/provisioning/datasources/prometheus.yaml")["datasources"]
        self.assertEqual(source["url"], "http://prometheus:9090")
        (provider,) = read_yaml("grafana/provisioning/dashboards/minicpmv.yaml")["providers"]
        self.assertIn(f"./grafana/dashboards:{provider['options']['path']}:ro",
                      self.compose["services"]["grafana"]["volumes"])


@needs_yaml
class ComposedTest(ComposedFleetTest):
    def test_answers_and_is_healthy_until_it_ends(self):
        services = self.start_composed()
        self.assertEqual(self.answer("chat", *self.server, "Who are you?"), self.answer("chat", "Who are you?"))
        for name, process in services.items():
            self.assertEqual(self.health(process.admin).returncode, 0, name)
        request = urllib.request.Request(f"http://{services['gateway'].address}/v1/models",
                                         headers={"Authorization": f"Bearer {KEY}"})
        with urllib.request.urlopen(request, timeout=60) as answer:
            self.assertEqual([model["id"] for model in json.load(answer)["data"]], ["nano"])
        router = services["router"]
        self.assertEqual(router.stop(), 0)
        self.assertNotEqual(self.health(router.admin).returncode, 0)

    def health(self, admin):
        return subprocess.run([DEPLOY / "health.sh"], env={**os.environ, "MINICPMV_ADMIN_LISTEN": admin},
                              capture_output=True, timeout=60)


if __name__ == "__main__":
    unittest.main()
