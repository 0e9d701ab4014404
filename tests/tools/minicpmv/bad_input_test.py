"""Everything that may be wrong with what comes from outside: an exit status, and one line that names the culprit."""

import json
import resource
import shutil
import signal
import struct
import subprocess
import unittest

from harness import EXECUTABLE, NANO, PICTURES, ExecutableTest, png, run, write_safetensors

PICTURE = PICTURES / "008-0.png"


class BadFlagTest(ExecutableTest):
    def test_names_the_flag(self):
        flags = """
            --temperature=nan --temperature=inf --temperature=-1 --temperature=0
            --temperature=1e9 --temperature=x --top-p=nan --top-p=0 --top-p=1.01 --top-k=-1
            --top-k=1e3 --top-k=99999999999 --repetition-penalty=0 --repetition-penalty=-2
            --repetition-penalty=inf --repetition-penalty=1e9 --min-new-tokens=-1
            --max-new-tokens=0 --max-new-tokens=-1 --max-new-tokens=x --seed=-1 --seed=x
            --seed=18446744073709551616 --max-slices=0 --max-slices=-1 --exif=maybe
            --kv-dtype=f64 --threads=0 --threads=-1 --devices=gpu --devices=cpu,
            --devices=cpu:threads=0 --devices=cuda:0 --devices=cpu,cpu,cpu,cpu,cpu,cpu
            --split=0-2 --split=x --pages=0 --pages=-3 --chunk=0 --depth=0 --step-ms=0
            --step-ms=-1 --max-prompt-tokens=0 --unknown --image= --stop= --model=/absent
            --model=~/absent --image=/absent.png --image=/
        """
        for flag in flags.split():
            self.assert_refused(flag.split("=")[0], "chat", "Hello", flag)

    def test_takes_nothing_else_for_the_value_that_a_flag_lacks(self):
        for flag in ("--stop", "--image", "--system", "--messages", "--model", "--kv-dtype", "--devices", "--split",
                     "--exif", "--threads", "--seed"):
            self.assert_refused(flag, "chat", f"{flag}=", "Hello")
            self.assert_refused(flag, "chat", "Hello", f"{flag}=")
        for subcommand, flag in (("trace", "--out"), ("trace", "--tags"), ("trace", "--force-tokens"),
                                 ("bench", "--batch"), ("inspect", "--model"), ("tokenize", "--model")):
            self.assert_refused(flag, subcommand, f"{flag}=", "--json")

    def test_names_the_flag_of_other_subcommands(self):
        for words, arguments in (("--out", ["trace", "Hello"]), ("--steps", ["trace", "Hello", "--out=x", "--steps=0"]),
                                 ("--tags", ["trace", "Hello", "--out=x", "--tags=maybe"]),
                                 ("--out", ["trace", "Hello", "--out=/absent/x.safetensors"]),
                                 ("--force-tokens", ["trace", "Hello", "--out=x", "--force-tokens=/absent"]),
                                 ("--batch", ["bench", "--batch=0"]), ("--batch", ["bench", "--batch=1,x"]),
                                 ("--tokens", ["bench", "--tokens=0"]), ("--slices", ["bench", "--slices=0"]),
                                 ("--prompt", ["bench", "--prompt=99999"]),
                                 ("--special", ["tokenize", "--special", "--decode"]),
                                 ("--model", ["inspect", "--model=/absent"]),
                                 ("--model", ["tokenize", "--model=/absent"])):
            self.assert_refused(words, *arguments)

    def test_needs_a_subcommand(self):
        self.assert_refused("subcommand")
        self.assert_refused('"sing"', "sing")

    def test_refuses_flags_that_contradict(self):
        self.assert_refused("--messages", "chat", "Hello", "--messages=x.json")
        self.assert_refused("--threads", "chat", "Hello", "--threads=1", "--devices=cpu")
        self.assert_refused("min_new_tokens", "chat", "Hello", "--min-new-tokens=9", "--max-new-tokens=3")

    def test_writes_an_error_on_one_line_whatever_it_names(self):
        self.assert_refused("\\x0a", "chat", "Hello", "--image=/absent\nfile")


