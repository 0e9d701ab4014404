"""The bill says which stage took the time: the workers' own clocks tell, and the router adds nothing.

Stages are made slow by the workers themselves (services/common/test_points.h).
"""

import time
import unittest

from fleet import FleetTest, noise

POINTS = {"media": "vision.media", "encode": "vision.encode", "prefill": "prefill.chunk_2", "decode": "decode.token_1"}
STAGES = ("queue", "media", "encode", "transfer", "prefill", "decode")
# These are under way from their first chunk or parcel on, also while they wait for the picture: a span of theirs may
# hold another stage's time, their seconds may not.
WAITING = ("prefill", "transfer")
TRIES = 3  # the machine may be busy with something else: the least of each number is taken


class BillTest(FleetTest):
    def start_slow(self, delays):
        """{stage: milliseconds}"""
        points = ",".join(f"{POINTS[stage]}=delay:{delay}" for stage, delay in delays.items())
        routers, workers = self.start_fleet(flags={"prefill": ("--chunk=16",)},
                                            environment={"MINICPMV_TEST_POINTS": points})
        return routers[0], [*routers, *workers]

    def ask(self, router, seed):
        """The reply, and the seconds of a client from its start to its end. One slice: nothing to do at once."""
        picture = self.write("picture.png", noise(seed, 100, 100))
        begin = time.monotonic()
        reply = self.reply(f"--image={picture}", "What is in the image? Say all that can be said about it.", "--greedy",
                           "--min-new-tokens=4", "--max-new-tokens=4", f"--server={router.address}")
        return reply, time.monotonic() - begin

    def test_a_delay_shows_in_the_line_of_its_stage_and_in_no_other(self):
        for slow in POINTS:
            with self.subTest(stage=slow):
                router, processes = self.start_slow({slow: 300})
                least = {stage: (float("inf"), float("inf")) for stage in STAGES}
                for seed in range(TRIES):
                    reply, _ = self.ask(router, seed)
                    for stage in STAGES:
                        spans = [span["end"] - span["start"] for span in reply["spans"] if span["stage"] == stage]
                        self.assertTrue(spans, stage)
                        seconds, longest = least[stage]
                        least[stage] = (min(seconds, reply["seconds"][stage]), min(longest, max(spans)))
                for stage, (seconds, longest) in least.items():
                    if stage == slow:
                        self.assertGreaterEqual(seconds, 0.3)
                        self.assertGreaterEqual(longest, 0.3)
                    else:
                        self.assertLess(seconds, 0.15, least)
                        if stage not in WAITING:
                            self.assertLess(longest, 0.15, least)
                self.assert_rests(processes)
                for process in processes:
                    process.discard()

    def test_the_stages_add_up_to_what_the_client_waits_where_nothing_overlaps(self):
        # Each stage takes so long that the start of the client's process and the way to the router, which are nobody's
        # stage, are little beside them.
        router, processes = self.start_slow(dict.fromkeys(POINTS, 800))
        for seed in range(TRIES):
            reply, wall = self.ask(router, seed)
            seconds = reply["seconds"]
            total = sum(seconds[stage] for stage in STAGES)
            if abs(total - wall) <= 0.1 * wall:
                break
        self.assertLessEqual(abs(total - wall), 0.1 * wall, (seconds, wall))
        self.assertLessEqual(seconds["total"], wall)
        self.assert_rests(processes)


if __name__ == "__main__":
    unittest.main()
