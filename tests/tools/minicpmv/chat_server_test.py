"""chat --server and workers --server: the same answers and words as in one process."""

import json
import select
import signal
import subprocess
import unittest

import terminal_test
from harness import EXECUTABLE, PICTURES, ExecutableTest, run
from pngs import noise

DIAMONDS = PICTURES / "008-0.png"  # two of them
HOW_MANY = "How many diamonds are there?"
PATIENCE = 60


class Server:
    def __init__(self):
        self.process = subprocess.Popen([EXECUTABLE, "serve", "--listen=127.0.0.1:0", "--kv-dtype=f32"],
                                        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        if not select.select([self.process.stdout], [], [], PATIENCE)[0]:
            self.process.kill()
            raise AssertionError("no server")
        self.address = self.process.stdout.readline().decode().split()[2]
        self.flag = f"--server={self.address}"

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        status = self.process.wait(PATIENCE)
        self.process.stdout.close()
        return status


class ChatServerTest(ExecutableTest):
    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0

    def both(self, *arguments):
        """What one process and the server reply."""
        return self.reply("--kv-dtype=f32", *arguments), self.reply(self.server.flag, *arguments)

    def test_replies_as_one_process_does_whatever_the_flags(self):
        large = self.write("large.png", noise(1, 700, 700))  # more than travels inline
        self.assertGreater(large.stat().st_size, 1 << 20)
        picture = f"--image={DIAMONDS}"
        talk = self.write_json("talk.json", [
            {"role": "system", "content": "Answer briefly."},
            {"role": "user", "content": [{"image": str(DIAMONDS)}, {"text": "What is in the image?"}]},
            {"role": "assistant", "content": "diamonds"},
            {"role": "user", "content": [{"image": str(PICTURES / '022-0.png')}, {"text": "And here?"}]}])
        for arguments in (["Who are you?"], [picture, HOW_MANY, "--greedy"],
                          [picture, HOW_MANY, "--seed=7", "--temperature=3", "--top-k=0", "--top-p=1"],
                          [picture, HOW_MANY, "--seed=18446744073709551615", "--top-k=5", "--repetition-penalty=1.5"],
                          [picture, HOW_MANY, "--greedy", "--stop=amonds", "--stop=never"],
                          [picture, "--image", PICTURES / "022-0.png", "--no-image-id", "--greedy", "Compare them."],
                          [f"--messages={talk}", "--greedy"],
                          ["Hello", "--greedy", "--system=Answer briefly."],
                          ["Hello", "--greedy", "--max-new-tokens=3"],
                          ["Hello", "--greedy", "--min-new-tokens=40", "--max-new-tokens=40"],
                          ["Hello! Hello!", "--greedy", "--reference-quirks"],
                          [f"--image={large}", "--max-slices=2", "--greedy", "--max-new-tokens=8", "What is it?"],
                          [picture, "--exif=ignore", "--greedy", HOW_MANY]):
            arguments = [*map(str, arguments)]
            here, there = self.both(*arguments, *([] if any("--max" in a for a in arguments) else
                                                  ["--max-new-tokens=48"]))
            self.assertEqual(list(there), list(here), arguments)
            for field in ("text", "tokens", "finish_reason", "usage"):
                self.assertEqual(there[field], here[field], (field, arguments))
            if any("--seed" in a for a in arguments):
                self.assertEqual(there["seed"], here["seed"])

    def test_shows_where_the_time_went(self):
        reply = self.reply(self.server.flag, f"--image={PICTURES / '020-0.png'}", "What is in the image?")
        seconds = reply["seconds"]
        self.assertEqual(list(seconds), ["queue", "media", "encode", "transfer", "prefill", "decode", "total"])
        for stage in ("media", "encode", "prefill", "decode"):
            self.assertGreater(seconds[stage], 0, stage)
            self.assertIn(stage, {span["stage"] for span in reply["spans"]})
        for span in reply["spans"]:
            self.assertLessEqual(0, span["start"])
            self.assertLessEqual(span["start"], span["end"])
        done = run("chat", self.server.flag, "--bill", "Who are you?")
        self.assertEqual(done.returncode, 0)
        self.assertIn(b"decode", done.stderr)

    def test_streams_text_and_reads_a_pipe(self):
        self.assertEqual(self.answer("chat", self.server.flag, f"--image={DIAMONDS}", stdin=HOW_MANY.encode()),
                         "There are 2 diamonds.\n")

    def test_refuses_flags_of_a_process_that_computes(self):
        for flag in ("--model=x", "--threads=2", "--pages=40", "--chunk=16", "--kv-dtype=f32", "--devices=cpu",
                     "--split=0-4", "--depth=2", "--step-ms=1", "--max-prompt-tokens=9"):
            self.assert_refused(flag.split("=")[0], "chat", self.server.flag, flag, "Hello")
        self.assert_refused("--token-file", "chat", "--token-file=x", "Hello")
        self.assert_refused("--server", "chat", "--server=unix:/x", "Hello")
        self.assert_refused("--server", "workers")

    def test_names_what_is_wrong_with_a_request(self):
        self.assert_refused("role", "chat", self.server.flag,
                            f"--messages={self.write_json('m.json', [{'role': 'robot', 'content': 'x'}])}")
        text = self.write("text.png", "no picture")
        self.assert_refused("conversation.messages[0].parts[0]", "chat", self.server.flag, f"--image={text}", "What?")
        self.assertEqual(self.reply(self.server.flag, f"--image={DIAMONDS}", HOW_MANY)["text"],
                         "There are 2 diamonds.")

    def test_tries_the_next_router(self):
        flag = f"--server=127.0.0.1:1,{self.server.address}"
        self.assertEqual(self.answer("chat", flag, f"--image={DIAMONDS}", HOW_MANY), "There are 2 diamonds.\n")
        self.assertEqual(len(json.loads(self.answer("workers", flag, "--json"))), 1)

    def test_shows_the_fleet(self):
        (worker,) = json.loads(self.answer("workers", self.server.flag, "--json"))
        self.assertEqual(list(worker), ["id", "pid", "roles", "address", "admin_address", "state", "running",
                                        "pages_free", "pages_total", "links"])
        self.assertEqual((worker["pid"], worker["state"]), (self.server.process.pid, "ready"))
        self.assertEqual(worker["roles"], ["vision", "prefill", "decode"])
        self.assertIn(worker["id"], self.answer("workers", self.server.flag))


class ServerTerminalTest(terminal_test.TerminalTest):
    """What holds at the terminal holds with a server."""

    @classmethod
    def setUpClass(cls):
        cls.server = Server()

    @classmethod
    def tearDownClass(cls):
        cls.server.stop()

    def start(self, *flags):
        own = ("--threads", "--max-prompt-tokens")  # of a process that computes
        return super().start(self.server.flag, *(flag for flag in flags if not flag.startswith(own)))

    def test_says_what_is_wrong_with_a_message_and_goes_on(self):
        # A digit is a token; a terminal takes no longer lines.
        self.start()
        self.assertIn("minicpmv: the prompt has", self.ask("7" * 3000))
        self.assertIn("MiniCPM-V", self.ask("Who are you?"))
        self.finish()


if __name__ == "__main__":
    unittest.main()
