"""A request may be given up at any moment, by its client, by its deadline, by both at once, and twice: afterwards
nothing is held anywhere, and others get the right answers.

The moments are staged by the workers themselves (services/common/test_points.h): the thread that comes to one of them
stays there until the request has been given up, while all other threads go on.
"""

import contextlib
import time
import unittest

from fleet import PATIENCE, PICTURES, FleetTest, noise
from raw_calls import STREAM_REPLY, Connection, reply_request

MOMENTS = {
    "its medium half put": "vision.media_half_put",
    "decode opening": "decode.opened",
    "prefill opening": "prefill.opened",
    "vision opening": "vision.opened",
    "its slices being encoded": "vision.encode",
    "its rows half landed": "vision.rows_half_landed",
    # Prefill has two stages here: while the second chunk is told, the third is under way.
    "a step in flight": "prefill.chunk_2",
    "parcels in flight, to their sender": "prefill.pages_half_landed",
    "parcels in flight, to their receiver": "decode.pages_half_landed",
    "its first token": "decode.token_1",
    "between the last token and the end": "decode.ending",
}
WAYS = ("killed", "cancelled", "deadline", "both", "twice")
NEW_TOKENS = 4
QUEUE_DEPTH = 'minicpmv_queue_depth{class="image"}'
# Two do not fit into the cache of decode: one of them waits.
FLAGS = {"prefill": ("--chunk=16",), "decode": ("--pages=24",)}
OTHERS = (("Who are you?",), (f"--image={PICTURES / '008-0.png'}", "How many diamonds are there?"))


class CancelTableTest(FleetTest):
    def setUp(self):
        super().setUp()
        points = ",".join(f"{point}=hold:{self.folder / point}" for point in MOMENTS.values())
        routers, self.workers = self.start_fleet(stages=(2, 1), flags=FLAGS,
                                                 environment={"MINICPMV_TEST_POINTS": points})
        self.router = routers[0]
        self.port = int(self.router.address.rsplit(":", 1)[1])
        self.seed = 0
        self.here = [self.reply(*question, "--greedy")["text"] for question in OTHERS]

    # --- Where a thread stays.

    def hold(self, point):
        (self.folder / point).touch()

    def is_held(self, point):
        return (self.folder / f"{point}.held").exists()

    def await_that(self, holds, what):
        end = time.monotonic() + PATIENCE
        while not holds():
            self.assertLess(time.monotonic(), end, f"{what}: {self.log_of('router')}")
            time.sleep(0.002)

    def let_go(self, point):
        for name in (point, f"{point}.held"):
            with contextlib.suppress(FileNotFoundError):
                (self.folder / name).unlink()

    # --- What is asked.

    def next_picture(self):
        """One that nobody has seen: nothing of it comes from a cache."""
        self.seed += 1
        return noise(self.seed, 420, 420, bits=1)

    def ask(self, timeout=None):
        """The connection and its stream."""
        connection = Connection(self.port)
        self.addCleanup(connection.close)
        headers = () if timeout is None else (("grpc-timeout", f"{round(1000 * timeout)}m"),)
        request = reply_request("What is in the image?", self.next_picture(), NEW_TOKENS)
        return connection, connection.call(STREAM_REPLY, request, headers)

    def start_client(self):
        path = self.write("noise.png", self.next_picture())
        return self.start_chat(f"--server={self.router.address}", f"--image={path}", f"--min-new-tokens={NEW_TOKENS}",
                               f"--max-new-tokens={NEW_TOKENS}", "What is in the image?")

    def cancelled(self, by=("client", "deadline")):
        metrics = self.router.metrics()
        return sum(metrics[f'minicpmv_cancellations_total{{by="{name}"}}'] for name in by)

    def assert_others_answered(self):
        number = self.seed % len(OTHERS)
        there = self.reply(*OTHERS[number], "--greedy", f"--server={self.router.address}")
        self.assertEqual(there["text"], self.here[number])

    # --- The ways.

    def give_up(self, way, is_there):
        """Asks, and gives it up once `is_there`."""
        if way in ("deadline", "both"):
            self.give_up_late(way, is_there)
            return
        before = self.cancelled(by=("client",))

        def counted():
            return self.cancelled(by=("client",)) == before + 1

        if way == "killed":
            client = self.start_client()
            self.await_that(is_there, "the moment has not come")
            client.kill()
            client.wait()
            self.await_that(counted, "the router does not notice that its client is dead")
            return
        connection, stream = self.ask()
        self.await_that(is_there, "the moment has not come")
        connection.cancel(stream)
        if way == "twice":
            connection.cancel(stream)
        self.await_that(counted, "the router does not notice that it was cancelled")
        if way == "twice":
            connection.cancel(stream)
        connection.close()

    def give_up_late(self, way, is_there):
        timeout = 0.25
        while True:
            before = self.cancelled()
            begin = time.monotonic()
            connection, stream = self.ask(timeout)
            while not is_there() and time.monotonic() < begin + timeout:
                time.sleep(0.002)
            in_time = is_there()
            if in_time and way == "both":
                time.sleep(max(0, begin + timeout - time.monotonic()))
                connection.cancel(stream)
            else:
                connection.await_end(stream)
            self.await_that(lambda: self.cancelled() == before + 1, "the router does not notice the deadline")
            connection.close()
            if in_time:
                return
            # The moment has to come before the deadline: on a busy machine that takes longer.
            timeout *= 2
            self.assertLess(timeout, PATIENCE)

    def check(self, moment, way, stage):
        begin = time.monotonic()
        with self.subTest(moment=moment, way=way):
            with stage() as is_there:
                self.give_up(way, is_there)
            self.assert_rests([self.router, *self.workers])
            self.assert_others_answered()
            print(f"{moment:36} {way:10} at rest, {time.monotonic() - begin:.2f} s", flush=True)

    def at(self, point):
        @contextlib.contextmanager
        def stage():
            self.hold(point)
            try:
                yield lambda: self.is_held(point)
            finally:
                self.let_go(point)
        return stage

    @contextlib.contextmanager
    def in_the_queue(self):
        """While another has the cache for itself; that one ends well."""
        self.hold("decode.token_1")
        other = self.start_chat(f"--server={self.router.address}", *OTHERS[0], "--greedy", "--json")
        try:
            self.await_that(lambda: self.is_held("decode.token_1"), "the other does not come to its first token")
            yield lambda: self.router.metrics()[QUEUE_DEPTH] == 1
            self.assertEqual(self.router.metrics()[QUEUE_DEPTH], 0)
        finally:
            self.let_go("decode.token_1")
        self.assertEqual(self.end_chat(other)["text"], self.here[0])

    def test_a_request_may_be_given_up_at_any_moment(self):
        for way in WAYS:
            self.check("waiting in the queue", way, self.in_the_queue)
            for moment, point in MOMENTS.items():
                self.check(moment, way, self.at(point))


if __name__ == "__main__":
    unittest.main()
