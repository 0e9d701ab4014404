"""Requests of every class beside one that asks about very many pictures: nobody waits for its end, and it ends."""

import base64
import unittest

from fleet import PATIENCE, FleetTest, noise

PICTURES = 40


def data_uri(png):
    return "data:image/png;base64," + base64.b64encode(png).decode()


class FairnessTest(FleetTest):
    def ask_album(self, *flags):
        parts = [{"type": "image_url", "image_url": {"url": data_uri(noise(1000 + i, 60, 60))}} for i in range(PICTURES)]
        path = self.write_json("album.json", [{"role": "user", "content": [*parts, {"type": "text", "text": "Well?"}]}])
        return self.start_chat(f"--messages={path}", "--greedy", "--max-new-tokens=4", "--json", *flags)

    def test_nobody_waits_for_the_end_of_an_album_and_it_ends(self):
        # Each picture takes its time, wherever it comes from.
        (router,), workers = self.start_fleet(environment={"MINICPMV_TEST_POINTS": "vision.media=delay:100"})
        server = f"--server={router.address}"
        alone = self.end_chat(self.ask_album())
        album = self.ask_album(server)
        passed = 0
        for turn in range(PICTURES):
            asked = [self.start_chat("What is seven plus two?", "--greedy", "--json", server)]
            picture = self.write(f"{turn}.png", noise(turn, 60, 60))
            asked.append(self.start_chat(f"--image={picture}", "Well?", "--greedy", "--max-new-tokens=4", "--json", server))
            for chat in asked:
                self.end_chat(chat)
            if album.poll() is not None:
                break
            passed += len(asked)
        beside = self.end_chat(album, patience=PATIENCE)
        self.assertEqual((beside["tokens"], beside["text"]), (alone["tokens"], alone["text"]))
        # Fewer where the machine is busy: 40 pictures take 4 s.
        self.assertGreaterEqual(passed, 4)
        self.assert_rests([router, *workers])


if __name__ == "__main__":
    unittest.main()
