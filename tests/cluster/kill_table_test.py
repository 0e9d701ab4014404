"""Any worker may die or freeze at any point of a request: the client sees one stream, the right text and no error, and
afterwards nothing is held anywhere.

    MINICPMV_TABLE_SEEDS=5 MINICPMV_TABLE_FREEZE=10 tests/cluster/kill_table_test.py

tools/kill_table.sh runs it so. Where a worker ends or freezes is staged by the worker itself
(services/common/test_points.h), not guessed by time.
"""

import os
import signal
import time
import unittest

from fleet import PATIENCE, FleetTest, noise

SEEDS = range(1, 1 + int(os.environ.get("MINICPMV_TABLE_SEEDS", "1")))
FREEZE = float(os.environ.get("MINICPMV_TABLE_FREEZE", "2"))
POINTS = ("vision.opened", "vision.media_half_put", "vision.rows_half_landed",
          "prefill.opened", "prefill.chunk_2", "prefill.pages_half_landed",
          "decode.opened", "decode.pages_half_landed", "decode.token_1", "decode.token_20")
NEW_TOKENS = 40
# Few pages, so that what others ask for meanwhile uses those of the request that was hit.
ENGINE = ("--chunk=16", "--pages=192")
FLEET = {"counts": (2, 2, 2), "router_flags": ("--stall-after=500ms",),
         "flags": {"prefill": ENGINE, "decode": ENGINE}}


class KillTableTest(FleetTest):
    alone = {}  # what one process answers, by seed

    def question(self, seed):
        picture = self.folder / f"noise-{seed}.png"
        if not picture.exists():
            picture.write_bytes(noise(seed, 420, 420))  # two chunks of media, nine slices
        return (f"--image={picture}", f"What is in image {seed}?", "--max-slices=9", f"--seed={seed}",
                "--temperature=0.9", "--top-k=0", f"--min-new-tokens={NEW_TOKENS}", f"--max-new-tokens={NEW_TOKENS}",
                "--json")

    def undisturbed(self, seed):
        if seed not in self.alone:
            self.alone[seed] = self.end_chat(self.start_chat(*self.question(seed)))
        return self.alone[seed]

    def ask(self, routers, seed):
        at = ",".join(router.address for router in routers)
        return self.start_chat(f"--server={at}", *self.question(seed))

    def assert_undisturbed(self, chat, seed):
        got, alone = self.end_chat(chat), self.undisturbed(seed)
        self.assertEqual((got["tokens"], got["text"]), (alone["tokens"], alone["text"]), f"seed {seed}")

    def ask_others(self, routers, seed):
        """Two other requests, so that pages and landings that the first one gave back are used again."""
        others = [(self.ask(routers, other), other) for other in (seed + 1000, seed + 2000)]
        for chat, other in others:
            self.assert_undisturbed(chat, other)

    def await_hit(self, file, workers):
        """The worker that came to the point."""
        end = time.monotonic() + PATIENCE
        while not file.exists() or not file.read_bytes().endswith(b"\n"):
            self.assertLess(time.monotonic(), end, "the point was never reached")
            time.sleep(0.002)
        pid = int(file.read_text().split()[1])
        return next(worker for worker in workers if worker.pid == pid)

    def check(self, point, action, seed):
        file = self.folder / f"{point}-{action}-{seed}"
        routers, workers = self.start_fleet(environment={"MINICPMV_TEST_POINTS": f"{point}={action}:{file}"}, **FLEET)
        chat = self.ask(routers, seed)
        hit = self.await_hit(file, workers)
        if action == "kill":
            self.assertEqual(hit.process.wait(PATIENCE), -signal.SIGKILL)
            self.assert_undisturbed(chat, seed)
            self.ask_others(routers, seed)
        else:
            thaw_at = time.monotonic() + FREEZE
            self.assert_undisturbed(chat, seed)
            self.ask_others(routers, seed)
            time.sleep(max(0, thaw_at - time.monotonic()))
            hit.process.send_signal(signal.SIGCONT)
            self.assert_rests([*routers, *workers])
            self.ask_others(routers, seed)
        self.assert_rests([process for process in [*routers, *workers] if process.alive()])
        for process in [*routers, *workers]:
            process.discard()

    def check_all(self, action):
        for seed in SEEDS:
            for point in POINTS:
                with self.subTest(point=point, action=action, seed=seed):
                    begin = time.monotonic()
                    self.check(point, action, seed)
                    print(f"{point:28} {action}  seed {seed}  held, {time.monotonic() - begin:.1f} s", flush=True)

    def test_any_worker_may_die_at_any_point(self):
        self.check_all("kill")

    def test_any_worker_may_freeze_at_any_point(self):
        self.check_all("stop")

    def test_another_router_takes_over_from_one_that_dies(self):
        for seed in SEEDS:
            with self.subTest(seed=seed):
                file = self.folder / f"router-{seed}"
                # In the middle of the stream: decode waits while the router dies.
                points = {"MINICPMV_TEST_POINTS": f"decode.token_20=stop:{file}"}
                routers, workers = self.start_fleet(routers=2, environment=points, **FLEET)
                chat = self.ask(routers, seed)
                hit = self.await_hit(file, workers)
                self.assertEqual(routers[0].metrics()["minicpmv_requests_in_flight"], 1)
                routers[0].process.kill()
                self.assertEqual(routers[0].process.wait(PATIENCE), -signal.SIGKILL)
                hit.process.send_signal(signal.SIGCONT)
                self.assert_undisturbed(chat, seed)
                requests = {name: count for name, count in routers[1].metrics().items()
                            if name.startswith("minicpmv_requests_total{") and count}
                self.assertEqual(sum(requests.values()), 1, requests)
                self.assert_rests([routers[1], *workers])
                self.ask_others(routers, seed)
                for process in [*routers, *workers]:
                    process.discard()


if __name__ == "__main__":
    unittest.main()
