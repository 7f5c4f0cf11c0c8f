#!/bin/bash
# machine.sh : what the cluster needs of a Debian machine (root), installed if it is missing.
set -e
need=()
command -v runc >/dev/null || need+=(runc)
[ -x /usr/lib/cni/bridge ] || need+=(containernetworking-plugins)
command -v busybox >/dev/null || need+=(busybox-static)
command -v openssl >/dev/null || need+=(openssl)
command -v ip >/dev/null || need+=(iproute2)
command -v nsenter >/dev/null || need+=(util-linux)
command -v mount >/dev/null || need+=(mount)
command -v curl >/dev/null || need+=(curl)
command -v ps >/dev/null || need+=(procps)
command -v cc >/dev/null || need+=(build-essential)
if ((${#need[@]})); then
  apt-get update -qq
  DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${need[@]}"
fi
[ -x /usr/lib/cni/host-local ] || { echo "containernetworking-plugins is there, but not /usr/lib/cni/host-local" >&2; exit 1; }
