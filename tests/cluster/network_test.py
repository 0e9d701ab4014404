"""Whatever the network does to one of two decode workers, a client sees one stream, the right text and no error; and once
it is over, the worker is asked again and nothing is held anywhere.

Each decode worker is reached, and reaches its router, through proxies of its own (fault_proxy.py).
"""

import random
import threading
import time
import unittest

from fault_proxy import FaultProxy, Reset
from fleet import PATIENCE, FleetTest, noise

NEW_TOKENS = 40
ENGINE = ("--chunk=16", "--pages=192")
DECODES = 2
TEN_MEGABITS = 10e6 / 8  # bytes a second


# --- When it happens: asked with a passage and the bytes that have passed there.

def at_once(passage, passed):
    return True


def in_a_stream(passage, passed):
    """Decode has sent some tokens to the router."""
    return passage.proxy.is_way_in and not passage.is_link and not passage.to_target and passed > 400


def in_a_parcel(passage, passed):
    """Prefill has sent some pages to decode."""
    return passage.is_link and passage.to_target and passed > 4000


class Fault:
    """What happens, from its moment on, to the worker to which it happens first, or to all. It is over once healed."""

    def __init__(self, moment, to_all=False):
        self.moment, self.to_all = moment, to_all
        self.worker, self.passed, self.spoilt = None, {}, []
        self.lock, self.over = threading.Lock(), threading.Event()

    def __call__(self, passage, data):
        with self.lock:
            passed = self.passed.get(passage, 0)
            self.passed[passage] = passed + len(data)
            if self.worker is None and self.moment(passage, passed):
                self.worker = passage.proxy.worker
            is_hit = self.worker is not None and (self.to_all or self.worker == passage.proxy.worker)
        if not is_hit or self.over.is_set() or not self.concerns(passage):
            return data
        self.spoilt.append(passage)
        return self.spoil(passage, data)

    def concerns(self, passage):
        return True

    def heal(self):
        self.over.set()


class Late(Fault):
    draw = random.Random(3)

    def spoil(self, passage, data):
        self.over.wait(self.draw.uniform(0, 0.04))
        return data


class Narrow(Fault):
    def spoil(self, passage, data):
        self.over.wait(len(data) / TEN_MEGABITS)
        return data


class Cut(Fault):
    """All connections of the worker that are used, once each, in the middle of what they say."""

    def concerns(self, passage):
        return passage not in self.spoilt

    def spoil(self, passage, data):
        raise Reset


class Damage(Fault):
    def concerns(self, passage):
        return not self.spoilt and passage.is_link and passage.to_target

    def spoil(self, passage, data):
        middle = len(data) // 2
        return data[:middle] + bytes((data[middle] ^ 16,)) + data[middle + 1:]


class HalfOpenLink(Fault):
    """Nothing of a link comes through any more, and nobody is told; when it is over, both learn it."""

    def concerns(self, passage):
        return passage.is_link

    def spoil(self, passage, data):
        return b""

    def heal(self):
        super().heal()
        for passage in self.spoilt:
            passage.connection.reset()


class Parted(Fault):
    """What the worker and its router say waits, in these directions, until it is over."""

    def __init__(self, moment, *directions):
        super().__init__(moment)
        self.directions = directions

    def concerns(self, passage):
        to_worker = passage.to_target == passage.proxy.is_way_in
        return not passage.is_link and ("to" if to_worker else "from") in self.directions

    def spoil(self, passage, data):
        self.over.wait(PATIENCE)
        return data


FAULTS = {
    "late and uneven": lambda: Late(at_once, to_all=True),
    "10 Mbit/s": lambda: Narrow(at_once, to_all=True),
    "reset in a stream": lambda: Cut(in_a_stream),
    "reset in a parcel": lambda: Cut(in_a_parcel),
    "a damaged parcel": lambda: Damage(in_a_parcel),
    "a half-open link": lambda: HalfOpenLink(in_a_parcel),
    "parted from the router in a stream": lambda: Parted(in_a_stream, "to", "from"),
    "heard no more by the router in a stream": lambda: Parted(in_a_stream, "from"),
}


class NetworkTest(FleetTest):
    def make_proxy(self, worker, is_way_in):
        proxy = FaultProxy()
        proxy.worker, proxy.is_way_in = worker, is_way_in
        self.proxies.append(proxy)
        self.addCleanup(proxy.close)
        return proxy

    def start_decode(self, number):
        name = f"decode-{number}"
        way_in, way_out = self.make_proxy(name, True), self.make_proxy(name, False)
        way_out.target = self.router.address
        decode = self.start("decode", "--devices=cpu:threads=1", f"--id={name}", f"--advertise={way_in.address}",
                            f"--router={way_out.address}", *ENGINE).await_ready()
        way_in.target = decode.address
        return decode

    def setUp(self):
        super().setUp()
        self.proxies = []
        self.router = self.start_router("--stall-after=500ms")
        self.workers = [self.start(role, f"--router={self.router.address}", "--devices=cpu:threads=1", f"--id={role}",
                                   *flags) for role, flags in (("vision", ()), ("prefill", ENGINE))]
        for worker in self.workers:
            worker.await_ready()
        self.workers += [self.start_decode(i) for i in range(DECODES)]
        self.await_workers(self.router.address, len(self.workers))

    def question(self, seed):
        path = self.write(f"noise-{seed}.png", noise(seed, 300, 300))
        return (f"--image={path}", f"What is in image {seed}?", f"--seed={seed}", "--temperature=0.9", "--top-k=0",
                f"--min-new-tokens={NEW_TOKENS}", f"--max-new-tokens={NEW_TOKENS}", "--json")

    def answer_of(self, seed, *flags):
        got = self.end_chat(self.start_chat(*self.question(seed), *flags))
        return got["tokens"], got["text"]

    def set_fault(self, fault):
        for proxy in self.proxies:
            proxy.fault = fault

    def test_a_reply_survives_what_happens_to_its_worker(self):
        for seed, (name, make) in enumerate(FAULTS.items()):
            with self.subTest(fault=name):
                alone = self.answer_of(seed)
                asks = f"--server={self.router.address}"
                begin = time.monotonic()
                fault = make()
                self.set_fault(fault)
                try:
                    self.assertEqual(self.answer_of(seed, asks), alone)
                    self.assertNotEqual(fault.spoilt, [], "nothing was spoilt")
                finally:
                    self.set_fault(None)
                    fault.heal()
                took = time.monotonic() - begin
                self.await_workers(self.router.address, len(self.workers))
                self.assert_rests([self.router, *self.workers], within=5)
                self.assertEqual(self.answer_of(seed, asks), alone)
                print(f"{name:40} held, {took:.1f} s", flush=True)


if __name__ == "__main__":
    unittest.main()
