"""--trace: one request's spans from four processes in one picture. --log-format: what logs say, and what they never say."""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import time
import unittest
import urllib.request

from fleet import PATIENCE, PICTURES, FleetTest, noise
from gateway_fleet import MODEL, openai_form
from harness import run

MERGE = pathlib.Path(__file__).resolve().parents[2] / "tools" / "merge_traces.py"
SLACK = 200  # microseconds between two processes' ideas of one moment
SECRET = "PURPLEELEPHANT"
PICTURE = PICTURES / "022-0.png"


def merge(*paths):
    done = subprocess.run([sys.executable, "-B", str(MERGE), *map(str, paths)], capture_output=True, timeout=PATIENCE)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)["traceEvents"], done.stderr.decode()


def end(span):
    return span["ts"] + span["dur"]


class Picture:
    """The spans of one trace id, by the role of their process and their name."""

    def __init__(self, events, trace):
        self.roles = {event["pid"]: event["args"]["name"].split()[0]
                      for event in events if event["name"] == "process_name"}
        self.spans = {}
        for event in events:
            if event["ph"] == "X" and event["args"].get("trace") == trace:
                self.spans.setdefault((self.roles[event["pid"]], event["name"]), []).append(event)

    def all(self, role, name):
        return self.spans[role, name]

    def one(self, role, name):
        (span,) = self.spans[role, name]
        return span


