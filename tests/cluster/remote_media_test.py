"""Pictures that the gateway fetches: from hosts that are listed, and from nobody else."""

import http.client
import http.server
import json
import select
import socket
import ssl
import subprocess
import threading
import unittest

from fleet import PATIENCE, PICTURES
from gateway_fleet import MODEL, GatewayFleetTest, data_uri

PICTURE = PICTURES / "022-0.png"
TOO_LARGE = (20 << 20) + 1


class PictureServer(http.server.ThreadingHTTPServer):
    """Answers as the path says; `seen`: who asked for what."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), PictureRequest)
        self.seen, self.release, self.left = [], threading.Event(), threading.Event()
        self.elsewhere = ""
        self.address = f"127.0.0.1:{self.server_port}"
        threading.Thread(target=self.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def end(self):
        self.release.set()
        self.shutdown()
        self.server_close()


class PictureRequest(http.server.BaseHTTPRequestHandler):
    def log_message(self, *_):
        pass

    def say(self, body, status=200, length=None, **headers):
        self.send_response(status)
        self.send_header("Content-Length", str(len(body) if length is None else length))
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        self.server.seen.append((self.path, dict(self.headers)))
        kind, _, rest = self.path.strip("/").partition("/")
        if kind == "picture":
            self.say(PICTURE.read_bytes())
        elif kind == "to":  # /to/picture: on this server; else where the test says
            self.say(b"", 302, Location=f"/{rest}" if rest else self.server.elsewhere)
        elif kind == "round":
            self.say(b"", 307, Location="/round")
        elif kind == "large":
            self.say(b"", length=TOO_LARGE)
        elif kind == "endless":
            self.send_response(200)
            self.end_headers()
            try:
                for _ in range(64):
                    self.wfile.write(bytes(1 << 20))
            except OSError:
                pass
        elif kind == "slow":
            self.say(b"x", length=100)
            self.wfile.flush()
            while not self.server.release.is_set():
                if select.select([self.connection], [], [], 0.05)[0] and not self.connection.recv(1, socket.MSG_PEEK):
                    break
            self.server.left.set()
        elif kind == "empty":
            self.say(b"")
        elif kind == "text":
            self.say(b"<html>no picture</html>")
        elif kind == "broken":
            self.say(b"x", length=100)
        else:
            self.say(PICTURE.read_bytes(), 404)


class RemoteMediaTest(GatewayFleetTest):
    def start_server(self):
        server = PictureServer()
        self.addCleanup(server.end)
        return server

    def body(self, *urls):
        parts = [{"type": "image_url", "image_url": {"url": url}} for url in urls]
        return json.dumps({"model": MODEL, "temperature": 0, "max_tokens": 16, "messages": [
            {"role": "user", "content": [*parts, {"type": "text", "text": "What does the text say?"}]}]})

    def show(self, *urls):
        """Status and the parsed body."""
        connection = http.client.HTTPConnection(*self.gateway.address.rsplit(":", 1), timeout=PATIENCE)
        self.addCleanup(connection.close)
        connection.request("POST", "/v1/chat/completions", self.body(*urls), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())

    def assert_refuses(self, words, *urls, place=0):
        status, answer = self.show(*urls)
        self.assertEqual(status, 400, (urls, answer))
        self.assertEqual(answer["error"]["param"], f"messages[0].content[{place}].image_url.url", urls)
        self.assertIn(words, answer["error"]["message"], urls)

    def test_fetches_from_listed_hosts_and_nobody_else(self):
        server, other = self.start_server(), self.start_server()
        proxies = {name: f"http://{other.address}" for name in ("http_proxy", "all_proxy", "ALL_PROXY")}
        processes = self.start_all(f"--allow-remote-media={server.address},localhost,*.invalid",
                                   environment=proxies)
        at, elsewhere = f"http://{server.address}", f"http://{other.address}"
        want = self.show(data_uri(PICTURE))
        self.assertEqual(want[0], 200, want)
        for url in (f"{at}/picture", f"{at}/to/picture", f"{at}/to/to/to/picture", f"{at}/picture#x"):
            got = self.show(url)
            self.assertEqual(got[0], 200, got)
            self.assertEqual(got[1]["choices"], want[1]["choices"])
        several = self.show(f"{at}/picture", data_uri(PICTURE), f"{at}/to/picture")
        self.assertEqual(several[0], 200, several)
        self.assertEqual(several[1]["choices"], self.show(*[data_uri(PICTURE)] * 3)[1]["choices"])
        for _, headers in server.seen:
            self.assertFalse({"Authorization", "Cookie", "Proxy-Authorization"} & set(headers))

        self.assert_refuses("nothing is fetched from", f"{elsewhere}/picture")
        self.assert_refuses("nothing is fetched from", data_uri(PICTURE), f"{elsewhere}/picture", place=1)
        self.assert_refuses("nothing is fetched from", f"http://localhost:{server.server_port}/picture")
        self.assert_refuses("user's name", f"http://user:word@{server.address}/picture")
        self.assert_refuses("private network", "http://localhost/picture")
        self.assert_refuses("cannot be found", "http://no-such-host.invalid/picture")
        for server.elsewhere in (f"{elsewhere}/picture", "file:///etc/passwd", f"http://user@{server.address}/picture",
                                 f"http://localhost:{other.server_port}/picture", "ftp://127.0.0.1/"):
            self.assert_refuses("leads to an address that", f"{at}/to")
        server.elsewhere = "http://localhost/picture"
        self.assert_refuses("private network", f"{at}/to")
        self.assertEqual(other.seen, [])

        self.assert_refuses("from one address to the next", f"{at}/round")
        self.assert_refuses("from one address to the next", f"{at}/to/to/to/to/picture")
        self.assert_refuses("more than 20971520 bytes", f"{at}/large")
        self.assert_refuses("more than 20971520 bytes", f"{at}/endless")
        self.assert_refuses("HTTP status 404", f"{at}/nothing")
        self.assert_refuses("is empty", f"{at}/empty")
        self.assert_refuses("breaks off", f"{at}/broken")
        status, answer = self.show(f"{at}/text")
        self.assertEqual((status, answer["error"]["type"]), (400, "invalid_request_error"), answer)
        self.assertIn("messages[0].content[0]", answer["error"]["param"])
        self.assert_rests(processes)
        self.assertNotIn("/picture", self.log_of("gateway"))

    def test_gives_up_what_is_slow_and_what_nobody_waits_for(self):
        server = self.start_server()
        processes = self.start_all(f"--allow-remote-media={server.address}", "--remote-media-timeout=300ms")
        self.assert_refuses("in time", f"http://{server.address}/slow")
        self.assertTrue(server.left.wait(PATIENCE))
        self.assert_rests(processes)

    def test_stops_fetching_for_who_has_gone(self):
        server = self.start_server()
        processes = self.start_all(f"--allow-remote-media={server.address}")
        body = self.body(f"http://{server.address}/slow").encode()
        with socket.create_connection(self.gateway.address.rsplit(":", 1), timeout=PATIENCE) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(body) + body)
            while not server.seen:
                self.assertFalse(select.select([connection], [], [], 0.02)[0])
        self.assertTrue(server.left.wait(PATIENCE))
        self.assert_rests(processes)
        # Nor does whoever waits keep it from stopping.
        server.left.clear()
        with socket.create_connection(self.gateway.address.rsplit(":", 1), timeout=PATIENCE) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                               b"Content-Length: %d\r\n\r\n" % len(body) + body)
            while len(server.seen) < 2:
                self.assertFalse(select.select([connection], [], [], 0.02)[0])
            self.gateway.process.kill()
        self.assertTrue(server.left.wait(PATIENCE))

    def test_trusts_no_certificate_that_nobody_vouches_for(self):
        key, certificate = self.folder / "key.pem", self.folder / "certificate.pem"
        subprocess.run(["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=127.0.0.1",
                        "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
                       check=True, capture_output=True, timeout=PATIENCE)
        server = self.start_server()
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(certificate, key)
        server.socket = tls.wrap_socket(server.socket, server_side=True)
        self.start_all(f"--allow-remote-media={server.address}")
        self.assert_refuses("certificate is not trusted", f"https://{server.address}/picture")
        self.assert_refuses("breaks off", f"http://{server.address}/picture")
        self.assertEqual(server.seen, [])

    def test_fetches_nothing_unless_it_is_told_to(self):
        server = self.start_server()
        self.start_all()
        self.assert_refuses("nothing is fetched", f"http://{server.address}/picture")
        self.assertEqual(server.seen, [])
        self.assert_refused("--allow-remote-media", "gateway", "--router=127.0.0.1:1", "--allow-remote-media=a/b")
        self.assert_refused("--allow-remote-media", "serve", "--http=127.0.0.1:0", "--allow-remote-media=*")


if __name__ == "__main__":
    unittest.main()
