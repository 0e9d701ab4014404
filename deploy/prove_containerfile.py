#!/usr/bin/env python3
"""Performs deploy/Containerfile without a container engine: every FROM is a bare Debian root made by mmdebstrap, every RUN
and COPY happens there, and what comes out answers as the image would: not as root, healthy, without a compiler.

    sudo deploy/prove_containerfile.py                  # needs mmdebstrap and 3 GB in the folder for temporary files
    sudo deploy/prove_containerfile.py --keep           # leaves the image's root where it says
    sudo deploy/prove_containerfile.py --ccache=DIR     # a compiler cache there: the next time is quick

The steps are read from the Containerfile, so that the two cannot differ; an instruction that this does not know is an
error. The status is 0 where all went well.
"""
import argparse
import contextlib
import json
import os
import pathlib
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
CONTAINERFILE = ROOT / "deploy" / "Containerfile"
# An image's name and the mmdebstrap suite that stands for it.
SUITES = {"debian:bookworm-slim": "bookworm"}
# What an image tells of itself and no step needs.
DECLARATIONS = ("EXPOSE", "STOPSIGNAL", "LABEL")
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ADMIN = "127.0.0.1:9464"
PATIENCE = 60  # seconds until the image has to answer


class Stage:
    """A root and what the instructions so far said about processes in it."""

    def __init__(self, folder, base, ccache):
        self.folder, self.base, self.ccache = folder, base, ccache
        self.workdir, self.user = "/", "0"
        self.environment = {"PATH": PATH, "HOME": "/root"}
        self.entrypoint, self.command, self.health = [], [], []

    def inside(self, path):
        return self.folder / os.path.normpath(os.path.join(self.workdir, path)).lstrip("/")

    def wrap(self, command, **environment):
        """The command as a process of this root; what is mounted for it ends with it."""
        mounts = 'mount --rbind /dev "$0/dev" && mount -t proc proc "$0/proc" && '
        if self.ccache:
            cache = self.folder / "var" / "cache" / "ccache"
            cache.mkdir(exist_ok=True)
            mounts += shlex.join(["mount", "--bind", str(self.ccache), str(cache)]) + " && "
            environment["CCACHE_DIR"] = "/var/cache/ccache"
        # chroot's --userspec takes a number or a name of the outer system: 10001 has to be a number.
        return ["unshare", "--mount", "--pid", "--fork", "--kill-child", "sh", "-c", mounts + 'exec "$@"', str(self.folder),
                "chroot", f"--userspec={self.user}:{self.user}", str(self.folder), "/usr/bin/env", "-i",
                *(f"{name}={value}" for name, value in {**self.environment, **environment}.items()),
                "/bin/sh", "-c", 'cd "$0" && exec "$@"', self.workdir, *command]


def read_instructions(text):
    """[(line number, INSTRUCTION, rest)]; comments and continued lines as container engines read them."""
    found, begun, first = [], "", 0
    for number, line in enumerate(text.splitlines(), 1):
        if line.lstrip().startswith("#") or not line.strip():
            continue
        first = first if begun else number
        begun += line.rstrip().removesuffix("\\")
        if not line.rstrip().endswith("\\"):
            name, _, rest = begun.strip().partition(" ")
            found.append((first, name.upper(), rest.strip()))
            begun = ""
    if begun:
        raise ValueError(f"line {first}: is never finished")
    return found


def words_of(rest):
    """A command in either form: a JSON list, or words for a shell."""
    return json.loads(rest) if rest.startswith("[") else ["/bin/sh", "-c", rest]


def copy(stage, stages, rest):
    words = shlex.split(rest)
    source = ROOT
    if words[0].startswith("--from="):
        source = stages[words.pop(0).removeprefix("--from=")].folder
    if any(word.startswith("--") for word in words):
        raise ValueError(f"COPY {rest}: a flag that this does not know")
    *names, target = words
    place = stage.inside(target)
    for name in names:
        origin = source / name.lstrip("/")
        if origin.is_dir():  # what is in it, not itself
            place.mkdir(parents=True, exist_ok=True)
            subprocess.run(["cp", "-a", f"{origin}/.", place], check=True)
        else:
            to_folder = target.endswith("/") or len(names) > 1
            (place if to_folder else place.parent).mkdir(parents=True, exist_ok=True)
            shutil.copy2(origin, place)
    # Whoever the files belong to outside, in an image they are root's.
    if source == ROOT:
        subprocess.run(["chown", "-R", "0:0", place], check=True)


def perform(stage, stages, name, rest):
    if name == "WORKDIR":
        stage.workdir = os.path.join(stage.workdir, rest)
        stage.inside(".").mkdir(parents=True, exist_ok=True)
    elif name == "COPY":
        copy(stage, stages, rest)
    elif name == "RUN":
        subprocess.run(stage.wrap(words_of(rest)), check=True)
    elif name == "USER":
        stage.user = rest
    elif name == "ENV":
        stage.environment.update(word.split("=", 1) for word in shlex.split(rest))
    elif name == "ENTRYPOINT":
        stage.entrypoint = words_of(rest)
    elif name == "CMD":
        stage.command = words_of(rest)
    elif name == "HEALTHCHECK":
        stage.health = words_of(rest.partition("CMD ")[2])
    elif name not in DECLARATIONS:
        raise ValueError(f"{name}: an instruction that this does not know")


