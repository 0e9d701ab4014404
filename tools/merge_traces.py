#!/usr/bin/env python3
"""One picture of several processes: joins the files that --trace wrote.

    tools/merge_traces.py A.json B.json ... > all.json

Each file's times are the wall clock's, so that files of one machine line up. Processes of several machines may have the
same number: whoever comes later gets another. Of a file whose end is missing, every whole line is taken.
Open the result with ui.perfetto.dev or chrome://tracing.
"""
import json
import sys


def read_events(path):
    """The events of one file, and whether it was whole."""
    with open(path, errors="replace") as file:
        text = file.read()
    try:
        return json.loads(text)["traceEvents"], True
    except ValueError:
        pass
    events = []
    for line in text.splitlines():
        try:
            event = json.loads(line.removesuffix(","))
        except ValueError:
            continue
        if isinstance(event, dict) and "ph" in event:
            events.append(event)
    return events, False


def merge(paths):
    merged, taken = [], set()
    for path in paths:
        events, is_whole = read_events(path)
        if not is_whole:
            print(f"{path}: has no end; {len(events)} events of it are taken", file=sys.stderr)
        renamed = {}
        for event in events:
            pid = event["pid"]
            if pid not in renamed:
                renamed[pid] = pid if pid not in taken else max(taken) + 1
                taken.add(renamed[pid])
            merged.append({**event, "pid": renamed[pid]})
    return {"displayTimeUnit": "ms", "traceEvents": merged}


def main():
    paths = sys.argv[1:]
    if not paths or any(path.startswith("--") for path in paths):
        sys.exit(__doc__)
    try:
        merged = merge(paths)
    except (OSError, KeyError, TypeError) as error:
        sys.exit(f"merge_traces.py: no trace: {error!r}")
    json.dump(merged, sys.stdout)
    print()


if __name__ == "__main__":
    main()