class BadQuestionTest(ExecutableTest):
    def test_names_what_is_wrong_with_a_question(self):
        self.assert_refused("standard input", "chat")
        self.assert_refused("message 1", "chat", "")
        self.assert_refused("UTF-8", "chat", b"\xff\xfe".decode("utf-8", "surrogateescape"))
        self.assert_refused("UTF-8", "chat", stdin=b"caf\xe9")
        self.assert_refused("--system", "chat", "Hello", b"--system=\xff".decode("utf-8", "surrogateescape"))
        self.assert_refused("tokens", "chat", "Hello", "--max-prompt-tokens=5")
        self.assert_refused("2048", "chat", stdin=b"many words " * 2000)
        self.assert_refused("tokens", "chat", stdin=b"x" * 10_000_000)
        self.assert_refused("bytes", "chat", stdin=b"x" * 70_000_000)

    def test_names_the_message(self):
        user, system, assistant = ({"role": role, "content": "x"} for role in ("user", "system", "assistant"))
        for words, messages in (("message", []), ("message 1", [assistant]), ("message", [system]),
                                ("message", [user, assistant]), ("message 2", [user, system, user]),
                                ("message 1", [{"role": "robot", "content": "x"}]),
                                ("message 1", [{"role": "user", "content": []}]),
                                ("message 1", [{"role": "user", "content": ""}])):
            path = self.write_json("messages.json", messages)
            self.assert_refused(words, "chat", f"--messages={path}")
        path = self.write_json("messages.json", [system, user])
        self.assert_refused("--system", "chat", f"--messages={path}", "--system=y")

    def test_names_file_and_field_of_a_conversation(self):
        for words, text in (("JSON", "{"), ("JSON", b"\xff"), ("messages", "{}"), ("messages", '{"messages": [3]}'),
                            ("role", '[{"content": "x"}]'), ("content", '[{"role": "user", "content": 3}]'),
                            ("only paths", '[{"role": "user", "content": [{"image": "https://a/b.png"}]}]'),
                            ("absent.png", '[{"role": "user", "content": [{"image": "absent.png"}]}]'),
                            ("messages.json", "[" * 100_000)):
            path = self.write("messages.json", text)
            self.assert_refused(words, "chat", f"--messages={path}")
        self.assert_refused("--messages", "chat", "--messages=/absent.json")
        path = self.write_json("messages.json", [{"role": "user", "content": [{"image": str(PICTURE)}] * 65}])
        self.assert_refused("64", "chat", f"--messages={path}")
        self.assert_refused("64", "chat", "What?", *[f"--image={PICTURE}"] * 65)

    def test_names_what_is_wrong_with_forced_tokens(self):
        for text in ("", "[", "[1.5]", "[-1]", "[504]", '["a"]', "[99999999999999999999]"):
            path = self.write("ids.json", text)
            self.assert_refused("ids.json", "trace", "Hello", f"--out={self.folder / 'x'}", f"--force-tokens={path}")


