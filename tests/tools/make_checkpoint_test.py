"""tools/make_checkpoint writes folders whose files add up."""
import json
import math
import pathlib
import struct
import subprocess
import sys
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parents[2]
TOOL = ROOT / "tools" / "make_checkpoint"
BYTES = {"BF16": 2, "F16": 2, "F32": 4}


def run(*arguments):
    return subprocess.run([sys.executable, "-B", str(TOOL), *map(str, arguments)], capture_output=True, text=True)


def read_safetensors(path):
    """The header's tensors, by name, and the data after it; fails where offsets do not add up."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    tensors = json.loads(content[8:8 + size])
    tensors.pop("__metadata__", None)
    data, end = content[8 + size:], 0
    for name, tensor in sorted(tensors.items(), key=lambda item: item[1]["data_offsets"]):
        first, last = tensor["data_offsets"]
        assert first == end, f"{name} begins at {first}, not at {end}"
        assert last - first == math.prod(tensor["shape"]) * BYTES[tensor["dtype"]], name
        end = last
    assert end == len(data), f"{path.name} holds {len(data)} bytes, its header {end}"
    return tensors, data


class MakeCheckpointTest(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.out = pathlib.Path(folder.name) / "checkpoint"

    def make(self, *arguments):
        result = run(self.out, *arguments)
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout

    def test_writes_one_file_whose_header_adds_up(self):
        self.make("--shape=nano", "--layers=1")
        tensors, data = read_safetensors(self.out / "model.safetensors")
        self.assertEqual(tensors["llm.lm_head.weight"]["shape"], [504, 128])
        self.assertIn("llm.model.layers.0.mlp.up_proj.weight", tensors)
        self.assertNotIn("llm.model.layers.1.mlp.up_proj.weight", tensors)
        self.assertFalse((self.out / "model.safetensors.index.json").exists())
        config = json.loads((self.out / "config.json").read_text())
        self.assertEqual((config["num_hidden_layers"], config["torch_dtype"]), (1, "bfloat16"))
        for name in ("preprocessor_config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"):
            json.loads((self.out / name).read_text())

    def test_draws_values_of_the_stated_deviation(self):
        self.make("--shape=nano", "--layers=1", "--vision-layers=1", "--dtype=f32")
        tensors, data = read_safetensors(self.out / "model.safetensors")

        def values(name):
            first, last = tensors[name]["data_offsets"]
            return struct.unpack(f"<{(last - first) // 4}f", data[first:last])

        up = values("llm.model.layers.0.mlp.up_proj.weight")
        self.assertAlmostEqual(math.sqrt(sum(v * v for v in up) / len(up)) * math.sqrt(128), 1, delta=.02)
        norm = values("llm.model.norm.weight")
        self.assertAlmostEqual(sum(norm) / len(norm), 1, delta=.02)
        head = values("llm.lm_head.weight")
        loud, quiet = head[:486 * 128], head[486 * 128:]  # ordinary tokens, special tokens
        self.assertGreater(max(map(abs, loud)), 5 * max(map(abs, quiet)))

    def test_splits_into_shards_that_the_index_names(self):
        self.make("--shape=nano", "--shard-bytes=1000000")
        index = json.loads((self.out / "model.safetensors.index.json").read_text())
        files = sorted(path.name for path in self.out.glob("*.safetensors"))
        self.assertEqual(files, [f"model-{n:05d}-of-00004.safetensors" for n in (1, 2, 3, 4)])
        total, found = 0, {}
        for file in files:
            tensors, data = read_safetensors(self.out / file)
            total += len(data)
            found.update(dict.fromkeys(tensors, file))
        self.assertEqual(index["weight_map"], found)
        self.assertEqual(index["metadata"]["total_size"], total)

    def test_repeats_itself_for_one_seed_only(self):
        contents = []
        for seed in (1, 1, 2):
            self.out = self.out.with_name(f"checkpoint-{len(contents)}")
            self.make("--shape=nano", "--layers=1", "--vision-layers=1", f"--seed={seed}")
            contents.append((self.out / "model.safetensors").read_bytes())
        self.assertEqual(contents[0], contents[1])
        self.assertNotEqual(contents[0], contents[2])

    def test_names_the_tensors_of_the_nano_model(self):
        tensors, _ = read_safetensors(ROOT / "tools/nano/model/model.safetensors")
        wanted = sorted(f"{name} {tensor['dtype']} {tensor['shape']}" for name, tensor in tensors.items())
        self.assertEqual(sorted(run("--list", "--shape=nano").stdout.splitlines()[:-1]), wanted)

    def test_has_the_size_of_the_published_model(self):
        last = run("--list", "--shape=2.6").stdout.splitlines()[-1]
        self.assertEqual(last, "789 tensors, 16198350304 bytes")

    def test_refuses_what_cannot_be(self):
        for arguments, words in (
                (["--shape=nano", "--heads=3"], "--heads"), (["--shape=nano", "--layers=0"], "--layers"),
                (["--shape=nano", "--vocab=100"], "--vocab"), (["--shape=2.6", "--hidden=200"], "--hidden")):
            result = run(self.out, *arguments)
            self.assertEqual(result.returncode, 2)
            self.assertIn(words, result.stderr)
        self.out.mkdir()
        (self.out / "mine").write_text("")
        result = run(self.out, "--shape=nano")
        self.assertEqual(result.returncode, 2)
        self.assertIn("not empty", result.stderr)


if __name__ == "__main__":
    unittest.main()
