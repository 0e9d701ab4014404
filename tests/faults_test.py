"""FAULTS.md names tests that are there, and no fault is without one or a reason."""

import pathlib
import re
import unittest

TESTS = pathlib.Path(__file__).resolve().parent
TABLE = TESTS / "FAULTS.md"
REASON = "not here: "


def rows():
    """[(fault, what proves it)]"""
    read = []
    for line in TABLE.read_text().splitlines():
        cells = [cell.strip() for cell in line.strip("|").split(" | ")]
        if line.startswith("|") and not line.startswith("|---") and cells[1] != "proved by":
            read.append(tuple(cells))
    return read


def existing_names():
    names = set()
    for path in TESTS.rglob("*.cc"):
        for suite, name in re.findall(r"^(?:TYPED_)?TEST(?:_F|_P)?\(\s*(\w+),\s*(\w+)\s*\)", path.read_text(), re.M):
            names.add(f"{suite}.{name}")
    for path in TESTS.rglob("*_test.py"):
        names.update(f"{path.name}::{name}" for name in re.findall(r"^    def (test_\w+)", path.read_text(), re.M))
    for path in TESTS.rglob("CMakeLists.txt"):
        text = path.read_text()
        names.update(re.findall(r"^minicpmv_(?:python|executable)_test\((\S+)", text, re.M))
        names.update(f"{name}.RepeatsItsCorpus" for name in re.findall(r"^minicpmv_fuzz\((\S+)", text, re.M))
    return names


class FaultsTest(unittest.TestCase):
    def test_has_a_test_or_a_reason_for_every_fault(self):
        self.assertGreater(len(rows()), 60)
        for row in rows():
            with self.subTest(fault=row[0]):
                self.assertEqual(len(row), 2)
                _, reason, words = row[1].partition(REASON)
                self.assertTrue("`" in row[1] or reason and words, row[1])

    def test_names_tests_that_are_there(self):
        existing = existing_names()
        for fault, proof in rows():
            for name in re.findall(r"`([^`]*)`", proof):
                self.assertIn(name, existing, fault)


if __name__ == "__main__":
    unittest.main()
