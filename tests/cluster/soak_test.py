"""Mixed questions without end while a random worker is killed now and then: every reply comes, with the text of one
process, nothing is held afterwards, and what lives on does not grow. Short unless told (tools/soak.sh):

    MINICPMV_SOAK_SECONDS=1800 MINICPMV_SOAK_KILL_EVERY=20 MINICPMV_SOAK_SEED=1
"""

import json
import os
import random
import re
import signal
import subprocess
import threading
import time
import unittest

from fleet import PATIENCE, FleetTest, Member, nano_conversations, noise
from harness import EXECUTABLE

SECONDS = float(os.environ.get("MINICPMV_SOAK_SECONDS", 12))
KILL_EVERY = float(os.environ.get("MINICPMV_SOAK_KILL_EVERY", 4))
SEED = int(os.environ.get("MINICPMV_SOAK_SEED", 1))
ASKING = 4
PICTURES_OF_NOISE = 6
WARM_UP = 0.2  # of the time
MOST_GROWTH = 1 / 600  # MiB a second


def resident_mib(pid):
    with open(f"/proc/{pid}/status") as file:
        return int(re.search(r"RssAnon:\s+(\d+) kB", file.read()).group(1)) / 1024


def slope(points):
    """Least squares of (time, value)."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    return (sum((x - mean_x) * (y - mean_y) for x, y in points) / sum((x - mean_x) ** 2 for x, _ in points))


class SoakTest(FleetTest):
    def make_questions(self):
        """[(arguments, tokens)], as one process answers them."""
        questions = []
        for name, messages in nano_conversations().items():
            questions.append([f"--messages={self.write_json(f'{name}.json', messages)}"])
        for seed in range(PICTURES_OF_NOISE):
            path = self.write(f"noise-{seed}.png", noise(seed, 100 + 60 * seed, 300 - 20 * seed))
            questions.append([f"--image={path}", "What is in the image?", "--max-new-tokens=40", "--min-new-tokens=30"])
        return [(arguments, self.reply(*arguments, "--greedy")["tokens"]) for arguments in questions]

    def ask(self, address, questions, seed, until):
        draw = random.Random(seed)
        while time.monotonic() < until:
            arguments, tokens = draw.choice(questions)
            done = subprocess.run([EXECUTABLE, "chat", f"--server={address}", *arguments, "--greedy", "--json"],
                                  stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE)
            if done.returncode != 0:
                self.wrong.append((arguments, done.stderr.decode()))
            elif json.loads(done.stdout)["tokens"] != tokens:
                self.wrong.append((arguments, done.stdout.decode()))
            else:
                self.answered.append(time.monotonic())

    def test_loses_nothing_while_workers_die(self):
        self.wrong, self.answered, kills = [], [], 0
        questions = self.make_questions()
        _, address = self.start_cluster("--vision=2", "--prefill=2", "--decode=2")
        router = self.members["router"]
        self.await_workers(address, 6)
        begin = time.monotonic()
        until = begin + SECONDS
        asking = [threading.Thread(target=self.ask, args=(address, questions, 1000 * SEED + i, until))
                  for i in range(ASKING)]
        for thread in asking:
            thread.start()
        draw, memory = random.Random(SEED), []
        next_kill = begin + KILL_EVERY
        while time.monotonic() < until:
            time.sleep(min(1.0, max(0.0, until - time.monotonic())))
            memory.append((time.monotonic() - begin, resident_mib(router.pid)))
            if time.monotonic() < next_kill:
                continue
            next_kill += KILL_EVERY
            living, _ = self.list_workers(address)
            os.kill(draw.choice(living)["pid"], signal.SIGKILL)
            kills += 1
        for thread in asking:
            thread.join()
        self.assertEqual(self.wrong, [])
        self.assertNotEqual(self.answered, [])
        ready = self.await_workers(address, 6)
        self.assert_rests([router, *(Member(worker["id"], worker["pid"], worker["admin_address"]) for worker in ready)])
        late = [point for point in memory if point[0] >= WARM_UP * SECONDS]
        growth = slope(late)
        print(f"{len(self.answered)} replies, {kills} kills, router {late[0][1]:.1f} to {late[-1][1]:.1f} MiB, "
              f"{600 * growth:+.2f} MiB in 10 minutes", flush=True)
        if SECONDS >= 600:
            self.assertLess(growth, MOST_GROWTH)


if __name__ == "__main__":
    unittest.main()
