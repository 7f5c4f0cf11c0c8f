#!/bin/bash
# guard.sh PID STEPFILE : once the process PID (ci.sh) is gone, however it went, ends the session whose pid STEPFILE holds and the cluster.
. "$(dirname "$(readlink -f "$0")")/common.sh"
trap 'exit 0' TERM
while kill -0 "$1" 2>/dev/null; do sleep 1; done
[ -f "$2" ] && kill -9 -- "-$(cat "$2")"; rm -f "$2"
exec timeout -k 10 120 "$SRC/down.sh"
