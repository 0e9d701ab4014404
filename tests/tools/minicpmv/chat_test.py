"""The subcommand chat, from outside."""

import base64
import json
import os
import subprocess
import unittest

from harness import EXECUTABLE, NANO, PICTURES, ExecutableTest, png, run

DIAMONDS = PICTURES / "008-0.png"  # two of them
HOW_MANY = "How many diamonds are there?"
TWO = "There are 2 diamonds."


class ChatTest(ExecutableTest):
    def test_answers_about_a_picture(self):
        self.assertEqual(self.answer("chat", f"--image={DIAMONDS}", HOW_MANY), TWO + "\n")
        self.assertEqual(self.answer("chat", "--image", DIAMONDS, HOW_MANY), TWO + "\n")

    def test_takes_the_question_from_a_pipe(self):
        self.assertEqual(self.answer("chat", f"--image={DIAMONDS}", stdin=HOW_MANY.encode() + b"\n"), TWO + "\n")

    def test_answers_some_questions_as_the_original_did(self):
        questions = json.loads((NANO / "questions.json").read_text())
        kinds = {question["kind"]: question for question in questions}.values()  # one of each kind
        for question in kinds:
            arguments = ["--kv-dtype=f32", "--greedy", "--max-new-tokens=48"]
            options = question["options"]
            if "system" in options:
                arguments.append("--system=" + options["system"])
            if "max_slice_nums" in options:
                arguments.append(f"--max-slices={options['max_slice_nums']}")
            if not options.get("use_image_id", True):
                arguments.append("--no-image-id")
            for message in question["messages"]:
                for part in message["content"]:
                    if "image" in part:
                        part["image"] = str(NANO / part["image"])
            messages = self.write_json("messages.json", question["messages"])
            self.assertEqual(self.answer("chat", f"--messages={messages}", *arguments), question["answer"] + "\n")

    def test_prints_one_json_object(self):
        reply = self.reply(f"--image={DIAMONDS}", HOW_MANY)
        self.assertEqual(list(reply), ["text", "tokens", "finish_reason", "usage", "seconds", "spans", "seed"])
        self.assertEqual((reply["text"], reply["finish_reason"]), (TWO, "stop"))
        self.assertEqual(list(reply["usage"]), ["prompt_tokens", "completion_tokens"])
        self.assertEqual(reply["usage"]["completion_tokens"], len(reply["tokens"]))
        self.assertEqual(reply["tokens"][-1], 488)  # <|im_end|>
        seconds = reply["seconds"]
        self.assertEqual(list(seconds), ["queue", "media", "encode", "transfer", "prefill", "decode", "total"])
        self.assertTrue(all(value >= 0 for value in seconds.values()))
        stages = {stage: value for stage, value in seconds.items() if stage != "total"}
        self.assertLessEqual(sum(stages.values()), seconds["total"] * 1.001)
        self.assertGreater(seconds["encode"], 0)
        self.assertEqual({span["stage"] for span in reply["spans"]}, set(stages))
        for span in reply["spans"]:
            self.assertTrue(0 <= span["start"] <= span["end"] <= seconds["total"], span)

    def test_reads_conversations_with_paths_and_data_uris(self):
        uri = "data:image/png;base64," + base64.b64encode(DIAMONDS.read_bytes()).decode()
        self.write("copy.png", DIAMONDS.read_bytes())
        for url in (uri, "copy.png", str(DIAMONDS)):
            messages = self.write_json("messages.json", {"messages": [
                {"role": "user", "content": [{"type": "image_url", "image_url": {"url": url}},
                                             {"type": "text", "text": HOW_MANY}]}]})
            self.assertEqual(self.answer("chat", f"--messages={messages}"), TWO + "\n")

    def test_remembers_earlier_turns(self):
        messages = self.write_json("messages.json", [
            {"role": "user", "content": [{"image": str(DIAMONDS)}, {"text": "What is in the image?"}]},
            {"role": "assistant", "content": "diamonds"},
            {"role": "user", "content": HOW_MANY}])
        self.assertIn("2", self.answer("chat", f"--messages={messages}"))

    def test_takes_messages_of_one_role_in_a_row(self):
        def prompt_tokens(*roles):
            messages = self.write_json("messages.json", [{"role": role, "content": "Who are you?"} for role in roles])
            return self.reply(f"--messages={messages}")["usage"]["prompt_tokens"]

        one, two = prompt_tokens("user"), prompt_tokens("user", "user")
        self.assertEqual(prompt_tokens("user", "user", "user") - two, two - one)
        self.assertEqual(prompt_tokens("user", "assistant", "assistant", "user"),
                         prompt_tokens("user", "assistant", "user", "user"))

    def test_cuts_at_stop_texts(self):
        reply = self.reply(f"--image={DIAMONDS}", HOW_MANY, "--stop=amonds", "--stop=never")
        self.assertEqual((reply["text"], reply["finish_reason"]), ("There are 2 di", "stop"))
        self.assertEqual(self.answer("chat", f"--image={DIAMONDS}", HOW_MANY, "--stop=There"), "\n")

    def test_cuts_at_the_number_of_new_tokens(self):
        reply = self.reply("Hello", "--max-new-tokens=3")
        self.assertEqual((len(reply["tokens"]), reply["finish_reason"]), (3, "length"))

    def test_cuts_at_what_the_context_leaves(self):
        for flags, room in (([], 2048), (["--pages=20"], 320)):
            reply = self.reply("Hello", "--min-new-tokens=2048", "--max-new-tokens=4000", *flags)
            self.assertEqual(reply["finish_reason"], "length")
            self.assertEqual(reply["usage"]["prompt_tokens"] + reply["usage"]["completion_tokens"], room)

    def test_draws_the_same_with_the_same_seed(self):
        flags = ("Tell me something.", "--top-k=0", "--top-p=1", "--temperature=3", "--max-new-tokens=40")
        first = self.reply(*flags)
        self.assertEqual(self.reply(*flags, f"--seed={first['seed']}")["tokens"], first["tokens"])
        self.assertNotEqual(self.reply(*flags)["tokens"], first["tokens"])
        greedy = self.reply(*flags, "--greedy")
        self.assertEqual(self.reply(*flags, "--greedy", "--seed=18446744073709551615")["tokens"], greedy["tokens"])

    def test_keeps_the_penalty_when_greedy(self):
        flags = ("Hello", "--greedy", "--min-new-tokens=60", "--max-new-tokens=60")
        self.assertNotEqual(self.reply(*flags, "--repetition-penalty=5")["tokens"], self.reply(*flags)["tokens"])

    def test_answers_the_same_however_it_is_computed(self):
        flags = (f"--image={PICTURES / '022-0.png'}", "What does the text say?", "--min-new-tokens=40",
                 "--max-new-tokens=40")
        want = self.reply(*flags)["tokens"]
        for how in (["--devices=cpu:threads=1,cpu:threads=1"],
                    ["--devices=cpu:threads=1,cpu:threads=2,cpu", "--depth=4"],
                    ["--devices=cpu,cpu", "--split=0-0,1-4"], ["--threads=1"], ["--threads=3"], ["--chunk=1"],
                    ["--chunk=17", "--depth=2"], ["--step-ms=1"], ["--pages=40"]):
            self.assertEqual(self.reply(*flags, *how)["tokens"], want, how)

    def test_strips_and_drops_with_reference_quirks(self):
        plain, quirks = self.reply("Hello"), self.reply("Hello", "--reference-quirks")
        self.assertIn(0, plain["tokens"])  # "!"
        self.assertEqual(quirks["tokens"], plain["tokens"])
        self.assertEqual(quirks["text"], plain["text"].replace("!", ""))
        cut = ("Hello", "--max-new-tokens=3")
        self.assertEqual(self.reply(*cut)["text"], "Hello! ")
        self.assertEqual(self.reply(*cut, "--reference-quirks")["text"], "Hello")
        plain, quirks = self.reply("Hello! Hello!"), self.reply("Hello! Hello!", "--reference-quirks")
        self.assertEqual(quirks["usage"]["prompt_tokens"], plain["usage"]["prompt_tokens"] - 2)

    def test_reads_tags_in_a_text_as_text(self):
        plain, quirks = (self.reply("<box>", "--max-new-tokens=1", *flags) for flags in ([], ["--reference-quirks"]))
        self.assertEqual(plain["usage"]["prompt_tokens"], quirks["usage"]["prompt_tokens"] + len("<box>") - 1)

    def test_bills_on_standard_error(self):
        done = run("chat", "--bill", f"--image={DIAMONDS}", HOW_MANY)
        self.assertEqual((done.returncode, done.stdout.decode()), (0, TWO + "\n"))
        line = done.stderr.decode()
        self.assertEqual(line.count("\n"), 1)
        for word in ("encode", "prefill", "decode", "prompt tokens", "new tokens", "seed"):
            self.assertIn(word, line)

    def test_slices_large_pictures_unless_told_not_to(self):
        path = self.write("large.png", png(300, 300))

        def prompt_tokens(*flags):
            reply = self.reply(f"--image={path}", "What?", "--max-new-tokens=1", *flags)
            return reply["usage"]["prompt_tokens"]

        self.assertGreater(prompt_tokens("--max-slices=4"), prompt_tokens("--max-slices=1") + 4 * 16)
        self.assertEqual(prompt_tokens() - prompt_tokens("--no-image-id"), 3)  # <image_id>0</image_id>

    def test_answers_about_extreme_pictures(self):
        for width, height in ((1, 1), (1, 30000), (30000, 1), (3, 5000)):
            path = self.write("extreme.png", png(width, height))
            reply = self.reply(f"--image={path}", "What is in the image?", "--max-new-tokens=4")
            self.assertGreater(len(reply["tokens"]), 0)

    def test_streams_before_the_end(self):
        process = subprocess.Popen([EXECUTABLE, "chat", "Hello", "--min-new-tokens=1900", "--max-new-tokens=1900"],
                                   stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        first = os.read(process.stdout.fileno(), 10)
        self.assertLessEqual(len(first), 10)
        self.assertGreater(len(first), 0)
        self.assertIsNone(process.poll())
        process.stdout.read()
        process.stdout.close()
        self.assertEqual(process.wait(), 0)

    def test_ends_in_order_when_nobody_reads(self):
        reader, writer = os.pipe()
        process = subprocess.Popen([EXECUTABLE, "chat", "Hello", "--min-new-tokens=1900", "--max-new-tokens=1900"],
                                   stdin=subprocess.DEVNULL, stdout=writer, stderr=subprocess.PIPE)
        os.close(writer)
        os.close(reader)
        error = process.communicate(timeout=60)[1].decode()
        self.assertEqual((process.returncode, error.count("\n")), (1, 1))
        self.assertIn("standard output", error)


if __name__ == "__main__":
    unittest.main()
