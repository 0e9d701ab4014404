"""The second turn of a talk about three images, across processes: what the first one has made is not made again."""

import json
import unittest

from fleet import FleetTest, nano_conversations

PAGE = 16  # tokens
PAGES_SENT = 'minicpmv_transfer_bytes_total{kind="pages",link="grpc"}'
COMPUTED = ('minicpmv_prompt_tokens_total{kind="text"}', 'minicpmv_prompt_tokens_total{kind="media"}')


class LaterTurnsTest(FleetTest):
    def setUp(self):
        super().setUp()
        self.routers, (self.vision, self.prefill, self.decode) = self.start_fleet()
        self.talk = nano_conversations()["three images"]

    def ask(self, messages, *flags, server=True):
        path = self.write_json("messages.json", messages)
        return self.reply(f"--messages={path}", *flags, *([f"--server={self.routers[0].address}"] if server else []))

    def tokens_of(self, text):
        return json.loads(self.answer("tokenize", stdin=json.dumps(text).encode()))

    def work(self):
        """What has been done so far: slices encoded, tokens computed by prefill, bytes of pages sent."""
        prefill = self.prefill.metrics()
        return (self.vision.metrics()["minicpmv_slices_total"], sum(prefill[name] for name in COMPUTED),
                prefill[PAGES_SENT])

    def assert_little_is_done(self, first, kept):
        """`kept`: tokens of the first reply that the second prompt has as they were generated."""
        second = [*self.talk, {"role": "assistant", "content": first["text"]},
                  {"role": "user", "content": "Who are you?"}]
        here = self.ask(second, "--greedy", server=False)
        before = self.work()
        there = self.ask(second, "--greedy")
        slices, computed, sent = (now - then for now, then in zip(self.work(), before))
        self.assertEqual((there["tokens"], there["text"]), (here["tokens"], here["text"]))
        self.assertEqual(slices, 0)
        # Reply and new turn; of what is held, only whole pages count.
        more = there["usage"]["prompt_tokens"] - first["usage"]["prompt_tokens"]
        self.assertLessEqual(computed, more + PAGE)
        self.assertLessEqual(sent / self.page_bytes, -(-(more - kept) // PAGE) + 1)
        self.assertGreater(sent, 0)

    def ask_first(self, *flags):
        _, _, sent = self.work()
        first = self.ask(self.talk, "--min-new-tokens=24", "--max-new-tokens=24", *flags)
        if not hasattr(self, "page_bytes"):
            # All of the prompt but its last token, which decode computes.
            self.page_bytes = (self.work()[2] - sent) / -(-(first["usage"]["prompt_tokens"] - 1) // PAGE)
        return first

    def test_the_second_turn_computes_and_moves_only_what_is_new(self):
        first = self.ask_first("--greedy")
        self.assertEqual(self.tokens_of(first["text"]), first["tokens"])
        self.assert_little_is_done(first, kept=len(first["tokens"]))
        self.assert_rests([*self.routers, self.vision, self.prefill, self.decode])

    def test_also_where_the_reply_reads_as_other_tokens_than_it_was_made_of(self):
        tried = 0
        for seed in range(1, 50):
            first = self.ask_first(f"--seed={seed}", "--temperature=3", "--top-k=0", "--top-p=1")
            again = self.tokens_of(first["text"])
            if again == first["tokens"]:
                continue
            kept = next((i for i, (old, new) in enumerate(zip(first["tokens"], again)) if old != new),
                        min(len(again), len(first["tokens"])))
            self.assert_little_is_done(first, kept)
            tried += 1
            if tried == 5:
                break
        self.assertEqual(tried, 5)
        self.assert_rests([*self.routers, self.vision, self.prefill, self.decode])


if __name__ == "__main__":
    unittest.main()
