#!/bin/bash
# import.sh : gives the archives in $IMAGES that are new to the running containerd.
. "$(dirname "$(readlink -f "$0")")/common.sh"
set -e
for archive in "$IMAGES"/*.tar; do
  seen=$RUN/imported-$(basename "$archive")
  [ "$seen" -nt "$archive" ] && continue
  ctr images import --local "$archive" >/dev/null; touch "$seen"
done
