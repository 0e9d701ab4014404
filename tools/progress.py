#!/usr/bin/env python3
"""Runs a command and shortens its output to a line of progress every five seconds and whatever is not progress.

    tools/progress.py build -- ninja -C build
    tools/progress.py tests -- ctest --test-dir build

Understands the counts of ninja ("[3/90] ...") and of ctest ("3/90 Test ..."). A command that says nothing for five
seconds is reported as still running. The exit status is the command's.
"""
import os
import queue
import re
import subprocess
import sys
import threading
import time

EVERY = 5.0  # seconds
COUNT = re.compile(r"\s*\[?(\d+/\d+)\]? (.*)")
CTEST_START = re.compile(r"\s*Start\s+\d+: ")


def read_lines(stream, lines):
    for line in stream:
        lines.put(line.rstrip("\n"))
    lines.put(None)


def main():
    if len(sys.argv) < 4 or sys.argv[2] != "--":
        sys.exit(__doc__)
    name, command = sys.argv[1], sys.argv[3:]
    start = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace",
                               env={**os.environ, "NINJA_STATUS": "[%f/%t] "})
    lines = queue.Queue()
    threading.Thread(target=read_lines, args=(process.stdout, lines), daemon=True).start()

    count, shown, next_report = "started", None, start + EVERY
    while True:
        try:
            line = lines.get(timeout=max(0.0, next_report - time.monotonic()))
            if line is None:
                break
            match = COUNT.match(line)
            if match:
                count = match.group(1)
            is_bad_test = match and "***" in line and "***Skipped" not in line
            if is_bad_test or not (match or CTEST_START.match(line)):
                print(line, flush=True)
        except queue.Empty:
            pass
        if time.monotonic() >= next_report:
            print(f"{name}: {count} after {time.monotonic() - start:.0f} s", flush=True)
            shown, next_report = count, time.monotonic() + EVERY
    status = process.wait()
    if count != shown or status:
        print(f"{name}: {count} after {time.monotonic() - start:.0f} s" + (f", status {status}" if status else ""), flush=True)
    sys.exit(status if 0 <= status < 128 else 1)


if __name__ == "__main__":
    main()
