"""The subcommand trace against what the original computed."""

import json
import unittest

from harness import GOLDENS, PICTURES, ExecutableTest, deviation, read_safetensors

FOLDER = GOLDENS / "v26-mini-f32"
TOLERANCE = 5e-5


class TraceTest(ExecutableTest):
    def setUp(self):
        super().setUp()
        self.cases = {case["name"]: case for case in json.loads((FOLDER / "cases.json").read_text())["cases"]}
        self.want = read_safetensors(FOLDER / "tensors.safetensors")

    def trace(self, name, *flags):
        case = self.cases[name]
        for message in case["messages"]:
            for part in message["content"]:
                if "image" in part:
                    part["image"] = str(FOLDER / "images" / part["image"])
        messages = self.write_json("messages.json", case["messages"])
        out = self.folder / "trace.safetensors"
        self.answer("trace", f"--model={FOLDER / 'checkpoint'}", f"--messages={messages}", f"--out={out}",
                    "--kv-dtype=f32", *flags)
        return read_safetensors(out)

    def assert_original(self, got, name, without=()):
        for tensor, (shape, values) in got.items():
            if tensor in ("input_ids", "greedy_tokens") or tensor in without:
                continue
            self.assertEqual(shape, self.want[f"{name}.{tensor}"][0], tensor)
            self.assertLessEqual(deviation(values, self.want[f"{name}.{tensor}"][1]), TOLERANCE, tensor)

    def test_holds_what_the_original_computed(self):
        for name in ("text_only", "one_image", "sliced"):
            got = self.trace(name, "--trace-layers")
            prefix = name + "."
            want = {tensor[len(prefix):] for tensor in self.want if tensor.startswith(prefix)}
            self.assertEqual(set(got), want | {"input_ids", "greedy_tokens"})
            case = self.cases[name]
            self.assertEqual(list(got["input_ids"][1]), case["input_ids"])
            self.assertEqual(list(got["greedy_tokens"][1]), case["greedy"]["tokens"])
            self.assert_original(got, name)

    def test_needs_no_layers_and_takes_fewer_steps(self):
        got = self.trace("few_shot", "--steps=5")
        self.assertEqual(set(got), {"input_ids", "rows", "prompt_logits", "greedy_logits", "greedy_tokens"})
        self.assertEqual(got["greedy_logits"][0], [5, 504])
        self.assertEqual(got["prompt_logits"][0], [8, 504])
        self.assertEqual(got["prompt_logits"][1][-504:], got["greedy_logits"][1][:504])
        self.assertEqual(list(got["greedy_tokens"][1]), self.cases["few_shot"]["greedy"]["tokens"][:5])

    def test_traces_layers_over_several_stages(self):
        got = self.trace("sliced", "--trace-layers", "--devices=cpu:threads=1,cpu:threads=1", "--chunk=16")
        self.assert_original(got, "sliced")

    def test_feeds_forced_tokens_and_tells_what_it_would_have_chosen(self):
        tokens = self.cases["turns"]["greedy"]["tokens"]
        forced = self.write_json("ids.json", [(tokens[0] + 1) % 400] + tokens[1:4])
        got = self.trace("turns", "--steps=4", f"--force-tokens={forced}")
        self.assertEqual(got["greedy_tokens"][1][0], tokens[0])
        free = self.trace("turns", "--steps=4")
        self.assertEqual(got["greedy_logits"][1][:504], free["greedy_logits"][1][:504])
        self.assertNotEqual(got["greedy_logits"][1][504:1008], free["greedy_logits"][1][504:1008])
        forced = self.write_json("ids.json", tokens)
        got = self.trace("turns", f"--force-tokens={forced}", f"--steps={len(tokens)}")
        self.assert_original(got, "turns")

    def test_has_a_penalty_when_told(self):
        got = self.trace("unicode", "--repetition-penalty=1.05")
        golden = self.cases["unicode"]["greedy_penalty_1.05"]
        sure = next((i for i, margin in enumerate(golden["margins"]) if margin < 1e-3), len(golden["tokens"]))
        self.assertEqual(list(got["greedy_tokens"][1])[:sure], golden["tokens"][:sure])

    def test_reads_tags_as_told(self):
        case = self.cases["tag_text"]
        self.assertEqual(list(self.trace("tag_text")["input_ids"][1]), case["input_ids_tags_as_text"])
        got = self.trace("tag_text", "--tags=tokens")
        self.assertEqual(list(got["input_ids"][1]), case["input_ids"])
        self.assert_original(got, "tag_text")

    def test_repeats_the_original_s_quirks(self):
        got = self.trace("exclamation", "--reference-quirks")
        shape, values = got["greedy_logits"]
        want_shape, want = self.want["exclamation.reference_quirks_logits"]
        self.assertEqual(shape, want_shape)
        self.assertLessEqual(deviation(values, want), TOLERANCE)
        self.assertEqual(list(got["greedy_tokens"][1]), self.cases["exclamation"]["reference_quirks_greedy"]["tokens"])

    def test_takes_a_question_as_chat_does(self):
        out = self.folder / "trace.safetensors"
        self.answer("trace", f"--image={PICTURES / '008-0.png'}", "How many?", f"--out={out}", "--steps=2",
                    "--temperature=2")
        self.assertEqual(read_safetensors(out)["greedy_logits"][0], [2, 504])


if __name__ == "__main__":
    unittest.main()
