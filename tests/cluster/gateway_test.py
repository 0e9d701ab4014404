"""OpenAI's HTTP in front of a fleet: the same texts, whoever asks how; nothing left behind by whoever goes away."""

import http.client
import json
import select
import signal
import socket
import unittest

from fleet import PATIENCE, PICTURES, nano_conversations, noise
from gateway_fleet import MODEL, GatewayFleetTest, data_uri, openai_form


class GatewayTest(GatewayFleetTest):
    def connect(self):
        host, port = self.gateway.address.rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=PATIENCE)
        self.addCleanup(connection.close)
        return connection

    def post(self, body, connection=None, **headers):
        """Status, headers and the parsed body."""
        connection = connection or self.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(body),
                           {"Content-Type": "application/json", **headers})
        answer = connection.getresponse()
        return answer.status, answer.headers, json.loads(answer.read())

    def ask(self, messages, **fields):
        """The text of a whole answer."""
        status, _, answer = self.post({"model": MODEL, "messages": messages, **fields})
        self.assertEqual(status, 200, answer)
        return answer["choices"][0]["message"]["content"]

    def events(self, messages, **fields):
        """The events of a stream, parsed, without [DONE]."""
        connection = self.connect()
        connection.request("POST", "/v1/chat/completions",
                           json.dumps({"model": MODEL, "messages": messages, "stream": True, **fields}),
                           {"Content-Type": "application/json"})
        answer = connection.getresponse()
        self.assertEqual(answer.status, 200)
        self.assertEqual(answer.headers["Content-Type"], "text/event-stream; charset=utf-8")
        events = answer.read().decode().split("\n\n")
        self.assertEqual(events[-2:], ["data: [DONE]", ""])
        return [json.loads(event.removeprefix("data: ")) for event in events[:-2]]

    def stream(self, messages, **fields):
        return "".join(choice["delta"].get("content", "") for event in self.events(messages, **fields)
                       for choice in event["choices"])

    def test_says_what_the_router_says(self):
        processes = self.start_all()
        server = f"--server={self.routers[0].address}"
        for name, messages in nano_conversations().items():
            talk = self.write_json("talk.json", messages)
            want = self.reply(server, f"--messages={talk}", "--greedy")
            written = openai_form(messages)
            status, _, whole = self.post({"model": MODEL, "messages": written, "temperature": 0})
            self.assertEqual(status, 200, whole)
            self.assertEqual(whole["choices"][0]["message"]["content"], want["text"], name)
            self.assertEqual(whole["choices"][0]["finish_reason"], want["finish_reason"])
            usage = whole["usage"]
            self.assertEqual(usage["prompt_tokens"], want["usage"]["prompt_tokens"], name)
            self.assertEqual(usage["completion_tokens"], want["usage"]["completion_tokens"], name)
            self.assertEqual(usage["total_tokens"], usage["prompt_tokens"] + usage["completion_tokens"])
            self.assertIn("cached_tokens", usage["prompt_tokens_details"])
            events = self.events(written, temperature=0, stream_options={"include_usage": True})
            self.assertEqual(events[0]["choices"][0]["delta"]["role"], "assistant")
            self.assertEqual(len({(event["id"], event["created"]) for event in events}), 1)
            self.assertEqual(events[-1]["choices"], [])
            self.assertEqual(events[-1]["usage"]["total_tokens"], usage["total_tokens"])
            self.assertTrue(all(event["usage"] is None for event in events[:-1]))
            text = "".join(choice["delta"].get("content", "") for event in events for choice in event["choices"])
            self.assertEqual(text, want["text"], name)
        self.assert_rests(processes)

    def test_honours_options_as_the_command_line_does(self):
        self.start_all()
        server = f"--server={self.routers[0].address}"
        picture, question = str(PICTURES / "008-0.png"), "How many diamonds are there?"
        shown = openai_form([{"role": "user", "content": [{"image": picture}, {"text": question}]}])
        for flags, fields in (
                (["--seed=7", "--temperature=1.5", "--top-k=0", "--top-p=1"],
                 {"seed": 7, "temperature": 1.5, "top_k": -1, "top_p": 1}),
                (["--seed=18446744073709551615", "--top-k=5", "--repetition-penalty=1.5"],
                 {"seed": 18446744073709551615, "top_k": 5, "repetition_penalty": 1.5}),
                (["--greedy", "--stop=amonds"], {"temperature": 0, "stop": ["amonds"]}),
                (["--greedy", "--max-new-tokens=3"], {"temperature": 0, "max_completion_tokens": 3}),
                (["--greedy", "--max-new-tokens=20", "--min-new-tokens=20"],
                 {"temperature": 0, "max_tokens": 20, "min_tokens": 20}),
                (["--greedy", "--max-slices=1", "--no-image-id"],
                 {"temperature": 0, "mm_processor_kwargs": {"max_slice_nums": 1, "use_image_id": False}})):
            want = self.reply(server, f"--image={picture}", question, *flags)
            self.assertEqual(self.ask(shown, **fields), want["text"], flags)
            self.assertEqual(self.stream(shown, **fields), want["text"], flags)

    def test_low_detail_is_one_slice_and_large_pictures_are_uploaded(self):
        processes = self.start_all()
        large = self.write("large.png", noise(3, 700, 700))
        self.assertGreater(large.stat().st_size, 1 << 20)
        tokens = {}
        for detail in ("low", "high"):
            part = {"type": "image_url", "image_url": {"url": data_uri(large), "detail": detail}}
            status, _, answer = self.post({"model": MODEL, "max_tokens": 4, "temperature": 0, "messages": [
                {"role": "user", "content": [part, {"type": "text", "text": "What is it?"}]}]})
            self.assertEqual(status, 200, answer)
            tokens[detail] = answer["usage"]["prompt_tokens"]
        self.assertLess(tokens["low"], tokens["high"])
        one = self.reply(f"--server={self.routers[0].address}", f"--image={large}", "--max-slices=1", "--greedy",
                         "--max-new-tokens=4", "What is it?")
        self.assertEqual(tokens["low"], one["usage"]["prompt_tokens"])
        self.assert_rests(processes)

    def test_names_what_is_wrong(self):
        processes = self.start_all()
        hello = [{"role": "user", "content": "Hello"}]
        broken = [{"role": "user", "content": [{"type": "image_url",
                                                "image_url": {"url": "data:image/png;base64,AAAA"}}]}]
        for fields, status, param, code in (
                ({"messages": []}, 400, "messages", None),
                ({"messages": [{"role": "assistant", "content": "x"}]}, 400, "messages[0].role", None),
                ({"messages": hello, "temperature": -1}, 400, "temperature", None),
                ({"messages": hello, "top_p": 2}, 400, "top_p", None),
                ({"messages": hello, "stop": [""]}, 400, "stop[0]", None),
                ({"messages": hello, "n": 2}, 400, "n", "unsupported_parameter"),
                ({"messages": hello, "model": "other"}, 404, "model", "model_not_found"),
                ({"messages": [{"role": "user", "content": "x " * 100_000}]}, 400, None, "context_length_exceeded"),
                ({"messages": [{"role": "user", "content": [
                    {"type": "image_url", "image_url": {"url": "media:nothing"}}]}]}, 404,
                 "messages[0].content[0].media", "media_not_found"),
                ({"messages": broken}, 400, None, None)):
            for stream in (False, True):
                got, _, answer = self.post({"model": MODEL, "stream": stream, **fields})
                self.assertEqual(got, status, (fields, answer))
                error = answer["error"]
                self.assertEqual(sorted(error), ["code", "message", "param", "type"])
                self.assertEqual(error["type"], "invalid_request_error")
                self.assertEqual(error["code"], code, answer)
                if param:
                    self.assertEqual(error["param"], param, answer)
                self.assertTrue(error["message"])
        self.assert_rests(processes)

    def test_who_goes_away_leaves_nothing_behind(self):
        processes = self.start_all(flags={"": ["--step-ms=1"]})
        body = json.dumps({"model": MODEL, "stream": True, "max_tokens": 4000, "min_tokens": 4000,
                           "messages": [{"role": "user", "content": "Hello"}]}).encode()
        request = (b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
                   b"Content-Length: %d\r\n\r\n" % len(body)) + body
        host, port = self.gateway.address.rsplit(":", 1)
        for part in (request[:40], request[:-5], request, request):
            with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
                connection.sendall(part)
                if part == request:
                    self.assertTrue(connection.recv(1000).startswith(b"HTTP/1.1 200"))
        # One that reads nothing, for as long as the others take.
        with socket.create_connection((host, int(port)), timeout=PATIENCE) as connection:
            connection.sendall(request)
            self.assertTrue(select.select([connection], [], [], PATIENCE)[0])
            self.assertTrue(self.ask([{"role": "user", "content": "Who are you?"}]))
        self.assert_rests(processes, within=PATIENCE)

    def test_tenants_do_not_share_what_is_cached(self):
        keys = self.write("keys", "alice sk-alice-0123456789\nbob sk-bob-0123456789\n")
        processes = self.start_all(f"--api-keys-file={keys}")
        body = {"model": MODEL, "temperature": 0, "messages": [{"role": "user", "content": "word " * 200}],
                "max_tokens": 4}
        self.assertEqual(self.post(body)[0], 401)

        def cached(key):
            status, _, answer = self.post(body, Authorization=f"Bearer {key}")
            self.assertEqual(status, 200, answer)
            return answer["usage"]["prompt_tokens_details"]["cached_tokens"]

        self.assertEqual(cached("sk-alice-0123456789"), 0)
        self.assertGreater(cached("sk-alice-0123456789"), 0)
        self.assertEqual(cached("sk-bob-0123456789"), 0)
        self.assert_rests(processes)

    def test_goes_on_at_the_next_router(self):
        self.start_all(routers=2)
        want = self.ask([{"role": "user", "content": "Who are you?"}], temperature=0)
        for router in self.routers[:1]:
            router.stop(signal.SIGKILL)
        self.assertEqual(self.ask([{"role": "user", "content": "Who are you?"}], temperature=0), want)

    def test_is_part_of_one_process_and_of_a_cluster(self):
        for arguments, lines in ((("serve", "--listen=127.0.0.1:0", "--http=127.0.0.1:0"), 2),
                                 (("cluster", "--listen=127.0.0.1:0", "--http=127.0.0.1:0"), 6)):
            process = self.start(*arguments)
            said = [process.read_line() for _ in range(lines)]
            [address] = [line.split()[2] for line in said if line.startswith("ready gateway ")]
            [router] = [line.split()[2] for line in said if line.startswith(f"ready {arguments[0]} ")]
            self.gateway = type("At", (), {"address": address})
            want = self.reply(f"--server={router}", "--greedy", "Who are you?")["text"]
            self.assertEqual(self.ask([{"role": "user", "content": "Who are you?"}], temperature=0), want)
            self.assertEqual(process.stop(), 0)
            process.discard()

    def test_ends_its_answers_before_it_stops(self):
        self.start_all(flags={"": ["--step-ms=1"]})
        connection = self.connect()
        connection.request("POST", "/v1/chat/completions", json.dumps(
            {"model": MODEL, "stream": True, "max_tokens": 200, "min_tokens": 200, "seed": 1,
             "messages": [{"role": "user", "content": "Hello"}]}), {"Content-Type": "application/json"})
        answer = connection.getresponse()
        self.gateway.process.send_signal(signal.SIGTERM)
        self.assertTrue(answer.read().endswith(b"data: [DONE]\n\n"))
        self.assertEqual(self.gateway.process.wait(PATIENCE), 0)

    def test_says_what_is_wrong_before_it_starts(self):
        self.assert_refused("--router", "gateway")
        self.assert_refused("--router", "gateway", "--router=nowhere")
        self.assert_refused("--listen", "gateway", "--router=127.0.0.1:1", "--listen=0.0.0.0:0")
        self.assert_refused("--api-keys-file", "gateway", "--router=127.0.0.1:1",
                            f"--api-keys-file={self.write('keys', 'alice')}")
        self.assert_refused("--http", "serve", "--http=nowhere")
        self.assert_refused("--http", "serve", f"--api-keys-file={self.write('keys', 'alice')}")


if __name__ == "__main__":
    unittest.main()
