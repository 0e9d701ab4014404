"""The services of deploy/compose.yaml as processes of this machine: each name there is a loopback address here, so that
flags, ports and the files beside it are taken as they are."""

import os
import re

from deployment import own_services, read_compose
from fleet import FleetTest
from harness import NANO

TOKEN = "known-to-tests-of-deploy-only"
KEY = "sk-known-to-tests-of-deploy-only"


class ComposedFleetTest(FleetTest):
    def start_composed(self):
        """{service's name: Process}, all ready and known to each other."""
        services = own_services(read_compose())
        # An address a service and a test: others may run the same ports meanwhile.
        net = f"127.{100 + os.getpid() // 256 % 100}.{os.getpid() % 256}"
        self.addresses = {name: f"{net}.{number}" for number, name in enumerate(services, 1)}
        self.prometheus_address = f"{net}.{len(services) + 1}:9090"
        self.token = self.write("cluster_token", TOKEN)
        self.keys = self.write("api_keys", f"me {KEY}\n")
        started = {}
        for name, service in services.items():
            environment = {key: self.here(value, name) for key, value in service["environment"].items()}
            command = [self.here(word, name) for word in service["command"]]
            started[name] = self.start(*command, environment=environment)
        for process in started.values():
            process.await_ready()
        self.server = (f"--server={self.addresses['router']}:50070", f"--token-file={self.token}")
        self.await_workers(f"{self.addresses['router']}:50070", len(services) - 2, self.server[1])  # all but router and gateway
        return started

    def here(self, text, own_name):
        """What a word of the compose file has to be on this machine, for the service of that name."""
        text = text.replace("0.0.0.0:", f"{self.addresses[own_name]}:")
        text = text.replace("/run/secrets/cluster_token", str(self.token))
        text = text.replace("/run/secrets/api_keys", str(self.keys))
        text = re.sub(r"\A/model\Z", str(NANO / "model"), text)
        return re.sub(r"\b(" + "|".join(self.addresses) + r")(?=:\d)",
                      lambda match: self.addresses[match.group(1)], text)
