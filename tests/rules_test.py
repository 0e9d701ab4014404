"""Rules about sources that no run can prove: nothing that comes from outside is run or unpacked into objects, secrets are
compared in one place, and the wall clock decides nothing."""

import pathlib
import re
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[1]
# Each pattern, and who may have it all the same.
IN_CPP = {
    r"\b(system|popen|dlopen|dlsym|wordexp|exec[lv]p?e?)\s*\(": {
        "tools/minicpmv/child_process.cc",  # the cluster starts its own executable
    },
    r"\b(CRYPTO_memcmp|consttime_memequal)\b": {"services/common/secret.cc"},
    r"\babsl::Now\(\)|\bsystem_clock::now\(\)|\bCLOCK_REALTIME\b|\bgettimeofday\b": {
        # Deadlines, which gRPC states so.
        "services/common/grpc_link.cc", "services/common/server.cc", "services/router/chat_service.cc",
        "services/gateway/models_exchange.cc", "tools/minicpmv/show_workers.cc", "tools/sdk/cpp/attempts.cc",
        # Dates that people and clients are shown.
        "runtime/base/trace_file.cc", "services/gateway/chat_exchange.cc", "services/gateway/gateway.cc",
        "services/gateway/uploaded_form.cc",
        # How long a test may hold a thread.
        "services/common/test_points.cc",
    },
}
IN_PYTHON = r"(?<![.\w])(pickle|marshal|shelve|eval|exec)\s*[.(]|\b(yaml\.load|os\.system)\(|torch\.load\((?!.*weights_only=True)"


def found(folders, suffixes, pattern):
    """Files of those folders, from the root, in which the pattern occurs."""
    paths = [path for folder in folders for path in (ROOT / folder).rglob("*") if path.suffix in suffixes]
    return {path.relative_to(ROOT).as_posix() for path in paths if re.search(pattern, path.read_text())}


class RulesTest(unittest.TestCase):
    def test_cpp_has_what_is_dangerous_in_its_places_only(self):
        for pattern, allowed in IN_CPP.items():
            with self.subTest(pattern=pattern):
                self.assertEqual(found(("runtime", "services", "tools/minicpmv", "tools/sdk"), {".cc", ".h"}, pattern),
                                 allowed)

    def test_python_runs_nothing_that_it_has_read(self):
        self.assertEqual(found(("tools", "deploy", "helm"), {".py"}, IN_PYTHON), set())


if __name__ == "__main__":
    unittest.main()
