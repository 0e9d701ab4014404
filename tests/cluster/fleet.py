"""What the tests of services as processes share: starting a fleet on this machine, asking it, looking at its metrics."""

import contextlib
import ctypes
import json
import os
import pathlib
import re
import select
import signal
import subprocess
import sys
import time
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools" / "minicpmv"))

from harness import EXECUTABLE, PICTURES, ExecutableTest, run  # noqa: E402
from pngs import noise  # noqa: E402, F401

PATIENCE = 60  # seconds that anything may take on a busy machine
ROLES = ("vision", "prefill", "decode")
# What has to be 0 once nothing is asked any more.
RESTING = ('minicpmv_landings', 'minicpmv_pages{state="held"}', 'minicpmv_pages{state="landing"}',
           'minicpmv_strips{state="held"}', 'minicpmv_requests_in_flight', 'minicpmv_http_requests_in_flight',
           'minicpmv_http_body_bytes')
PR_SET_PDEATHSIG = 1


def die_with_parent():
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


class Member:
    """A running `minicpmv ROLE`, whoever started it."""

    def __init__(self, role, pid, admin):
        self.role, self.pid, self.admin = role, pid, admin

    def metrics(self):
        """{name with labels: value} of the admin port."""
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=PATIENCE) as answer:
            lines = answer.read().decode().splitlines()
        return {line.rsplit(" ", 1)[0]: float(line.rsplit(" ", 1)[1])
                for line in lines if line and not line.startswith("#")}


class Process(Member):
    """One of ours, from its ready line on."""

    def __init__(self, *arguments, log, environment=None, prefix=()):
        self.arguments = arguments
        self.process = subprocess.Popen([*prefix, EXECUTABLE, *map(str, arguments)], stdin=subprocess.DEVNULL,
                                        stdout=subprocess.PIPE, stderr=log, preexec_fn=die_with_parent,
                                        env={**os.environ, **(environment or {})})
        self.pid = self.process.pid
        self.buffered = b""

    def read_line(self, patience=PATIENCE):
        """The next line of standard output, "" at its end."""
        end = time.monotonic() + patience
        while b"\n" not in self.buffered:
            if not select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))[0]:
                raise AssertionError(f"{self.arguments} says nothing for {patience} s")
            got = os.read(self.process.stdout.fileno(), 1 << 16)
            if not got:
                return ""
            self.buffered += got
        line, self.buffered = self.buffered.split(b"\n", 1)
        return line.decode()

    def await_ready(self):
        line = self.read_line()
        match = re.fullmatch(r"ready (\S+) (\S+) admin=(\S+)", line)
        if not match:
            raise AssertionError(f"{self.arguments} says {line!r}")
        self.role, self.address, self.admin = match.groups()
        return self

    def alive(self):
        return self.process.poll() is None

    def stop(self, how=signal.SIGTERM, patience=PATIENCE):
        """Its exit status; what does not end in time is killed."""
        if self.alive():
            self.process.send_signal(how)
        try:
            return self.process.wait(patience)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.process.stdout.close()

    def discard(self):
        if self.process.returncode is None:
            self.process.kill()
            self.process.wait()
        if not self.process.stdout.closed:
            self.process.stdout.close()


