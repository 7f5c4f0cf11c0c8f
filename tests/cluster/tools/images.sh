#!/bin/bash
# images.sh : the images of the tests as archives in $IMAGES, from this machine's files: no registry. Made once for each state of their parts.
. "$(dirname "$(readlink -f "$0")")/../common.sh"
set -e
mkdir -p "$IMAGES"; cd "$IMAGES"
archive() { python3 "$ROOT/deploy/image/archive.py" "$@"; }

fresh() { # name file... : is the archive made of just these?
  local name=$1 stamp; shift
  stamp=.$name-$(cat "$SRC/tools/images.sh" "$ROOT/deploy/image/archive.py" "$@" | sha256sum | cut -c1-16)
  [ -f "$stamp" ] && [ -f "$name.tar" ] && return 0
  rm -f ".$name-"*; STAMP=$stamp; return 1
}

links=(); for applet in $(busybox --list | grep -v '^busybox$'); do links+=(--link "/bin/$applet=busybox"); done
BUSYBOX=$(readlink -f "$(command -v busybox)")
printf 'root:x:0:0:root:/root:/bin/sh\ncnb:x:65532:65532::/home/cnb:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >passwd
printf 'root:x:0:\n' >group
base=("$BUSYBOX=/bin/busybox" passwd=/etc/passwd group=/etc/group @=/tmp @=/root @=/var "${links[@]}")

if ! fresh pause "$SRC/tools/pause.c"; then
  cc -static -O2 -s -o pause "$SRC/tools/pause.c"
  archive pause.tar bench.local/pause:1 --entry /pause pause=/pause; touch "$STAMP"
fi
if ! fresh busybox "$BUSYBOX"; then archive busybox.tar bench.local/busybox:1 "${base[@]}"; touch "$STAMP"; fi
if ! fresh velero "$BIN/velero" "$BIN/velero-restore-helper"; then
  archive velero.tar $UPSTREAM_IMAGE --env HOME=/root "${base[@]}" @=/home/cnb @=/plugins \
    "$BIN/velero=/velero" "$BIN/velero-restore-helper=/velero-restore-helper"; touch "$STAMP"
fi
# applications of the tests: the interpreter that our own image also takes, with its standard library (a path of Python's own: a
# distribution's lies in /usr/lib beside much else)
read -r INTERPRETER STANDARD < <("$PYTHON" -c 'import os, sys, sysconfig; print(os.path.realpath(sys.executable), sysconfig.get_path("stdlib"))')
if ! fresh python "$INTERPRETER"; then
  libraries=()
  for library in $( (ldd "$INTERPRETER"; find "$STANDARD" -name '*.so' -not -path '*/site-packages/*' -not -path '*/dist-packages/*' -exec ldd {} + 2>/dev/null) |
      grep -oE '(=> /[^ ]+|/lib64/ld[^ ]+|/lib/ld-[^ ]+)' | sed 's/=> //' | sort -u); do
    case $library in */libpython*) libraries+=("$library=/usr/local/lib/${library##*/}") ;; *) libraries+=("$library=$library") ;; esac
  done
  archive python.tar bench.local/python:3 "${base[@]}" --env LD_LIBRARY_PATH=/usr/local/lib --env PYTHONHOME=/usr/local --exclude /test/ --exclude __pycache__ \
    --exclude .a --exclude /idlelib/ --exclude site-packages/ --exclude dist-packages/ --exclude /config- \
    "$INTERPRETER=/usr/local/bin/python3" "$STANDARD=/usr/local/lib/${STANDARD##*/}" "${libraries[@]}"
  touch "$STAMP"
fi
if ! fresh velero-plugin "$BIN/velero-plugin-for-aws"; then
  archive velero-plugin.tar bench.local/velero-plugin:1 --entry /bin/cp,/plugins/velero-plugin-for-aws,/target/velero-plugin-for-aws \
    "${base[@]}" "$BIN/velero-plugin-for-aws=/plugins/velero-plugin-for-aws"; touch "$STAMP"
fi
# our own
if ! fresh node-agent "$ROOT"/repository/_native*.so <(cd "$ROOT" && { git ls-files -s agent exposer mover repository velero_store native pyproject.toml requirements-dev.lock deploy/image Cargo.lock; git diff HEAD -- agent exposer mover repository velero_store native pyproject.toml deploy/image; }); then
  "$PYTHON" "$ROOT/deploy/image/build.py" node-agent.tar "$OUR_IMAGE:${STAMP##*-}"
  echo "${STAMP##*-}" >node-agent.tag; touch "$STAMP"
fi
