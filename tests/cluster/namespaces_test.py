"""Two network namespaces on one machine stand for two machines: vision in one, the rest in the other."""

import os
import shutil
import subprocess
import unittest

from fleet import FleetTest, nano_conversations
from harness import run

HOSTS = {"a": "10.83.71.1", "b": "10.83.71.2"}


def shell(*words):
    return subprocess.run(list(map(str, words)), capture_output=True, text=True, timeout=60)


class NamespacesTest(FleetTest):
    def setUp(self):
        super().setUp()
        if not shutil.which("ip"):
            self.skipTest("no `ip` here: network namespaces cannot be made")
        self.names = {host: f"mcv{os.getpid()}{host}" for host in HOSTS}
        for name in self.names.values():
            made = shell("ip", "netns", "add", name)
            if made.returncode:
                self.skipTest(f"network namespaces cannot be made here: {made.stderr.strip()}")
            self.addCleanup(shell, "ip", "netns", "del", name)
        made = shell("ip", "link", "add", self.names["a"], "type", "veth", "peer", "name", self.names["b"])
        if made.returncode:
            self.skipTest(f"two network namespaces cannot be joined here: {made.stderr.strip()}")
        for host, name in self.names.items():
            for words in (("ip", "link", "set", name, "netns", name),
                          (*self.within(host), "ip", "addr", "add", f"{HOSTS[host]}/24", "dev", name),
                          (*self.within(host), "ip", "link", "set", name, "up"),
                          (*self.within(host), "ip", "link", "set", "lo", "up")):
                done = shell(*words)
                self.assertEqual(done.returncode, 0, (words, done.stderr))

    def within(self, host):
        return ("ip", "netns", "exec", self.names[host])

    def certificate(self, name, *extensions):
        """Files of a key and of a certificate that the test's authority has signed."""
        key, request, certificate = (self.folder / f"{name}.{end}" for end in ("key", "csr", "pem"))
        config = self.write(f"{name}.cnf", "subjectAltName=" + ",".join(extensions) + "\n")
        authority = self.folder / "authority.pem"
        if not authority.exists():
            self.openssl("req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=test authority",
                         "-keyout", self.folder / "authority.key", "-out", authority)
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-subj", f"/CN={name}", "-keyout", key, "-out", request)
        self.openssl("x509", "-req", "-in", request, "-CA", authority, "-CAkey", self.folder / "authority.key",
                     "-CAcreateserial", "-days", "2", "-extfile", config, "-out", certificate)
        return (f"--tls-certificate={certificate}", f"--tls-key={key}", f"--tls-ca={authority}")

    def openssl(self, *words):
        if not shutil.which("openssl"):
            self.skipTest("no `openssl` here: no certificates can be made")
        done = shell("openssl", *words)
        self.assertEqual(done.returncode, 0, done.stderr)

    def assert_answers_across(self, secrets, client):
        """`secrets`: flags of the processes of each host; `client`: of a client in b."""
        router = self.start("router", f"--listen={HOSTS['b']}:0", *secrets["b"], prefix=self.within("b")).await_ready()
        joins = (f"--router={router.address}",)
        workers = [
            self.start("vision", "--listen=0.0.0.0:50091", f"--advertise={HOSTS['a']}:50091", *joins, *secrets["a"],
                       prefix=self.within("a")).await_ready(),
            self.start("prefill", f"--listen={HOSTS['b']}:0", *joins, *secrets["b"],
                       prefix=self.within("b")).await_ready(),
            self.start("decode", f"--listen={HOSTS['b']}:0", *joins, *secrets["b"],
                       prefix=self.within("b")).await_ready()]
        asks = (f"--server={router.address}", *client)
        self.await_workers(router.address, len(workers), *client, prefix=self.within("b"))
        for name, messages in nano_conversations().items():
            path = self.write_json("messages.json", messages)
            here = self.reply(f"--messages={path}", "--greedy")
            chat = self.start_chat("--json", f"--messages={path}", "--greedy", *asks, prefix=self.within("b"))
            self.assertEqual(self.end_chat(chat)["tokens"], here["tokens"], name)
        for process in [*workers, router]:
            self.assertEqual(process.stop(), 0, process.role)

    def test_with_a_token(self):
        flags = (f"--token-file={self.write('token', 'a-token-of-both-hosts')}",)
        self.assert_answers_across({"a": flags, "b": flags}, flags)

    def test_with_certificates_on_both_sides(self):
        secrets = {host: self.certificate(host, f"IP:{address}") for host, address in HOSTS.items()}
        self.assert_answers_across(secrets, self.certificate("client", "DNS:client"))

    def test_no_process_listens_to_others_without_either(self):
        done = run("decode", "--listen=0.0.0.0:0", "--advertise=10.83.71.1:1")
        self.assertEqual(done.returncode, 2)
        self.assertIn("--listen", done.stderr.decode())


if __name__ == "__main__":
    unittest.main()
