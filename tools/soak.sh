#!/usr/bin/env bash
# Mixed questions to a cluster of two workers of each role, one of them killed every so often; every text is held against
# the one of one process, and memory has to stay flat (tests/cluster/soak_test.py). Takes a built executable:
#
#   tools/soak.sh [SECONDS [KILL_EVERY]]        30 minutes and 20 seconds unless told
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export MINICPMV_SOAK_SECONDS=${1:-1800} MINICPMV_SOAK_KILL_EVERY=${2:-20}
export MINICPMV_EXECUTABLE=${MINICPMV_EXECUTABLE:-$PWD/build/bin/minicpmv}
exec /usr/bin/python3 tests/cluster/soak_test.py -v