def make_base(folder, image):
    """The bare root, made once."""
    base = folder / image.replace(":", "-")
    if not base.exists():
        subprocess.run(["mmdebstrap", "--variant=minbase", "--components=main", SUITES[image], base],
                       check=True)
        shutil.copy("/etc/resolv.conf", base / "etc" / "resolv.conf")
    return base


def build(folder, ccache):
    """The last stage."""
    stages, stage = {}, None
    for number, name, rest in read_instructions(CONTAINERFILE.read_text()):
        print(f"line {number}: {name} {rest}", flush=True)
        begin = time.monotonic()
        try:
            if name == "FROM":
                image, _, as_name = rest.partition(" AS ")
                base = make_base(folder, image)
                stage = Stage(folder / (as_name or "image"), base, ccache if as_name else None)
                subprocess.run(["cp", "-a", "--reflink=auto", base, stage.folder], check=True)
                stages[as_name] = stage
            else:
                perform(stage, stages, name, rest)
        except (ValueError, KeyError, OSError, subprocess.CalledProcessError) as error:
            sys.exit(f"line {number}: {error}")
        print(f"line {number}: done after {time.monotonic() - begin:.0f} s", flush=True)
    return stage


def read_line(process):
    """The next line that it says, in time."""
    if not select.select([process.stdout], [], [], PATIENCE)[0]:
        sys.exit(f"{process.args}: says nothing for {PATIENCE} s")
    return process.stdout.readline().strip()


def run(image, *arguments, **environment):
    return subprocess.run(image.wrap([*image.entrypoint, *arguments], **environment), capture_output=True, text=True,
                          timeout=PATIENCE)


def expect(fact, is_true, shown=""):
    print(f"{'proved' if is_true else 'NOT SO'}: {fact}", flush=True)
    if not is_true:
        sys.exit(f"{fact}: {shown}")


def prove(image):
    helped = run(image, *image.command)
    expect("what it does without arguments is to show its help", "Usage: minicpmv" in helped.stdout, helped)
    who = subprocess.run(image.wrap(["id", "-u"]), capture_output=True, text=True)
    expect("its user is not root", who.stdout.strip() not in ("0", ""), who)
    absent = subprocess.run(image.wrap(["sh", "-c", "! command -v g++ cc cmake git python3"]), capture_output=True, text=True)
    expect("no compiler, build tool or Python is in it", absent.returncode == 0, absent)

    process = subprocess.Popen(image.wrap([*image.entrypoint, "serve", "--listen=127.0.0.1:0"], MINICPMV_ADMIN_LISTEN=ADMIN),
                               stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, text=True, start_new_session=True)
    try:
        match = re.fullmatch(r"ready serve (\S+) admin=\S+", read_line(process))
        expect("serve is ready", match, match)
        health = subprocess.run(image.wrap(image.health, MINICPMV_ADMIN_LISTEN=ADMIN), capture_output=True, text=True)
        expect("its health check says so", health.returncode == 0, health)
        answer = run(image, "chat", f"--server={match.group(1)}", "Who are you?")
        expect("it answers", "nano" in answer.stdout, answer)
        os.killpg(process.pid, signal.SIGTERM)
        expect("it stops when it is told", process.wait(PATIENCE) == 0, process.returncode)
    finally:
        # All of them, as who has become another user is not killed along with unshare.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate(timeout=PATIENCE)
    health = subprocess.run(image.wrap(image.health, MINICPMV_ADMIN_LISTEN=ADMIN), capture_output=True, text=True)
    expect("without the process it is not healthy", health.returncode != 0, health)


def megabytes(folder):
    return int(subprocess.run(["du", "-sxm", folder], check=True, capture_output=True, text=True).stdout.split()[0])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", action="store_true", help="leave the image's root")
    parser.add_argument("--ccache", type=pathlib.Path, metavar="DIR", help="a compiler cache for what is built")
    flags = parser.parse_args()
    if os.geteuid() != 0 or not shutil.which("mmdebstrap"):
        sys.exit("prove_containerfile.py: has to be root, and needs mmdebstrap")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("prove_containerfile.py: stopped"))  # and leaves nothing
    with tempfile.TemporaryDirectory(prefix="minicpmv-image-") as name:
        folder = pathlib.Path(name)
        folder.chmod(0o755)  # the image's user has to get in
        image = build(folder, flags.ccache and flags.ccache.resolve())
        prove(image)
        print(f"the image: {megabytes(image.folder)} MB, {megabytes(image.base)} MB of them the bare Debian")
        if flags.keep:
            kept = pathlib.Path(tempfile.mkdtemp(prefix="minicpmv-kept-image-"))
            shutil.move(image.folder, kept / "root")
            print(f"it lies in {kept / 'root'}")


if __name__ == "__main__":
    main()
