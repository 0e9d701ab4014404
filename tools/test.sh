#!/usr/bin/env bash
# Installs what is missing, builds everything and runs every test.
#
#     tools/test.sh              # optimised, in build/
#     tools/test.sh asan         # another preset of CMakePresets.json: asan, tsan
#     tools/test.sh cpu -R Pool  # what follows the preset goes to ctest
#
# At the end every skipped test is listed with its reason. The last line is "N passed, N failed, N skipped".
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

preset=${1:-cpu}
shift $(($# > 0))
case $preset in
  cpu) folder=build ;;
  asan | tsan) folder=build-$preset ;;
  *) echo "test.sh: preset $preset has no tests: cpu, asan or tsan" >&2; exit 2 ;;
esac

tools/install_deps.sh
log=$(mktemp)
echo "configure: preset $preset in $folder/"
cmake --preset "$preset" >"$log" 2>&1 || { cat "$log"; exit 1; }
rm -f "$log"
tools/install_deps.sh --prometheus="$folder/prometheus" ||
  echo "packages: without promtool some tests of deploy/ are skipped"
tools/progress.py build -- ninja -C "$folder"

results=$PWD/$folder/tests.xml
rm -f "$results"
status=0
tools/progress.py tests -- ctest --preset "$preset" -j"$(nproc)" --output-junit "$results" "$@" || status=$?
tools/report_tests.py "$results" || status=1
exit "$status"
