#!/bin/bash
# agent.sh ours|upstream : which image the node-agent DaemonSet runs. Installing ours is this one `kubectl set image`.
. "$(dirname "$(readlink -f "$0")")/common.sh"
set -e
case ${1:-} in ours) image=$OUR_IMAGE:$(cat "$IMAGES/node-agent.tag") ;; upstream) image=$UPSTREAM_IMAGE ;; *) sed -n 2p "$0" >&2; exit 2 ;; esac
k -n velero set image daemonset/node-agent node-agent=$image >/dev/null
k -n velero rollout status daemonset/node-agent --timeout=120s >/dev/null
