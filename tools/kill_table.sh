#!/usr/bin/env bash
# Every role of worker is killed, and frozen, at every point of a request, with several seeds, and the answers are held
# against those of one process (tests/cluster/kill_table_test.py). Takes a built executable:
#
#   tools/kill_table.sh [SEEDS [FREEZE_SECONDS]]        5 seeds and 10 seconds unless told
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
export MINICPMV_TABLE_SEEDS=${1:-5} MINICPMV_TABLE_FREEZE=${2:-10}
export MINICPMV_EXECUTABLE=${MINICPMV_EXECUTABLE:-$PWD/build/bin/minicpmv}
exec /usr/bin/python3 tests/cluster/kill_table_test.py -v
