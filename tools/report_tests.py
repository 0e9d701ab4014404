#!/usr/bin/env python3
"""Sums up a JUnit file that ctest wrote: failed and skipped tests by name, then "N passed, N failed, N skipped".

    tools/report_tests.py build/tests.xml

The exit status is 1 where a test failed or the file holds none.
"""
import re
import sys
import xml.etree.ElementTree as ET

# What GTEST_SKIP() << reason leaves in the output: "FILE:LINE: Skipped", then the reason.
GTEST_REASON = re.compile(r": Skipped\n(.*)")
# What unittest's skipTest(reason) leaves: "... skipped 'reason'".
UNITTEST_REASON = re.compile(r"skipped ['\"](.*)['\"]")


def skip_reason(case):
    output = case.findtext("system-out") or ""
    match = GTEST_REASON.search(output) or UNITTEST_REASON.search(output)
    return match.group(1).strip() if match else case.find("skipped").get("message", "")


def could_not_run(case):
    """A test whose executable was not built is "notrun" like a skipped one, but nobody wanted that."""
    skipped = case.find("skipped")
    return skipped is not None and not re.match("SKIP_|Disabled", skipped.get("message", ""))


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    try:
        cases = ET.parse(sys.argv[1]).getroot().findall("testcase")
    except (OSError, ET.ParseError) as error:
        print(f"no test results: {error}")
        cases = []
    skipped = [case for case in cases if case.find("skipped") is not None and not could_not_run(case)]
    failed = [case for case in cases if case.find("failure") is not None or could_not_run(case)]
    for case in failed:
        print(f"failed: {case.get('name')}")
    for case in skipped:
        print(f"skipped: {case.get('name')}: {skip_reason(case)}")
    print(f"{len(cases) - len(failed) - len(skipped)} passed, {len(failed)} failed, {len(skipped)} skipped")
    sys.exit(1 if failed or not cases else 0)


if __name__ == "__main__":
    main()