class SpansTest(FleetTest):
    def traced(self, role):
        return f"--trace={self.folder / role}.json"

    def await_span(self, path, name):
        """Until the file shows a span of that name."""
        until = time.monotonic() + PATIENCE
        while not path.exists() or f'"{name}", "cat"' not in path.read_text():
            self.assertLess(time.monotonic(), until, f"no {name} in {path}")
            time.sleep(0.02)

    def start_traced_fleet(self, *more):
        return self.start_fleet(router_flags=(self.traced("router"), *more),
                                flags={"": more, **{role: (self.traced(role),) for role in ("vision", "prefill", "decode")}})

    def test_shows_one_request_in_four_processes(self):
        routers, workers = self.start_traced_fleet()
        self.reply(f"--image={PICTURE}", SECRET, "--greedy", f"--server={routers[0].address}", self.traced("chat"))
        for process in (*workers, *routers):
            self.assertEqual(process.stop(), 0)
        files = [self.folder / f"{role}.json" for role in ("chat", "router", "vision", "prefill", "decode")]
        for file in files:
            self.assertNotIn(SECRET, file.read_text())
        events, _ = merge(*files)
        self.assertEqual(len({event["pid"] for event in events}), 5)
        (asked,) = [event for event in events if event["name"] == "StreamReply"]
        trace, request = asked["args"]["trace"], asked["args"]["request"]
        picture = Picture(events, trace)
        for spans in picture.spans.values():
            for span in spans:
                if span["name"] != "to the first text":
                    self.assertEqual(span["args"]["request"], request, span)

        # Each asks the next: arrows from caller to callee, and spans that know their parents.
        reply = picture.one("router", "reply")
        self.assertEqual(reply["args"]["parent"], asked["args"]["span"])
        arrows = {event["id"]: event["ts"] for event in events if event["ph"] == "s"}
        heads = {event["id"]: event["ts"] for event in events if event["ph"] == "f"}
        for role, name in (("vision", "PutMedia"), ("vision", "EncodeMedia"), ("prefill", "PrefillPrompt"),
                           ("decode", "DecodeSequence")):
            call, answer = picture.one("router", name), picture.one(role, name)
            self.assertEqual(call["args"]["parent"], reply["args"]["span"], name)
            self.assertEqual(answer["args"]["parent"], call["args"]["span"], name)
            arrow = "0x" + call["args"]["span"]
            self.assertLessEqual(arrows[arrow], heads[arrow] + SLACK, name)
            self.assertLessEqual(reply["ts"], call["ts"], name)
            self.assertLessEqual(end(call), end(reply), name)
            self.assertLessEqual(call["ts"], answer["ts"] + SLACK, name)

        # Encode before prefill before decode, all within the reply.
        cut = picture.one("vision", "decode and cut")
        slices, chunks = picture.all("vision", "slice"), picture.all("prefill", "chunk")
        pages, tokens = picture.all("prefill", "pages"), picture.all("decode", "token")
        self.assertLessEqual(reply["ts"], cut["ts"] + SLACK)
        self.assertLessEqual(end(cut), min(span["ts"] for span in slices))
        # The prompt's end is computed, and sent, when all rows are there.
        last_pages = [span for span in pages if span["args"]["first"] == max(s["args"]["first"] for s in pages)]
        encoded = max(end(span) for span in slices)
        self.assertLessEqual(encoded, min(span["ts"] for span in last_pages) + SLACK)
        self.assertLessEqual(encoded, max(end(span) for span in chunks) + SLACK)
        first_token = min(tokens, key=lambda span: span["args"]["index"])
        self.assertLessEqual(max(span["ts"] for span in pages), first_token["ts"] + SLACK)
        self.assertLessEqual(picture.one("decode", "awaits pages")["ts"], first_token["ts"])
        self.assertLessEqual(max(end(span) for span in tokens), end(reply) + SLACK)
        self.assertEqual(sum(span["args"]["positions"] for span in chunks),
                         picture.one("prefill", "PrefillPrompt")["args"]["positions"]
                         - picture.one("prefill", "PrefillPrompt")["args"]["held"])
        for name in ("media", "queue", "place", "attempt", "to the first token"):
            stage = picture.one("router", name)
            self.assertLessEqual(reply["ts"], stage["ts"], name)
            self.assertLessEqual(end(stage), end(reply), name)

        # Spans of one row never overlap: the picture shows each.
        rows = {}
        for event in events:
            if event["ph"] == "X":
                rows.setdefault((event["pid"], event["tid"]), []).append(event)
        for spans in rows.values():
            spans.sort(key=lambda span: span["ts"])
            for before, after in zip(spans, spans[1:]):
                self.assertLessEqual(end(before), after["ts"] + 1, (before, after))

    def test_goes_on_with_the_trace_of_a_client_of_http(self):
        routers, workers = self.start_traced_fleet()
        gateway = self.start("gateway", f"--router={routers[0].address}", "--listen=127.0.0.1:0",
                             self.traced("gateway")).await_ready()
        trace, span = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
        body = {"model": MODEL, "max_tokens": 4, "messages": openai_form(
            [{"role": "user", "content": [{"image": str(PICTURE)}, {"text": SECRET}]}])}
        for parent in (f"00-{trace}-{span}-01", f"00-{trace}-{span}-0"):  # the second is malformed
            request = urllib.request.Request(f"http://{gateway.address}/v1/chat/completions", json.dumps(body).encode(),
                                             {"Content-Type": "application/json", "traceparent": parent})
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                self.assertEqual(answer.status, 200)
        for process in (gateway, *workers, *routers):
            self.assertEqual(process.stop(), 0)
        roles = ("gateway", "router", "vision", "prefill", "decode")
        self.assertNotIn(SECRET, (self.folder / "gateway.json").read_text())
        events, _ = merge(*(self.folder / f"{role}.json" for role in roles))
        ours, other = Picture(events, trace), [event for event in events if event["name"] == "chat completion"
                                               and event["args"]["trace"] != trace]
        self.assertEqual({role for role, _ in ours.spans}, set(roles))
        asked, call, reply = (ours.one(*name) for name in (("gateway", "chat completion"), ("gateway", "StreamReply"),
                                                           ("router", "reply")))
        self.assertEqual([one["args"]["parent"] for one in (asked, call, reply)],
                         [span, asked["args"]["span"], call["args"]["span"]])
        self.assertEqual({one["args"]["request"] for one in (asked, call, reply)}, {reply["args"]["request"]})
        self.assertEqual(len(other), 1)
        self.assertNotIn("parent", other[0]["args"])

    def test_keeps_the_spans_of_a_process_that_is_killed(self):
        cluster = self.start("cluster", "--listen=127.0.0.1:0", f"--trace={self.folder / 't.json'}")
        pids, line = {}, ""
        while not line.startswith("ready cluster "):
            line = cluster.read_line()
            self.assertTrue(line, self.log_of("cluster"))
            pids.update(re.findall(r"name=(\S+) pid=(\d+)", line))
        address = line.split()[2]
        self.await_workers(address, 3)
        ask = ("Who are you?", "--greedy", f"--server={address}")
        before = self.reply(*ask)
        first, second = self.folder / "t.decode-0.json", self.folder / "t.decode-0.1.json"
        self.await_span(first, "DecodeSequence")
        os.kill(int(pids["decode-0"]), signal.SIGKILL)
        self.assertIn("name=decode-0", cluster.read_line())
        self.assertEqual(self.reply(*ask)["tokens"], before["tokens"])
        self.await_span(second, "DecodeSequence")
        self.assertEqual(cluster.stop(), 0)
        for file in (first, second):
            events = json.loads(file.read_text())["traceEvents"]
            self.assertEqual(len([event for event in events if event["name"] == "token"]), len(before["tokens"]))

    def test_shows_a_chat_in_one_process(self):
        self.reply(f"--image={PICTURE}", SECRET, self.traced("chat"))
        self.assertNotIn(SECRET, (self.folder / "chat.json").read_text())
        events, _ = merge(self.folder / "chat.json")
        (trace,) = {event["args"]["trace"] for event in events if event["ph"] == "X"}
        picture = Picture(events, trace)
        reply = picture.one("chat", "reply")
        for name in ("media", "encode", "prefill", "decode"):
            for span in picture.all("chat", name):
                self.assertTrue(reply["ts"] <= span["ts"] and end(span) <= end(reply) + 1, name)
        self.assert_refused("--trace", "chat", "--trace=/absent/t.json", "Who are you?")
        self.assert_refused("--trace", "router", "--listen=127.0.0.1:0", "--trace=/absent/t.json")

    def test_merges_what_has_no_end_and_keeps_processes_apart(self):
        span = {"name": "a", "ph": "X", "ts": 1, "dur": 1, "pid": 7, "tid": 1}
        whole = self.write_json("whole.json", {"traceEvents": [span]})
        torn = self.write("torn.json", '{"traceEvents": [\n' + json.dumps(span) + ",\n" + json.dumps(span)[:20])
        events, words = merge(whole, torn, whole)
        self.assertEqual([event["pid"] for event in events], [7, 8, 9])
        self.assertIn("torn.json: has no end", words)
        absent = subprocess.run([sys.executable, "-B", str(MERGE), "/absent"], capture_output=True, timeout=PATIENCE)
        self.assertEqual(absent.returncode, 1)


