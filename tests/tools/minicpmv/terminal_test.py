"""A conversation at the terminal."""

import fcntl
import os
import pty
import select
import subprocess
import termios
import time
import unittest

from harness import EXECUTABLE, PICTURES, ExecutableTest


class TerminalTest(ExecutableTest):
    def start(self, *flags):
        """The executable with a terminal on all its ends."""
        self.terminal, other = pty.openpty()
        self.process = subprocess.Popen([EXECUTABLE, "chat", *flags], stdin=other, stdout=other, stderr=other,
                                        start_new_session=True, preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0))
        os.close(other)
        self.addCleanup(self.process.kill)
        self.addCleanup(os.close, self.terminal)
        return self.wait_for("> ")

    def say(self, line):
        os.write(self.terminal, line.encode() + b"\n")

    def wait_for(self, words, seconds=60):
        """What comes until `words` have come."""
        text = ""
        end = time.monotonic() + seconds
        while words not in text:
            left = end - time.monotonic()
            if left <= 0 or not select.select([self.terminal], [], [], left)[0]:
                self.fail(f"no {words!r} in {text!r}")
            text += os.read(self.terminal, 4096).decode(errors="replace").replace("\r\n", "\n")
        return text

    def ask(self, line):
        self.say(line)
        return self.wait_for("\n> ")

    def finish(self):
        os.write(self.terminal, b"\x04")  # Ctrl-D
        self.assertEqual(self.process.wait(timeout=30), 0)

    def test_holds_a_conversation_about_pictures(self):
        words = self.start("--max-new-tokens=48")
        self.assertIn("/image", words)
        self.assertIn("MiniCPM-V nano", self.ask("Who are you?"))
        self.ask("/reset")
        self.ask(f"/image {PICTURES / '008-0.png'}")
        self.assertIn("There are 2 diamonds.", self.ask("How many diamonds are there?"))
        self.assertIn("absent.png: No such file", self.ask("/image absent.png"))
        self.assertIn("Ctrl-D", self.ask("/unknown"))
        self.finish()

    def test_shows_pictures_of_the_flags_with_the_first_message(self):
        self.start(f"--image={PICTURES / '008-0.png'}", "--system=Answer briefly.")
        self.assertIn("2", self.ask("How many diamonds are there?"))
        self.finish()

    def test_says_what_is_wrong_with_a_message_and_goes_on(self):
        self.start("--max-prompt-tokens=40")
        self.assertIn("minicpmv: the prompt has", self.ask("many words " * 20))
        self.assertIn("MiniCPM-V", self.ask("Who are you?"))
        self.finish()

    def test_stops_an_answer_at_ctrl_c_and_nothing_else(self):
        self.start("--max-new-tokens=1900", "--min-new-tokens=1900", "--threads=1")
        self.say("Hello")
        self.wait_for("Hello! Show")
        begin = time.monotonic()
        os.write(self.terminal, b"\x03")
        self.wait_for("\n> ")
        self.assertLess(time.monotonic() - begin, 20)
        os.write(self.terminal, b"\x03")  # at the prompt: nothing
        self.ask("/reset")
        self.assertIsNone(self.process.poll())
        self.finish()


if __name__ == "__main__":
    unittest.main()
