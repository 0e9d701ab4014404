"""What the tests of the executable share: running it, small pictures, safetensors files."""

import array
import json
import os
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[3]
sys.path.insert(0, str(ROOT / "tools"))

from pngs import png_of  # noqa: E402

EXECUTABLE = os.environ.get("MINICPMV_EXECUTABLE", str(ROOT / "build" / "bin" / "minicpmv"))
# With which the executable was built.
SANITIZERS = os.environ.get("MINICPMV_SANITIZERS", "")
NANO = ROOT / "tools" / "nano"
PICTURES = NANO / "pictures"
GOLDENS = ROOT / "tests" / "testdata" / "goldens"


def run(*arguments, stdin=b"", timeout=100, **options):
    """The finished process; output in bytes."""
    command = [EXECUTABLE, *map(str, arguments)]
    return subprocess.run(command, input=stdin, capture_output=True, timeout=timeout, **options)


class ExecutableTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def write(self, name, content):
        path = self.folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    def write_json(self, name, value):
        return self.write(name, json.dumps(value))

    def answer(self, *arguments, **options):
        """Standard output as text of a run that has to succeed without a word on standard error."""
        done = run(*arguments, **options)
        self.assertEqual((done.returncode, done.stderr), (0, b""), arguments)
        return done.stdout.decode()

    def reply(self, *arguments, **options):
        return json.loads(self.answer("chat", "--json", *arguments, **options))

    def assert_refused(self, words, *arguments, status=2, **options):
        """One line on standard error that holds `words`, nothing on standard output, and the exit status."""
        done = run(*arguments, **options)
        error = done.stderr.decode()
        self.assertEqual(done.returncode, status, f"{arguments}: {error}")
        self.assertEqual(done.stdout, b"", arguments)
        self.assertRegex(error, r"\Aminicpmv: [^\n]+\n\Z", arguments)
        self.assertIn(words, error, arguments)


def png(width, height, color=(200, 30, 30), claim=None):
    """A PNG of one colour. `claim`: the size that its header states instead."""
    return png_of((b"\0" + bytes(color) * width) * height, *(claim or (width, height)))


def read_safetensors(path):
    """{name: (shape, values)}; F32, BF16 widened, and I32."""
    data = pathlib.Path(path).read_bytes()
    (length,) = struct.unpack("<Q", data[:8])
    header = json.loads(data[8:8 + length])
    tensors = {}
    for name, entry in header.items():
        if name == "__metadata__":
            continue
        begin, end = (8 + length + offset for offset in entry["data_offsets"])
        values = array.array({"F32": "f", "I32": "i"}[entry["dtype"]], data[begin:end])
        tensors[name] = (entry["shape"], values)
    return tensors


def write_safetensors(path, tensors):
    """{name: (dtype, shape, bytes)}."""
    header, offset = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [offset, offset + len(data)]}
        offset += len(data)
    text = json.dumps(header).encode()
    data = b"".join(data for _, _, data in tensors.values())
    pathlib.Path(path).write_bytes(struct.pack("<Q", len(text)) + text + data)


def deviation(got, want):
    """The largest difference as a share of the largest magnitude of what is wanted."""
    assert len(got) == len(want), (len(got), len(want))
    return max(abs(a - b) for a, b in zip(got, want)) / max(abs(b) for b in want)
