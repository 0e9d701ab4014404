"""More replies than pages: the youngest are handed back and come again, and no text shows it."""

import unittest

from fleet import FleetTest

REPLIES = 4
TOKENS = 550
# Of 16 tokens. Each reply is let in with pages for its prompt and 256 tokens more, and grows to twice as many: all that
# are let in together do not fit.
PAGES = 56


class PreemptionTest(FleetTest):
    def test_workers_that_run_out_of_pages(self):
        questions = [("--greedy", "--json", f"--max-new-tokens={TOKENS}", f"--min-new-tokens={TOKENS}",
                      f"Tell me about shape {i}.") for i in range(REPLIES)]
        wanted = [self.reply(*question)["tokens"] for question in questions]
        routers, workers = self.start_fleet(flags={"decode": (f"--pages={PAGES}",)})
        decode = next(worker for worker in workers if worker.role == "decode")
        serve = self.start("serve", "--listen=127.0.0.1:0", "--threads=1", f"--pages={PAGES}").await_ready()
        for address, full in ((routers[0].address, decode), (serve.address, serve)):
            with self.subTest(full.role):
                chats = [self.start_chat(f"--server={address}", *question) for question in questions]
                self.assertEqual([self.end_chat(chat)["tokens"] for chat in chats], wanted)
                self.assertGreater(full.metrics()["minicpmv_preemptions_total"], 0)
        self.assert_rests([*routers, *workers, serve])


if __name__ == "__main__":
    unittest.main()
