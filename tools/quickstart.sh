#!/usr/bin/env bash
# From a fresh Debian 12 machine to right answers about pictures: installs what is missing, builds the executable and
# asks the nano model about two pictures that ship with the project and one that is drawn on the spot.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

tools/install_deps.sh
log=$(mktemp)
echo "configure: build/"
cmake --preset cpu >"$log" 2>&1 || { cat "$log"; exit 1; }
rm -f "$log"
tools/progress.py build -- ninja -C build minicpmv

# ask PICTURE QUESTION: the answer streams; the bill follows it (seconds by stage, tokens).
ask() {
  printf '\npicture:  %s\nquestion: %s\nanswer:   ' "$1" "$2"
  build/bin/minicpmv chat --bill --image="$1" "$2" </dev/null 2>&1
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
echo "Ask it yourself: build/bin/minicpmv chat --image=$drawn \"What color is it?\""
