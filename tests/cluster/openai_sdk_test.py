"""The official Python client of OpenAI, as it is, in front of a fleet."""

import sys
import unittest

from fleet import PATIENCE, PICTURES
from gateway_fleet import MODEL, GatewayFleetTest, openai_form
from harness import ROOT

sys.path.append(str(ROOT / "build" / "python"))  # where tools/install_deps.sh puts what Debian has not
try:
    import openai
except ImportError:
    openai = None


class OpenAiSdkTest(GatewayFleetTest):
    def setUp(self):
        if openai is None:
            self.skipTest("the Python package openai is not there: tools/install_deps.sh")
        super().setUp()

    def test_drives_it_unmodified(self):
        keys = self.write("keys", "alice sk-alice-0123456789\n")
        processes = self.start_all(f"--api-keys-file={keys}")
        client = openai.OpenAI(base_url=f"http://{self.gateway.address}/v1", api_key="sk-alice-0123456789",
                               timeout=PATIENCE)
        self.addCleanup(client.close)
        self.assertEqual([model.id for model in client.models.list()], [MODEL])
        self.assertEqual(client.models.retrieve(MODEL).id, MODEL)
        messages = openai_form([{"role": "user", "content": [
            {"image": str(PICTURES / "008-0.png")}, {"text": "How many diamonds are there?"}]}])
        whole = client.chat.completions.create(model=MODEL, messages=messages, temperature=0, seed=1)
        self.assertEqual(whole.choices[0].message.content, "There are 2 diamonds.")
        self.assertEqual(whole.choices[0].finish_reason, "stop")
        self.assertEqual(whole.usage.total_tokens, whole.usage.prompt_tokens + whole.usage.completion_tokens)
        chunks = list(client.chat.completions.create(model=MODEL, messages=messages, temperature=0, stream=True,
                                                     stream_options={"include_usage": True},
                                                     extra_body={"top_k": 5, "repetition_penalty": 1.0}))
        self.assertEqual("".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices),
                         whole.choices[0].message.content)
        self.assertEqual(chunks[-1].usage.total_tokens, whole.usage.total_tokens)
        with self.assertRaises(openai.BadRequestError) as refused:
            client.chat.completions.create(model=MODEL, messages=messages, n=2)
        self.assertEqual((refused.exception.param, refused.exception.code), ("n", "unsupported_parameter"))
        with self.assertRaises(openai.NotFoundError):
            client.chat.completions.create(model="other", messages=messages)
        stranger = openai.OpenAI(base_url=f"http://{self.gateway.address}/v1", api_key="sk-nobody",
                                 timeout=PATIENCE)
        self.addCleanup(stranger.close)
        with self.assertRaises(openai.AuthenticationError):
            stranger.models.list()
        file = client.files.create(file=PICTURES / "008-0.png", purpose="vision")
        self.assertEqual((file.filename, file.bytes), ("008-0.png", (PICTURES / "008-0.png").stat().st_size))
        by_id = [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": file.id}},
                                              messages[0]["content"][1]]}]
        shown = client.chat.completions.create(model=MODEL, messages=by_id, temperature=0)
        self.assertEqual(shown.choices[0].message.content, whole.choices[0].message.content)
        self.assertEqual([one.id for one in client.files.list()], [client.files.retrieve(file.id).id])
        self.assertTrue(client.files.delete(file.id).deleted)
        with self.assertRaises(openai.NotFoundError):
            client.files.retrieve(file.id)
        # A stream that is let go of in the middle.
        with client.chat.completions.create(model=MODEL, messages=messages, stream=True, max_tokens=4000,
                                            extra_body={"min_tokens": 4000}) as stream:
            next(iter(stream))
        self.assert_rests(processes, within=PATIENCE)


if __name__ == "__main__":
    unittest.main()
