"""A running `minicpmv serve`, for tools that measure one."""
import json
import re
import subprocess
import sys
import urllib.request


class Server:
    """Ends with its `with`. `address`, `admin` and, with the flag --http, `http` are host:port."""

    def __init__(self, executable, *flags):
        self.executable = executable
        self.process = subprocess.Popen([executable, "serve", "--listen=127.0.0.1:0", *flags],
                                        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)
        self.address, self.admin = self._read_ready()
        if any(flag.startswith("--http=") for flag in flags):
            self.http, _ = self._read_ready()

    def _read_ready(self):
        line = self.process.stdout.readline()
        match = re.fullmatch(r"ready \S+ (\S+) admin=(\S+)\n", line)
        if not match:
            self.process.kill()
            sys.exit(f"serve says {line!r}")
        return match.groups()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.terminate()
        self.process.wait()

    def chat(self, *flags):
        return subprocess.Popen([self.executable, "chat", f"--server={self.address}", "--greedy", "--json", *flags],
                                stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def metrics(self):
        with urllib.request.urlopen(f"http://{self.admin}/metrics", timeout=60) as answer:
            return answer.read().decode()

    def bench(self, folder, *flags):
        """The figures of `bench serve`; its files are written in the folder."""
        path = folder / "bench.json"
        subprocess.run([self.executable, "bench", "serve", f"--server={self.address}", f"--json={path}", *flags],
                       check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return json.loads(path.read_text())
