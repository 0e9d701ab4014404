"""Files over HTTP: a picture that was uploaded once is as good as one that comes with each request."""

import http.client
import json
import os
import pathlib
import subprocess
import time
import unittest

from fleet import PATIENCE, PICTURES, noise
from gateway_fleet import MODEL, GatewayFleetTest, data_uri, form

PICTURE = PICTURES / "022-0.png"


class FilesTest(GatewayFleetTest):
    def request(self, method, path, body=None, content_type="application/json", key=None):
        """Status and the parsed body."""
        connection = http.client.HTTPConnection(*self.gateway.address.rsplit(":", 1), timeout=PATIENCE)
        self.addCleanup(connection.close)
        headers = {"Content-Type": content_type, **({"Authorization": f"Bearer {key}"} if key else {})}
        connection.request(method, path, body, headers)
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def upload(self, picture, key=None):
        body, content_type = form(picture)
        return self.request("POST", "/v1/files", body, content_type, key)

    def show(self, url, key=None):
        return self.request("POST", "/v1/chat/completions", json.dumps(
            {"model": MODEL, "temperature": 0, "max_tokens": 16, "messages": [{"role": "user", "content": [
                {"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": "What does the text say?"}]}]}),
            key=key)

    def await_free_disk(self):
        """The gateway lets go of what it had on the disk, a moment after it has answered."""
        end = time.monotonic() + PATIENCE
        while self.gateway.metrics()["minicpmv_http_disk_bytes"]:
            self.assertLess(time.monotonic(), end)
            time.sleep(0.01)

    def test_an_uploaded_picture_is_as_good_as_one_that_comes_along(self):
        keys = self.write("keys", "alice sk-alice-0123456789\nbob sk-bob-0123456789\n")
        processes = self.start_all(f"--api-keys-file={keys}")
        alice, bob = "sk-alice-0123456789", "sk-bob-0123456789"
        large = self.write("large.png", noise(3, 700, 700))
        for path in (PICTURE, large):
            picture = pathlib.Path(path).read_bytes()
            status, file = self.upload(picture, alice)
            self.assertEqual(status, 200, file)
            self.assertEqual((file["object"], file["bytes"], file["purpose"]), ("file", len(picture), "vision"))
            want, got = self.show(data_uri(path), alice), self.show(file["id"], alice)
            self.assertEqual((want[0], got[0]), (200, 200), (want, got))
            self.assertEqual(want[1]["choices"], got[1]["choices"])
            for key, status in ((alice, 200), (bob, 404), (None, 401)):
                self.assertEqual(self.request("GET", f"/v1/files/{file['id']}", key=key)[0], status)
            status, refused = self.show(file["id"], bob)
            self.assertEqual((status, refused["error"]["param"]), (404, "messages[0].content[0].image_url.url"))
        status, refused = self.upload(b"no picture", alice)
        self.assertEqual((status, refused["error"]["param"]), (400, "file"), refused)
        self.assertEqual(len(self.request("GET", "/v1/files", key=alice)[1]["data"]), 2)
        self.assert_rests(processes)
        for file in self.request("GET", "/v1/files", key=alice)[1]["data"]:
            self.assertTrue(self.request("DELETE", f"/v1/files/{file['id']}", key=alice)[1]["deleted"])
        self.await_free_disk()

    def test_outlives_the_workers_and_the_router_that_read_it(self):
        self.start_all(counts=(2, 1, 1), routers=2)
        status, file = self.upload(PICTURE.read_bytes())
        self.assertEqual(status, 200, file)
        want = self.show(file["id"])
        self.assertEqual(want[0], 200, want)
        self.workers[0].process.kill()
        self.assertEqual(self.show(file["id"])[1]["choices"], want[1]["choices"])
        self.routers[0].process.kill()
        self.assertEqual(self.show(file["id"])[1]["choices"], want[1]["choices"])

    def test_says_that_the_disk_is_full_and_goes_on(self):
        folder = self.folder / "small"
        folder.mkdir()
        mount = ("unshare", "-m", "sh", "-c", f'mount -t tmpfs -o size=1m none {folder} && exec "$@"', "sh")
        if os.getuid() != 0 or subprocess.run([*mount, "true"], capture_output=True, timeout=PATIENCE).returncode:
            self.skipTest("no file system can be mounted here")
        routers, _ = self.start_fleet()
        self.gateway = self.start("gateway", f"--router={routers[0].address}", "--listen=127.0.0.1:0",
                                  f"--http-folder={folder}", prefix=mount).await_ready()
        large = self.write("large.png", noise(3, 700, 700))
        self.assertGreater(large.stat().st_size, 1 << 20)
        for attempt in range(2):
            status, refused = self.upload(large.read_bytes())
            self.assertEqual((status, refused["error"]["code"]), (507, "insufficient_storage"))
            self.assertEqual(self.show(data_uri(large))[0], 507)
            self.await_free_disk()
        self.assertEqual(self.upload(PICTURE.read_bytes())[0], 200)
        self.assertEqual(self.show(data_uri(PICTURE))[0], 200)
        self.assertIn("a body cannot be kept", self.log_of("gateway"))


if __name__ == "__main__":
    unittest.main()
