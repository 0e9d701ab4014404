"""The subcommands tokenize and inspect."""

import json
import shutil
import subprocess
import unittest

from harness import EXECUTABLE, GOLDENS, NANO, ExecutableTest


class TokenizeTest(ExecutableTest):
    def test_turns_lines_into_ids_and_back(self):
        texts = ["What is it?", "", "ü 尺寸 🙂\n", "<box>", "!", '"quoted" \\ \u0000', "e\u0301"]
        lines = "".join(json.dumps(text) + "\n" for text in texts)
        ids = self.answer("tokenize", stdin=lines.encode())
        self.assertEqual(ids.count("\n"), len(texts))
        back = self.answer("tokenize", "--decode", stdin=ids.encode())
        self.assertEqual([json.loads(line) for line in back.splitlines()], texts[:-1] + ["\u00e9"])  # NFC

    def test_takes_a_last_line_without_a_line_feed(self):
        self.assertEqual(self.answer("tokenize", stdin=b'"!"'), "[0]\n")

    def test_reads_tags_as_tokens_when_told(self):
        self.assertGreater(len(json.loads(self.answer("tokenize", stdin=b'"<box>"'))), 1)
        self.assertEqual(len(json.loads(self.answer("tokenize", "--special", stdin=b'"<box>"'))), 1)

    def test_writes_broken_characters_as_replacements(self):
        ids = json.loads(self.answer("tokenize", stdin='"ü"'.encode()))
        self.assertEqual(json.loads(self.answer("tokenize", "--decode", stdin=json.dumps(ids[:1]).encode())), "\ufffd")

    def test_needs_the_tokenizers_files_only(self):
        folder = self.folder / "model"
        folder.mkdir()
        for name in ("vocab.json", "merges.txt", "added_tokens.json", "tokenizer_config.json"):
            shutil.copy(NANO / "model" / name, folder)
        whole = self.answer("tokenize", stdin=b'"What is it? 12"')
        self.assertEqual(self.answer("tokenize", f"--model={folder}", stdin=b'"What is it? 12"'), whole)


class InspectTest(ExecutableTest):
    def test_says_what_a_folder_holds(self):
        text = self.answer("inspect")
        for words in ("MiniCPM-V 2.6", "bf16", "5 layers", "width 128", "context 2048", "vision tower",
                      "resampler", "memory", "tensors (145)", "llm.model.layers.4.mlp.down_proj.weight", "[128, 384]"):
            self.assertIn(words, text)

    def test_reads_folders_of_several_shards(self):
        text = self.answer("inspect", "-m", GOLDENS / "v26-mini-bf16" / "checkpoint")
        self.assertIn("resampler.query", text)


class HelpTest(ExecutableTest):
    def test_shows_examples_everywhere(self):
        self.assertIn("Examples:", self.answer("--help"))
        for name in ("chat", "trace", "tokenize", "inspect", "bench"):
            text = self.answer(name, "--help")
            self.assertIn("Examples:", text)
            self.assertIn("--model", text)
        self.assertTrue(self.answer("--version").startswith("minicpmv "))

    def test_finds_no_model_where_none_lies_beside_it(self):
        alone = self.folder / "minicpmv"
        shutil.copy(EXECUTABLE, alone)
        done = subprocess.run([alone, "inspect"], capture_output=True)
        self.assertEqual(done.returncode, 2)
        self.assertIn(b"--model", done.stderr)
        (self.folder / "nano").symlink_to(NANO / "model")
        self.assertEqual(subprocess.run([alone, "inspect"], capture_output=True).returncode, 0)


if __name__ == "__main__":
    unittest.main()
