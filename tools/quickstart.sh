#!/usr/bin/env bash
# From a fresh Debian 12 machine to right answers about pictures: installs what is missing, builds the executable, starts
# router, vision, prefill and decode as processes of this machine and asks the nano model about two pictures that ship
# with the project and one that is drawn on the spot.
#
#   tools/quickstart.sh            stops the processes at the end
#   tools/quickstart.sh --keep     leaves them running and says how to talk to them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

keep=
case "${1-}" in
  "") ;;
  --keep) keep=1 ;;
  *) echo "usage: tools/quickstart.sh [--keep]" >&2; exit 2 ;;
esac

tools/install_deps.sh
log=$(mktemp)
echo "configure: build/"
cmake --preset cpu >"$log" 2>&1 || { cat "$log"; exit 1; }
rm -f "$log"
tools/progress.py build -- ninja -C build minicpmv

# A session of its own: with --keep it outlives this terminal.
: >build/cluster.ready
setsid build/bin/minicpmv cluster --listen=127.0.0.1:0 >build/cluster.ready 2>build/cluster.log </dev/null &
cluster=$!
stop() { kill "$cluster" 2>/dev/null && wait "$cluster" || true; }
trap stop EXIT
for ((i = 0; ; ++i)); do
  server=$(sed -n 's/^ready cluster //p' build/cluster.ready)
  [ -n "$server" ] && break
  kill -0 "$cluster" 2>/dev/null || { cat build/cluster.log; exit 1; }
  ((i % 50 != 49)) || echo "cluster: not ready yet (build/cluster.log)"
  sleep 0.1
done
echo "cluster: four processes answer at $server"
sed -n 's/^ready \(\S*\) \(\S*\) admin=\(\S*\) name=\S* pid=\(\S*\)$/  \1 is process \4 at \2, metrics at http:\/\/\3\/metrics/p' \
  build/cluster.ready

# ask PICTURE QUESTION: the answer streams; the bill follows it (seconds by stage, tokens).
ask() {
  printf '\npicture:  %s\nquestion: %s\nanswer:   ' "$1" "$2"
  build/bin/minicpmv chat --server="$server" --bill --image="$1" "$2" </dev/null 2>&1
}

ask tools/nano/pictures/022-0.png "What does the text say?"
ask tools/nano/pictures/008-0.png "How many diamonds are there?"

# Drawn as the training pictures were, from a seed that nobody has seen. Debian's own Python has Pillow.
drawn=build/drawn.png
truth=$(PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tools/nano/trainer /usr/bin/python3 - "$drawn" <<'DRAW'
import random
import sys

from pictures import one_shape

image, color, shape = one_shape(random.Random(), large=False)
image.save(sys.argv[1])
print(color, shape)
DRAW
)
ask "$drawn" "What is in the image?"
printf 'drawn:    %s\n\n' "$truth"
if [ -n "$keep" ]; then
  trap - EXIT
  echo "They go on running. Ask them: build/bin/minicpmv chat --server=$server --image=$drawn \"What color is it?\""
  echo "See them:                     build/bin/minicpmv workers --server=$server"
  echo "Stop them:                    kill $cluster"
else
  echo "Ask it yourself, in one process: build/bin/minicpmv chat --image=$drawn \"What color is it?\""
  echo "Four processes that stay:        tools/quickstart.sh --keep"
fi
