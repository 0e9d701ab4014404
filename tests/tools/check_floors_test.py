"""The floor check finds what it is there to find, in small trees made for the purpose."""
import pathlib
import sys
import tempfile
import unittest

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / "tools"))
import check_floors  # noqa: E402


class CheckFloorsTest(unittest.TestCase):
    def violations(self, **files):
        """What is wrong with a tree of the given files; "__" stands for "/", the last "_" for the dot."""
        with tempfile.TemporaryDirectory() as folder:
            root = pathlib.Path(folder)
            for name, text in files.items():
                path = root / ".".join(name.replace("__", "/").rsplit("_", 1))
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text(text)
            return check_floors.check_tree(root)[0]

    def assert_one(self, violations, start, words):
        self.assertEqual(len(violations), 1, violations)
        self.assertTrue(violations[0].startswith(start), violations[0])
        self.assertIn(words, violations[0])

    def test_allows_lower_floors_own_room_and_libraries(self):
        self.assertEqual([], self.violations(
            runtime__engine__engine_cc='#include "runtime/engine/plan.h"\n#include "runtime/kv/page_pool.h"\n'
                                       '#include <vector>\n#include "absl/status/status.h"\n'
                                       '#include "runtime/base/check.h"\n',
            services__router__flow_cc='#include <grpcpp/grpcpp.h>\n#include "services/common/calls.h"\n'
                                      '#include "minicpmv/chat/v1/chat_service.pb.h"\n',
            runtime__kernels__cuda__gemm_cu="#include <cuda_runtime.h>\n"))

    def test_finds_a_folder_that_reaches_up(self):
        self.assert_one(
            self.violations(runtime__kv__pool_h='// pages\n#include "runtime/engine/sequence.h"\n'),
            "runtime/kv/pool.h:2:", "may not see runtime/engine on floor 6")

    def test_finds_two_rooms_of_one_floor(self):
        self.assert_one(
            self.violations(runtime__text__a_cc='#include "runtime/media/image.h"\n'),
            "runtime/text/a.cc:1:", "may not see runtime/media")
        self.assert_one(
            self.violations(runtime__engine__a_cc='#include "proto/x.h"\n'), "runtime/engine/a.cc:1:", "may not see proto")

    def test_finds_grpc_and_protobuf_below_their_floors(self):
        for header in ("<grpcpp/grpcpp.h>", '"google/protobuf/message.h"', '"minicpmv/chat/v1/chat_service.pb.h"'):
            self.assert_one(self.violations(runtime__link__host_cc=f"#include {header}\n"),
                            "runtime/link/host.cc:1:", "gRPC and protobuf")

    def test_finds_cuda_outside_its_sources(self):
        for path in ("runtime__model__layer_cc", "runtime__device__cuda_h"):
            self.assertEqual(1, len(self.violations(**{path: "#include <cuda_runtime_api.h>\n"})), path)
        self.assertEqual([], self.violations(runtime__device__cuda_cc="#include <cuda_runtime_api.h>\n"))

    def test_finds_a_condition_about_a_device(self):
        self.assert_one(self.violations(runtime__engine__a_cc="#ifdef MINICPMV_CUDA\n"),
                        "runtime/engine/a.cc:1:", "_absent.cc")

    def test_finds_a_public_proto_that_imports_an_internal_one(self):
        self.assert_one(
            self.violations(proto__minicpmv__chat__v1__chat_proto='import "minicpmv/common/v1/span.proto";\n'),
            "proto/minicpmv/chat/v1/chat.proto:1:", "public")

    def test_finds_areas_that_import_each_other(self):
        self.assert_one(
            self.violations(proto__minicpmv__decode__v1__a_proto='import "minicpmv/vision/v1/b.proto";\n'
                                                                 'import "minicpmv/common/v1/span.proto";\n'
                                                                 'import "google/protobuf/duration.proto";\n'),
            "proto/minicpmv/decode/v1/a.proto:1:", "an area imports itself")

    def test_finds_an_include_that_does_not_start_at_the_root(self):
        self.assert_one(
            self.violations(runtime__kv__a_cc='#include "b.h"\n', runtime__kv__b_h=""),
            "runtime/kv/a.cc:1:", "start at the repository root")

    def test_finds_a_folder_without_a_floor(self):
        self.assert_one(self.violations(runtime__attic__a_cc="#include <vector>\n"), "runtime/attic/a.cc:1:", "no floor")

    def test_finds_an_sdk_that_sees_more_than_protos(self):
        self.assert_one(self.violations(tools__sdk__cpp__client_cc='#include "runtime/base/check.h"\n'),
                        "tools/sdk/cpp/client.cc:1:", "sees proto only")


if __name__ == "__main__":
    unittest.main()
