"""However the work is spread over processes, the tokens are those of one process."""

import unittest

from fleet import FleetTest, nano_conversations

LONG = ("--min-new-tokens=24", "--max-new-tokens=24")  # beyond the first page of an answer
SEEDED = ("--seed=11", "--temperature=0.9", "--top-k=0", "--top-p=0.95")


class SameAnswersTest(FleetTest):
    def ask_all(self, *flags):
        """{(conversation, way): (prompt tokens, tokens, text)}"""
        answers = {}
        for name, messages in nano_conversations().items():
            path = self.write_json("messages.json", messages)
            for way, more in (("greedy", ("--greedy",)), ("long", ("--greedy", *LONG)), ("seeded", (*SEEDED, *LONG))):
                reply = self.reply(f"--messages={path}", *more, *flags)
                answers[name, way] = (reply["usage"]["prompt_tokens"], reply["tokens"], reply["text"])
        return answers

    def here(self):
        if not hasattr(SameAnswersTest, "answers"):
            SameAnswersTest.answers = self.ask_all()
        return SameAnswersTest.answers

    def assert_same(self, address, processes):
        here = self.here()
        # The second time much comes from caches.
        for time in ("first", "second"):
            there = self.ask_all(f"--server={address}")
            for key, answer in here.items():
                self.assertEqual(there[key], answer, (time, key))
        self.assert_rests(processes)

    def assert_same_in_a_fleet(self, **options):
        routers, workers = self.start_fleet(**options)
        self.assert_same(routers[0].address, [*routers, *workers])

    def test_through_four_processes(self):
        self.assert_same_in_a_fleet()

    def test_through_two_of_each(self):
        self.assert_same_in_a_fleet(counts=(2, 2, 2))

    def test_in_one_process_that_serves(self):
        serve = self.start("serve", "--listen=127.0.0.1:0").await_ready()
        self.await_workers(serve.address, 1)
        self.assert_same(serve.address, [serve])

    def test_where_prefill_and_decode_share_a_process(self):
        router = self.start_router()
        workers = [self.start("vision", f"--router={router.address}").await_ready(),
                   self.start("worker", "--roles=prefill,decode", f"--router={router.address}").await_ready()]
        self.await_workers(router.address, 2)
        self.assert_same(router.address, [router, *workers])

    def test_where_prefill_has_one_stage_and_decode_two(self):
        self.assert_same_in_a_fleet(stages=(1, 2))

    def test_where_prefill_has_two_stages_and_decode_one(self):
        self.assert_same_in_a_fleet(stages=(2, 1))

    def test_with_chunks_of_16_and_512(self):
        for chunk in (16, 512):
            with self.subTest(chunk=chunk):
                self.assert_same_in_a_fleet(flags={"prefill": (f"--chunk={chunk}",), "decode": (f"--chunk={chunk}",)})


if __name__ == "__main__":
    unittest.main()