class LogTest(FleetTest):
    def ask_everything(self, address):
        """Questions that end well and badly, all with words and pictures that a log would be known by."""
        server = f"--server={address}"
        self.reply(f"--image={PICTURE}", SECRET, "--greedy", server)
        bad = self.write("bad.png", SECRET * 100)
        large = self.write("large.png", noise(1, 700, 700) + SECRET.encode())
        for arguments in ((f"--image={bad}", SECRET), (f"--stop={SECRET}", f"--system={SECRET}", SECRET),
                          (f"--image={large}", SECRET), (f"{SECRET} " * 4000,)):
            run("chat", server, "--max-new-tokens=3", *arguments)

    def logs(self):
        return {path.stem: path.read_text(errors="replace") for path in self.folder.glob("*.log")}

    def assert_silent(self, log):
        for known in (SECRET, "PNG", "IHDR"):
            self.assertNotIn(known, log)

    def test_says_no_prompt_and_shows_no_picture(self):
        routers, _ = self.start_fleet()
        self.ask_everything(routers[0].address)
        for log in self.logs().values():
            self.assert_silent(log)
            for line in log.splitlines():
                self.assertRegex(line, r"\A\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d\d:\d\d [IWE] ")

    def test_is_json_where_it_is_told_to_and_names_the_request(self):
        json_log = ("--log-format=json",)
        mark = self.folder / "killed"
        routers, workers = self.start_fleet(
            counts=(1, 1, 2), router_flags=json_log, flags={"": json_log},
            environment={"MINICPMV_TEST_POINTS": f"decode.token_1=kill:{mark}"})
        self.ask_everything(routers[0].address)
        request = mark.read_text().split()[2]
        for process in (*routers, *(worker for worker in workers if worker.alive())):
            process.stop()
        lines = {role: [json.loads(line) for line in log.splitlines()] for role, log in self.logs().items()}
        for role, objects in lines.items():
            self.assertTrue(objects, role)
            for line in objects:
                self.assertEqual(set(line) - {"request_id"}, {"time", "level", "role", "message"}, line)
                self.assertEqual(line["role"], role)
                self.assertIn(line["level"], ("info", "warning", "error"))
        for log in self.logs().values():
            self.assert_silent(log)
        self.assertIn(request, [line.get("request_id") for line in lines["router"]])

    def test_is_json_of_a_whole_cluster_and_of_one_that_cannot_start(self):
        cluster = self.start("cluster", "--listen=127.0.0.1:0", "--log-format=json")
        line = ""
        while not line.startswith("ready cluster "):
            line = cluster.read_line()
            self.assertTrue(line, self.log_of("cluster"))
        self.ask_everything(line.split()[2])
        self.assertEqual(cluster.stop(), 0)
        log = self.log_of("cluster")
        self.assert_silent(log)
        objects = [json.loads(line) for line in log.splitlines()]
        self.assertLessEqual({"router", "vision-0", "prefill-0", "decode-0"}, {line.get("name") for line in objects})
        done = run("router", "--listen=127.0.0.1:0", "--log-format=json", "--model=/absent")
        (words,) = [json.loads(line) for line in done.stderr.decode().splitlines()]
        self.assertEqual((words["role"], words["level"]), ("router", "error"))
        self.assertIn("--model", words["message"])


if __name__ == "__main__":
    unittest.main()