class BadPictureTest(ExecutableTest):
    def test_names_the_file(self):
        whole = png(20, 20)
        flipped = bytearray(whole)
        flipped[len(flipped) // 2] ^= 0xFF
        for content in (b"", b"\x89PNG", b"plain text", b"<svg xmlns='http://www.w3.org/2000/svg'/>",
                        b"GIF89a" + b"\0" * 50, b"\0\0\0\x18ftypheic" + b"\0" * 50, b"%PDF-1.4", bytes(flipped),
                        png(1, 1, claim=(2**31 - 1, 1)), png(1, 1, claim=(2**31, 2**31)), png(1, 1, claim=(0, 5))):
            path = self.write("bad picture.png", content)
            self.assert_refused("bad picture.png", "chat", "What?", f"--image={path}")
        self.write("bad picture.png", b"\0" * (21 << 20))
        self.assert_refused("bad picture.png", "chat", "What?", f"--image={path}")

    def test_refuses_a_picture_that_is_cut_anywhere(self):
        whole = PICTURE.read_bytes()
        for length in range(0, len(whole) - 12, max(1, len(whole) // 60)):  # 12: the empty last chunk
            path = self.write("cut.png", whole[:length])
            self.assert_refused("cut.png", "chat", "What?", f"--image={path}")

    def test_believes_no_size_before_it_allocates(self):
        path = self.write("huge.png", png(1, 1, claim=(50_000, 50_000)))
        limit = 1 << 30

        def few_bytes():
            resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

        # Sanitizers reserve far more than that.
        options = {} if "asan" in EXECUTABLE or "tsan" in EXECUTABLE else {"preexec_fn": few_bytes}
        self.assert_refused("huge.png", "chat", "What?", f"--image={path}", **options)


class BadModelTest(ExecutableTest):
    """Folders like the nano model's, with one thing wrong."""

    def model(self, **changes):
        """A copy; each change is a file's new content, or None where it goes."""
        folder = self.folder / f"model{len(list(self.folder.iterdir()))}"
        shutil.copytree(NANO / "model", folder)
        for name, content in changes.items():
            path = folder / name.replace("__", "-").replace("_dot_", ".")
            if content is None:
                path.unlink()
            else:
                path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return folder

    def assert_model_refused(self, words, folder):
        self.assert_refused(words, "chat", "Hello", f"--model={folder}", f"--image={PICTURE}")

    def config(self, **fields):
        config = json.loads((NANO / "model" / "config.json").read_text())
        config.update(fields)
        return json.dumps(config)

    def test_names_the_file_that_is_missing(self):
        self.assert_model_refused("config.json", self.model(config_dot_json=None))
        self.assert_model_refused("model.safetensors", self.model(model_dot_safetensors=None))
        folder = self.model(tokenizer_dot_json=None, merges_dot_txt=None)
        self.assert_model_refused("merges.txt", folder)
        empty = self.folder / "empty"
        empty.mkdir()
        self.assert_model_refused("config.json", empty)
        index = json.dumps({"weight_map": {"llm.lm_head.weight": "model-00001-of-00002.safetensors"}})
        folder = self.model(model_dot_safetensors=None)
        (folder / "model.safetensors.index.json").write_text(index)
        self.assert_model_refused("model-00001-of-00002.safetensors", folder)

    def test_names_the_field_of_a_bad_configuration(self):
        self.assert_model_refused("config.json", self.model(config_dot_json="{"))
        self.assert_model_refused("config.json", self.model(config_dot_json=self.config().replace("128", "NaN", 1)))
        self.assert_model_refused("hidden_size", self.model(config_dot_json=self.config(hidden_size=-4)))
        self.assert_model_refused("hidden_size", self.model(config_dot_json=self.config(hidden_size=10**12)))
        self.assert_model_refused("version", self.model(config_dot_json=self.config(version=9.9)))
        self.assert_model_refused("generation_config.json",
                                  self.model(generation_config_dot_json='{"temperature": -1}'))
        self.assert_model_refused("preprocessor_config.json", self.model(preprocessor_config_dot_json="[]"))

    def test_names_the_file_of_bad_weights(self):
        whole = (NANO / "model" / "model.safetensors").read_bytes()
        for content in (b"", whole[:7], whole[:1000], whole[:-1], whole + b"x", b"\xff" * 8 + whole[8:],
                        struct.pack("<Q", 2) + b"{}" + b"x",
                        b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n"):
            self.assert_model_refused("model.safetensors", self.model(model_dot_safetensors=content))

    def test_names_the_tensor_that_does_not_fit(self):
        whole = (NANO / "model" / "model.safetensors").read_bytes()
        (length,) = struct.unpack("<Q", whole[:8])
        header = json.loads(whole[8:8 + length])
        header.pop("__metadata__", None)
        tensors = {}
        for name, entry in header.items():
            begin, end = (8 + length + offset for offset in entry["data_offsets"])
            tensors[name] = (entry["dtype"], entry["shape"], whole[begin:end])
        for name, change in (("llm.model.layers.3.mlp.up_proj.weight", None),
                             ("llm.lm_head.weight", ("shape", [128, 504])),
                             ("llm.model.norm.weight", ("dtype", "I16")), ("vpm.encoder.layers.0.mlp.fc1.weight", None),
                             ("resampler.query", ("shape", [8, 256]))):
            changed = dict(tensors)
            dtype, shape, data = changed[name]
            if change is None:
                del changed[name]
            elif change[0] == "shape":
                changed[name] = (dtype, change[1], data)
            else:
                changed[name] = (change[1], shape, data)
            folder = self.model()
            write_safetensors(folder / "model.safetensors", changed)
            self.assert_model_refused(name, folder)


class FullDiskTest(ExecutableTest):
    """A file may not grow beyond this, which to whoever writes it is a disk that is full."""

    LIMIT = 4096

    def full(self):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (self.LIMIT, self.LIMIT))

    def test_says_that_an_output_cannot_be_written(self):
        out = self.folder / "out.safetensors"
        self.assert_refused("out.safetensors", "trace", "Hello", f"--out={out}", preexec_fn=self.full)
        self.assertEqual(list(self.folder.iterdir()), [])

    def test_says_that_standard_output_is_full(self):
        with open("/dev/full", "wb") as full:
            done = subprocess.run([EXECUTABLE, "chat", "Who are you?"], stdin=subprocess.DEVNULL, stdout=full,
                                  stderr=subprocess.PIPE, timeout=100)
        self.assertEqual(done.returncode, 1)
        self.assertRegex(done.stderr.decode(), r"\Aminicpmv: [^\n]*standard output[^\n]*\n\Z")

    def test_answers_though_its_trace_cannot_be_written(self):
        question = ("chat", "--json", "--greedy", f"--image={PICTURE}", "How many diamonds are there?")
        done = run(*question, f"--trace={self.folder / 'trace.json'}", preexec_fn=self.full)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertEqual(json.loads(done.stdout)["text"], json.loads(run(*question).stdout)["text"])


class BadLineTest(ExecutableTest):
    def test_names_the_line(self):
        for flags, text in (([], b'"fine"\n"open\n'), ([], b'"fine"\n3\n'), ([], b'"fine"\n"\xff"\n'),
                            ([], b'"fine"\n\n'), (["--decode"], b"[1]\n[1.5]\n"),
                            (["--decode"], b"[1]\n[-1]\n"), (["--decode"], b"[1]\n[99999]\n"),
                            (["--decode"], b"[1]\n1\n"), (["--decode"], b'[1]\n[18446744073709551616]\n')):
            done = run("tokenize", *flags, stdin=text)
            self.assertEqual(done.returncode, 2, text)
            self.assertIn("line 2", done.stderr.decode())
            self.assertEqual(done.stderr.count(b"\n"), 1)
            self.assertEqual(done.stdout.count(b"\n"), 1)


if __name__ == "__main__":
    unittest.main()
