#!/usr/bin/env bash
# Installs every package that building, testing and running needs on Debian 12. Idempotent: a second run with nothing
# missing asks no registry. Runs as root, or through sudo.
#
#     tools/install_deps.sh                     # build, tests and run time
#     tools/install_deps.sh --fuzz              # clang's fuzzer run time beside it
#     tools/install_deps.sh --aiperf            # a load tool beside it, in build/aiperf: 1.2 GB
#     tools/install_deps.sh --prometheus=DIR    # only: prometheus and promtool for the tests of deploy/, in DIR/usr/bin
set -euo pipefail

packages=(
  build-essential cmake ninja-build ccache pkg-config git python3 python3-pil python3-pip python3-yaml
  libabsl-dev libgtest-dev libgmock-dev libbenchmark-dev
  libprotobuf-dev protobuf-compiler libgrpc++-dev protobuf-compiler-grpc
  libhwy-dev
  libpcre2-dev libutf8proc-dev nlohmann-json3-dev
  libjpeg-dev libpng-dev libwebp-dev
  libcli11-dev libcurl4-openssl-dev libspdlog-dev libssl-dev libyaml-cpp-dev libisal-dev
  prometheus-cpp-dev libboost1.81-dev
)
[ "${1:-}" = --fuzz ] && packages+=(clang libclang-rt-14-dev)
[ "${1:-}" = --aiperf ] && packages+=(python3-venv)

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }

# apt STEP ARGUMENT...: apt-get with a line of progress every few seconds; its own words only where it fails.
# apt reports "dlstatus:..:PERCENT:.." and "pmstatus:PACKAGE:PERCENT:.." on the descriptor we name.
apt() {
  local step=$1 log status=0 line kind percent=0 what=downloading last=$SECONDS
  shift
  log=$(mktemp)
  {
    # The status needs a descriptor of its own, as apt closes it to packages' scripts; sudo passes on the first three
    # only, so it is opened behind sudo.
    as_root bash -c 'exec 3>&1 1>&2; DEBIAN_FRONTEND=noninteractive exec apt-get "$@"' apt-get "$@" \
      -o APT::Status-Fd=3 -o Dpkg::Use-Pty=0 2>>"$log" </dev/null || echo "failed:$?"
  } | {
    while true; do
      if IFS= read -r -t 3 line; then
        case $line in
          dlstatus:*:*:* | pmstatus:*:*:*)
            IFS=: read -r kind _ percent _ <<<"$line"
            [ "$kind" = dlstatus ] && what=downloading || what=installing ;;
          failed:*) status=${line#failed:} ;;
          *) printf '%s\n' "$line" >>"$log" ;;
        esac
      elif [ $? -le 128 ]; then
        break  # the end of the pipe; a timeout is above 128
      fi
      if [ $((SECONDS - last)) -ge 3 ]; then
        last=$SECONDS
        echo "packages: $step, $what ${percent%.*}/100 %"
      fi
    done
    [ "$status" = 0 ] || { tail -n 40 "$log"; exit "$status"; }
  } || status=$?
  rm -f "$log"
  return "$status"
}

# Unpacked, not installed, as that would start a server on port 9090. 19 MB to fetch, 96 MB on the disk.
if [[ ${1:-} == --prometheus=* ]]; then
  folder=${1#*=}
  [ ! -x "$folder/usr/bin/promtool" ] || exit 0
  fetched=$(mktemp -d)
  trap 'rm -rf "$fetched"' EXIT
  echo "packages: fetching prometheus for the tests of deploy/"
  apt "reading lists" update
  (cd "$fetched" && apt prometheus download prometheus)
  mkdir -p "$folder"
  dpkg-deb -x "$fetched"/prometheus_*.deb "$folder"
  exit 0
fi

# What Debian has not, and only tests use: they are skipped by name where it cannot be had.
python_packages() {
  local folder
  folder="$(dirname "${BASH_SOURCE[0]}")/../build/python"
  [ -e "$folder/openai" ] && return
  timeout 300 python3 -m pip install --quiet --disable-pip-version-check --root-user-action=ignore --retries 1 \
    --timeout 20 --target "$folder" openai >/dev/null 2>&1 || echo "packages: openai cannot be had; its test is skipped"
}

aiperf() {
  local folder
  folder="$(dirname "${BASH_SOURCE[0]}")/../build/aiperf"
  [ -x "$folder/bin/aiperf" ] && return
  echo "packages: fetching aiperf"
  { python3 -m venv "$folder" && timeout 600 "$folder/bin/pip" install --quiet --disable-pip-version-check --retries 1 \
    --timeout 20 aiperf==0.13.0; } >/dev/null 2>&1 || echo "packages: aiperf cannot be had; its test is skipped"
}

from_pypi() {
  python_packages
  [ "$1" != --aiperf ] || aiperf
}

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "packages: all ${#packages[@]} are installed"
  from_pypi "${1:-}"
  exit 0
fi

echo "packages: installing ${#missing[@]} of ${#packages[@]}: ${missing[*]}"
apt "reading lists" update
apt "${#missing[@]} packages" install -y --no-install-recommends "${missing[@]}"
echo "packages: all ${#packages[@]} are installed"
from_pypi "${1:-}"
