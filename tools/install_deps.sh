#!/usr/bin/env bash
# Installs every package that building, testing and running needs on Debian 12. Idempotent: a second run with nothing
# missing asks no registry. Runs as root, or through sudo.
#
#     tools/install_deps.sh            # build, tests and run time
#     tools/install_deps.sh --fuzz     # clang's fuzzer run time beside it
set -euo pipefail

packages=(
  build-essential cmake ninja-build ccache pkg-config git python3 python3-pil
  libabsl-dev libgtest-dev libgmock-dev libbenchmark-dev
  libprotobuf-dev protobuf-compiler libgrpc++-dev protobuf-compiler-grpc
  libhwy-dev
  libpcre2-dev libutf8proc-dev nlohmann-json3-dev
  libjpeg-dev libpng-dev libwebp-dev
  libcli11-dev libspdlog-dev libssl-dev
)
[ "${1:-}" = --fuzz ] && packages+=(clang libclang-rt-14-dev)

missing=()
for package in "${packages[@]}"; do
  [ "$(dpkg-query -W -f='${db:Status-Status}' "$package" 2>/dev/null)" = installed ] || missing+=("$package")
done
if [ ${#missing[@]} -eq 0 ]; then
  echo "packages: all ${#packages[@]} are installed"
  exit 0
fi

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo "$@"; fi; }
echo "packages: installing ${#missing[@]} of ${#packages[@]}: ${missing[*]}"
as_root apt-get update -qq
# Dpkg::Progress-Fancy is for terminals; plain lines show the progress everywhere.
as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y --no-install-recommends "${missing[@]}"
