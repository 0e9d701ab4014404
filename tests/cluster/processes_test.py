"""Processes that are told to end, freeze, or die again and again while somebody is being answered: every reply is that of
one process, and nothing is held afterwards."""

import json
import os
import signal
import socket
import time
import unittest

from fleet import PATIENCE, FleetTest, noise
from gateway_fleet import MODEL, GatewayFleetTest

NEW_TOKENS = 40
ASKING = 4
CRASHES = 3
RECONNECTING = 8
SHORT_FREEZE = 0.5
TEXT_QUESTION = ("Who are you?", "--greedy")


class ProcessesTest(FleetTest):
    def question(self, seed):
        path = self.write(f"noise-{seed}.png", noise(seed, 200, 300))
        return (f"--image={path}", f"What is in image {seed}?", f"--seed={seed}", "--temperature=0.9", "--top-k=0",
                f"--min-new-tokens={NEW_TOKENS}", f"--max-new-tokens={NEW_TOKENS}", "--json")

    def ask(self, address, seed):
        return self.start_chat(f"--server={address}", *self.question(seed))

    def assert_undisturbed(self, chat, seed):
        got = self.end_chat(chat)
        alone = self.end_chat(self.start_chat(*self.question(seed)))
        self.assertEqual((got["tokens"], got["text"]), (alone["tokens"], alone["text"]), f"seed {seed}")

    def test_all_workers_may_be_told_to_end_under_load(self):
        routers, workers = self.start_fleet(counts=(2, 2, 2))
        chats = [self.ask(routers[0].address, seed) for seed in range(ASKING)]
        for worker in workers[::2]:
            self.assertEqual(worker.stop(signal.SIGTERM), 0, worker.role)
        chats += [self.ask(routers[0].address, ASKING)]
        for seed, chat in enumerate(chats):
            self.assert_undisturbed(chat, seed)
        self.assert_rests([*routers, *workers[1::2]])

    def frozen_in_a_stream(self, **fleet):
        """A chat, the decode worker that has frozen in the middle of its reply, and the others."""
        file = self.folder / "frozen"
        routers, workers = self.start_fleet(environment={"MINICPMV_TEST_POINTS": f"decode.token_20=stop:{file}"}, **fleet)
        chat = self.ask(routers[0].address, 1)
        end = time.monotonic() + PATIENCE
        while not file.exists() or not file.read_bytes().endswith(b"\n"):
            self.assertLess(time.monotonic(), end)
            time.sleep(0.002)
        pid = int(file.read_text().split()[1])
        return chat, next(worker for worker in workers if worker.pid == pid), [*routers, *workers]

    def test_a_short_freeze_costs_nothing_but_time(self):
        chat, frozen, processes = self.frozen_in_a_stream()
        time.sleep(SHORT_FREEZE)
        frozen.process.send_signal(signal.SIGCONT)
        self.assert_undisturbed(chat, 1)
        self.assert_rests(processes)

    def test_a_freeze_without_end_is_a_loss_without_any_flag(self):
        chat, frozen, processes = self.frozen_in_a_stream(counts=(1, 1, 2))
        self.assert_undisturbed(chat, 1)
        self.assert_rests([process for process in processes if process is not frozen])

    def test_what_crashes_at_every_start_comes_back_when_it_does_not(self):
        here = self.reply(*TEXT_QUESTION)["text"]
        cluster, address = self.start_cluster()
        for _ in range(CRASHES):
            os.kill(self.members["decode-0"].pid, signal.SIGKILL)
            self.note_member(cluster.read_line())
        self.await_workers(address, 3)
        self.assertEqual(self.reply(*TEXT_QUESTION, f"--server={address}")["text"], here)
        self.assertEqual(self.log_of("cluster").count("decode-0 ended: signal 9"), CRASHES)


    def test_all_clients_come_back_when_their_router_starts_again(self):
        cluster, address = self.start_cluster()
        questions = [(f"Count to {i}.", "--seed=5", f"--min-new-tokens={NEW_TOKENS}", f"--max-new-tokens={NEW_TOKENS}",
                      "--json") for i in range(RECONNECTING)]
        alone = [self.end_chat(self.start_chat(*question))["tokens"] for question in questions]
        chats = [self.start_chat(f"--server={address}", *question) for question in questions]
        os.kill(self.members["router"].pid, signal.SIGKILL)
        self.note_member(cluster.read_line())
        for chat, tokens in zip(chats, alone):
            self.assertEqual(self.end_chat(chat)["tokens"], tokens)
        self.await_workers(address, 3)
        self.assert_rests(self.members.values())


class GatewayIsKilledTest(GatewayFleetTest):
    def test_leaves_nothing_behind(self):
        hold = self.folder / "hold"
        self.start_all(environment={"MINICPMV_TEST_POINTS": f"decode.token_20=hold:{hold}"})
        hold.touch()
        body = json.dumps({"model": MODEL, "stream": True, "max_tokens": NEW_TOKENS, "min_tokens": NEW_TOKENS,
                           "messages": [{"role": "user", "content": "Hello"}]})
        host, port = self.gateway.address.rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n%s" % (len(body), body.encode()))
            self.assertTrue(connection.recv(1000).startswith(b"HTTP/1.1 200"))
            end = time.monotonic() + PATIENCE
            while not hold.with_suffix(".held").exists():
                self.assertLess(time.monotonic(), end)
                time.sleep(0.002)
            self.assertEqual(self.gateway.stop(signal.SIGKILL), -signal.SIGKILL)
            while connection.recv(1 << 16):  # cut off in mid-stream: the client is told at once
                pass
        while not self.routers[0].metrics()['minicpmv_cancellations_total{by="client"}']:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)
        hold.with_suffix(".held").unlink()
        self.assert_rests([*self.routers, *self.workers])
        there = self.reply(*TEXT_QUESTION, f"--server={self.routers[0].address}")
        self.assertEqual(there["text"], self.reply(*TEXT_QUESTION)["text"])


if __name__ == "__main__":
    unittest.main()
