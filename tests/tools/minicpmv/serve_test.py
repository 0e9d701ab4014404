"""Services as processes: ready lines, the admin port, answers, stopping."""

import json
import select
import signal
import subprocess
import time
import unittest
import urllib.error
import urllib.request

from harness import EXECUTABLE, PICTURES, ExecutableTest, run

PATIENCE = 60


class Service:
    """A running `minicpmv ROLE`, from its ready line on."""

    def __init__(self, *arguments, log):
        self.process = subprocess.Popen([EXECUTABLE, *map(str, arguments)], stdout=subprocess.PIPE, stderr=log)
        line = self.read_line()
        words = line.split()
        if len(words) != 4 or words[0] != "ready" or not words[3].startswith("admin="):
            self.process.kill()
            raise AssertionError(f"{arguments}: {line!r}")
        self.role, self.address, self.admin = words[1], words[2], words[3][len("admin="):]

    def read_line(self):
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            return "nothing in time"
        return self.process.stdout.readline().decode()

    def get(self, page):
        try:
            with urllib.request.urlopen(f"http://{self.admin}{page}", timeout=PATIENCE) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def stop(self, how=signal.SIGTERM):
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(PATIENCE)
        finally:
            self.process.stdout.close()


class ServeTest(ExecutableTest):
    def start(self, *arguments):
        log = open(self.folder / "log", "ab")
        self.addCleanup(log.close)
        service = Service(*arguments, log=log)
        self.addCleanup(service.stop, signal.SIGKILL)
        return service

    def start_fleet(self, *flags):
        router = self.start("router", "--listen=127.0.0.1:0", *flags)
        workers = [self.start(role, f"--router={router.address}", *flags) for role in ("vision", "prefill", "decode")]
        return router, workers

    def await_fleet(self, router, count, *flags):
        end = time.monotonic() + PATIENCE
        while True:
            done = run("workers", f"--server={router.address}", "--json", *flags)
            fleet = json.loads(done.stdout) if done.returncode == 0 else []
            if len([worker for worker in fleet if worker["state"] == "ready"]) == count:
                return fleet
            self.assertLess(time.monotonic(), end, done)
            time.sleep(0.05)

    def test_four_processes_answer_as_one_does(self):
        router, workers = self.start_fleet()
        fleet = self.await_fleet(router, 3)
        self.assertEqual(sorted(role for worker in fleet for role in worker["roles"]), ["decode", "prefill", "vision"])
        picture = next(iter(sorted(PICTURES.glob("*.png"))))
        question = [f"--image={picture}", "--greedy", "What is in the image?"]
        here = self.reply(*question)
        there = self.reply(f"--server={router.address}", *question)
        self.assertEqual(there["text"], here["text"])
        for service in [router, *workers]:
            self.assertEqual(service.get("/healthz"), (200, "ok\n"))
            self.assertEqual(service.get("/readyz"), (200, "ready\n"))
            self.assertIn("minicpmv_build_info{", service.get("/metrics")[1])
            self.assertEqual(service.get("/else")[0], 404)
        for service in [*workers, router]:
            self.assertEqual(service.stop(), 0, service.role)

    def test_one_process_serves_alone(self):
        service = self.start("serve", "--listen=127.0.0.1:0")
        self.await_fleet(service, 1)
        self.assertEqual(self.reply(f"--server={service.address}", "--greedy", "Who are you?")["text"],
                         self.reply("--greedy", "Who are you?")["text"])
        self.assertEqual(service.stop(signal.SIGINT), 0)

    def test_a_stranger_is_shown_the_door(self):
        token = self.write("token", "a-token-of-the-cluster\n")
        router, workers = self.start_fleet(f"--token-file={token}")
        self.await_fleet(router, 3, f"--token-file={token}")
        for service in [router, *workers]:
            done = run("workers", f"--server={service.address}")
            self.assertNotEqual(done.returncode, 0)
            self.assertIn(b"token", done.stderr)
        for service in [*workers, router]:
            self.assertEqual(service.stop(), 0, service.role)

    def test_says_what_is_wrong_before_it_starts(self):
        self.assert_refused("--listen", "decode", "--listen=0.0.0.0:0")
        self.assert_refused("--listen", "decode", "--listen=nowhere")
        self.assert_refused("--router", "decode", "--router=unix:/tmp/x")
        self.assert_refused("--roles", "worker", "--roles=cook")
        self.assert_refused("--roles", "worker", "--roles=decode,decode")
        token = self.write("token", "a-token-of-the-cluster\n")
        self.assert_refused("--advertise", "decode", "--listen=0.0.0.0:0", f"--token-file={token}")
        self.assert_refused("token", "decode", f"--token-file={self.write('short', 'x')}")
        self.assert_refused("folder", "decode", "--model=/nowhere")

    def test_checks_its_flags_and_does_nothing_else(self):
        config = self.write("config.yaml", "router: [127.0.0.1:1]\ndrain-grace: 3s\n")
        self.assertEqual(self.answer("decode", f"--config={config}", "--check-config"), "")
        self.assert_refused("--router", "decode", "--check-config", "--router=x")
        self.assert_refused("lisen", "decode", f"--config={self.write('bad.yaml', 'lisen: x')}")


if __name__ == "__main__":
    unittest.main()