class FleetTest(ExecutableTest):
    """Starts processes and leaves none."""

    def start(self, *arguments, **options):
        log = open(self.folder / f"{arguments[0]}.log", "ab")
        self.addCleanup(log.close)
        process = Process(*arguments, log=log, **options)
        self.addCleanup(process.discard)
        return process

    def start_router(self, *flags, **options):
        return self.start("router", "--listen=127.0.0.1:0", *flags, **options).await_ready()

    def start_fleet(self, counts=(1, 1, 1), routers=1, router_flags=(), flags=None, stages=(1, 1),
                    environment=None, more=()):
        """The routers, the workers; all ready and known to each other. `flags`: {role or "": flags of workers}; `stages`
        of prefill and of decode workers; `more`: what a client has to say."""
        router_list = [self.start_router(*router_flags, environment=environment) for _ in range(routers)]
        at = ",".join(router.address for router in router_list)
        flags = flags or {}
        devices = {role: "--devices=" + ",".join(["cpu:threads=1"] * count)
                   for role, count in zip(ROLES, (1, *stages))}
        workers = []
        for role, count in zip(ROLES, counts):
            for i in range(count):
                workers.append(self.start(role, f"--router={at}", f"--id={role}-{i}", devices[role],
                                          *flags.get("", ()), *flags.get(role, ()), environment=environment))
        for worker in workers:
            worker.await_ready()
        for router in router_list:
            self.await_workers(router.address, len(workers), *(flag for flag in more if "token" in flag or "tls" in flag))
        return router_list, workers

    def start_cluster(self, *flags):
        """The supervisor and the router's address; its children are in `self.members`, by name."""
        cluster = self.start("cluster", "--listen=127.0.0.1:0", *flags)
        self.members = {}
        while True:
            line = cluster.read_line()
            if line.startswith("ready cluster "):
                return cluster, line.split()[2]
            self.note_member(line)

    def note_member(self, line):
        match = re.fullmatch(r"ready (\w+) \S+ admin=(\S+) name=(\S+) pid=(\d+)", line)
        self.assertTrue(match, f"{line!r}: {self.log_of('cluster')}")
        role, admin, name, pid = match.groups()
        self.members[name] = Member(role, int(pid), admin)

    @staticmethod
    def list_workers(address, *flags, prefix=()):
        """What the router at that address says of its workers: those that are ready, and all it said."""
        done = subprocess.run([*prefix, EXECUTABLE, "workers", f"--server={address}", "--json", *flags],
                              capture_output=True, timeout=PATIENCE)
        fleet = json.loads(done.stdout) if done.returncode == 0 else []
        return [worker for worker in fleet if worker["state"] == "ready"], (fleet, done.stderr)

    def await_workers(self, address, count, *flags, prefix=()):
        """What the router at that address says of its workers once so many are ready."""
        end = time.monotonic() + PATIENCE
        while True:
            ready, said = self.list_workers(address, *flags, prefix=prefix)
            if len(ready) == count:
                return ready
            self.assertLess(time.monotonic(), end, said)
            time.sleep(0.02)

    def start_chat(self, *arguments, prefix=(), **options):
        process = subprocess.Popen([*prefix, EXECUTABLE, "chat", *map(str, arguments)], stdin=subprocess.DEVNULL,
                                   stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=die_with_parent, **options)
        self.addCleanup(self.discard, process)
        return process

    @staticmethod
    def discard(process):
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        process.communicate()

    def end_chat(self, process, patience=PATIENCE):
        """What a chat with --json said; it has to succeed without a word on standard error."""
        output, error = process.communicate(timeout=patience)
        self.assertEqual((process.returncode, error.decode()), (0, ""))
        return json.loads(output)

    def assert_rests(self, processes, within=2.0):
        """Nothing is held by any of them, at the latest then."""
        end = time.monotonic() + within
        while True:
            held = {f"{process.role} {process.pid} {name}": value for process in processes
                    for name, value in process.metrics().items() if value and name in RESTING}
            if not held:
                return
            if time.monotonic() > end:
                self.fail(f"{within} s after all has ended: {held}")
            time.sleep(0.05)

    def log_of(self, role):
        return (self.folder / f"{role}.log").read_text(errors="replace")


def nano_conversations():
    """{name: messages}, in the form that --messages reads."""
    def picture(name):
        return {"image": str(PICTURES / name)}

    def says(role, *parts):
        return {"role": role, "content": [part if isinstance(part, dict) else {"text": part} for part in parts]}

    return {
        "single image": [says("user", picture("008-0.png"), "How many diamonds are there?")],
        "three images": [says("user", picture("003-0.png"), picture("003-1.png"), picture("003-2.png"),
                              "What is in each image?")],
        "few-shot": [says("user", picture("000-0.png"), "What is in the image?"), says("assistant", "a shape"),
                     says("user", picture("001-0.png"), "What is in the image?"), says("assistant", "a shape"),
                     says("user", picture("002-0.png"), "What is in the image?")],
        "four turns": [says("user", picture("022-0.png"), "What does the text say?"), says("assistant", "a text"),
                       says("user", "Who are you?"), says("assistant", "I am nano."),
                       says("user", picture("008-0.png"), "How many diamonds are there?"), says("assistant", "2"),
                       says("user", "What is in the image?")],
        "text only": [says("user", "Who are you?")],
    }
