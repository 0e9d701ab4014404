#!/usr/bin/env python3
"""Checks that every folder includes only folders on floors under its own, and that the three walls stand.

    tools/check_floors.py [ROOT]

Reads the include lines of proto/, runtime/, services/ and tools/ and the import lines of proto/. Prints each violation
as FILE:LINE: what is wrong; the exit status is 1 where there is one.
"""
import re
import sys
from pathlib import Path

# Rooms on one floor do not see each other. "runtime/kernels" stands for all that is under it.
FLOORS = {
    "tools/minicpmv": 9,
    "services/router": 8, "services/vision": 8, "services/prefill": 8, "services/decode": 8, "services/gateway": 8,
    "services/common": 7, "tools/sdk": 7,
    "proto": 6, "runtime/engine": 6,
    "runtime/model": 5,
    "runtime/kv": 4,
    "runtime/kernels": 3, "runtime/checkpoint": 3, "runtime/link": 3, "runtime/text": 3, "runtime/media": 3,
    "runtime/tensor": 2,
    "runtime/device": 1,
    "runtime/base": 0,
}
OTHER_TOOLS_FLOOR = 9  # benchmarks and the like: above everything, seen by nobody
ONLY = {"tools/sdk": {"proto"}}  # rooms that see less than their floor allows
ROOTS = ("proto", "runtime", "services", "tools")
SOURCES = {".h", ".cc", ".cu", ".cuh", ".inc"}

INCLUDE = re.compile(r'\s*#\s*include\s*([<"])([^>"]+)[>"]')
IMPORT = re.compile(r'\s*import\s+(?:public\s+|weak\s+)?"([^"]+)"\s*;')
DEVICE_CONDITION = re.compile(r"\s*#\s*(?:if|ifdef|ifndef|elif)\b.*(?:CUDA|NCCL|CUBLAS)")

GENERATED = re.compile(r"\.pb\.h$")
RPC_HEADER = re.compile(r"^(?:grpc|grpcpp|grpc\+\+|google/protobuf)/|\.pb\.h$")
RPC_MIN_FLOOR = 7
DEVICE_HEADER = re.compile(
    r"^(?:cuda[^/]*\.h|cuda/.*|cub/.*|thrust/.*|cublas[^/]*\.h|curand[^/]*\.h|nvml\.h|nvtx3?/.*|nccl[^/]*\.h|mma\.h|"
    r"device_launch_parameters\.h|driver_types\.h|vector_types\.h|cooperative_groups.*)$")
DEVICE_ROOMS = ("runtime/device/", "runtime/kernels/cuda/", "runtime/link/")

PUBLIC_AREA, SHARED_AREA = "chat", "common"


def room_of(path):
    """The room that a path from the root belongs to, or None where no floor is known."""
    parts = path.split("/")
    if parts[0] == "proto":
        return "proto"
    room = "/".join(parts[:2])
    if room in FLOORS:
        return room
    return "tools" if parts[0] == "tools" else None


def floor_of(room):
    return FLOORS.get(room, OTHER_TOOLS_FLOOR)


def check_include(path, quoted, target, exists):
    """What is wrong with one include line of the file `path`, or None."""
    room = room_of(path)
    if room is None:
        return f"no floor is known for {'/'.join(path.split('/')[:2])}: give it one in tools/check_floors.py"
    if RPC_HEADER.search(target) and room != "proto" and floor_of(room) < RPC_MIN_FLOOR:
        return f"{target}: gRPC and protobuf are seen by proto/ and floors {RPC_MIN_FLOOR} to 9 only"
    if DEVICE_HEADER.match(target):
        if not path.startswith(DEVICE_ROOMS) or Path(path).suffix not in (".cc", ".cu"):
            return f"{target}: CUDA and NCCL headers stay in .cc and .cu files of {', '.join(DEVICE_ROOMS)}"
        return None
    if GENERATED.search(target):
        seen = "proto"
    elif target.split("/")[0] in ROOTS and quoted:
        seen = room_of(target)
        if seen is None:
            return f"{target}: no floor is known for it"
    elif target.startswith("tests/"):
        return f"{target}: tests are not seen from outside tests/"
    else:
        if quoted and exists(str(Path(path).parent / target)):
            return f"{target}: includes start at the repository root"
        return None
    if seen == room:
        return None
    if seen not in ONLY.get(room, {seen}):
        return f"{target}: {room} sees {', '.join(sorted(ONLY[room]))} only"
    if floor_of(seen) >= floor_of(room):
        return f"{target}: {room} is on floor {floor_of(room)} and may not see {seen} on floor {floor_of(seen)}"
    return None


def area_of(proto_path):
    """The area of a path from the import root: "minicpmv/chat/v1/x.proto" is of chat."""
    parts = proto_path.split("/")
    return parts[1] if parts[0] == "minicpmv" and len(parts) > 2 else None


def check_import(path, target):
    """What is wrong with one import line of the proto file `path`, or None."""
    own, seen = area_of(path[len("proto/"):]), area_of(target)
    if target.startswith("google/protobuf/") or (own and own == seen):
        return None
    if own == PUBLIC_AREA:
        return f"{target}: minicpmv.{PUBLIC_AREA} is public and imports no internal package"
    if own == SHARED_AREA or seen != SHARED_AREA:
        return f"{target}: an area imports itself, {SHARED_AREA} and google.protobuf only"
    return None


def check_file(root, path):
    """All violations of one file, each (line number, text)."""
    is_proto = path.endswith(".proto")
    exists = lambda relative: (root / relative).is_file()
    for number, line in enumerate((root / path).read_text(errors="replace").splitlines(), 1):
        wrong = None
        if is_proto:
            if match := IMPORT.match(line):
                wrong = check_import(path, match.group(1))
        elif match := INCLUDE.match(line):
            wrong = check_include(path, match.group(1) == '"', match.group(2), exists)
        elif DEVICE_CONDITION.match(line) and not path.startswith(DEVICE_ROOMS):
            wrong = "no #if about a device: what a build leaves out is an *_absent.cc"
        if wrong:
            yield number, wrong


def check_tree(root):
    """All violations under `root`, as lines of text, and the number of files read."""
    files = sorted(
        str(file.relative_to(root))
        for top in ROOTS for file in (root / top).rglob("*")
        if file.is_file() and (file.suffix in SOURCES or (top == "proto" and file.suffix == ".proto")))
    return [f"{path}:{number}: {wrong}" for path in files for number, wrong in check_file(root, path)], len(files)


def main():
    if len(sys.argv) > 2:
        sys.exit(__doc__)
    root = Path(sys.argv[1] if len(sys.argv) == 2 else Path(__file__).resolve().parent.parent)
    violations, files = check_tree(root)
    print("\n".join(violations + [f"{files} files read, {len(violations)} violations"]))
    sys.exit(1 if violations or not files else 0)


if __name__ == "__main__":
    main()
