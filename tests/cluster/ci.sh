#!/bin/bash
# ci.sh MINUTES : the acceptance tests where this machine can run them, over within MINUTES; ends with `N passed, N failed, N skipped`.
# What is no fault of ours is skipped, and says so: rights that are missing, a machine too small or too slow, no registry, a cluster
# that does not start or that breaks. A failure is our agent that does not become ready, or a test that fails twice. All tests not on
# `trial`, those marked `core` first: what there is no time for is skipped, and named. Nothing is left behind, also when this is killed (guard.sh).
. "$(dirname "$(readlink -f "$0")")/common.sh"
cd "$ROOT" || exit 1
MINUTES=${1:?minutes}
CORE=9 BUILD=8                # minutes on two cores that also do something else
CACHED=25                     # and no more than this where nothing is to be built
STEP=$B/ci-step.pid
left() { echo $((MINUTES * 60 - 45 - SECONDS)); } # seconds; the cluster's end takes up to 45
minutes_left() { echo $(($(left) / 60)); }
logs() { for log in "$LOG"/{bring-up,kubelet,containerd,kube-apiserver,velero-install}.log; do
    [ -s "$log" ] && printf -- '---- the end of %s\n' "$log" && tail -25 "$log" | cut -c1-400; done; }
skip() { printf '\n************ THE ACCEPTANCE TESTS ON A CLUSTER ARE SKIPPED: %s\n\n0 passed, 0 failed, 1 skipped\n' "$*"; exit 0; }
step() { # seconds command... : in a session of its own that ends with the time, or with this script
  local seconds=$1 code; shift
  [ "$seconds" -lt "$(left)" ] || seconds=$(left)
  [ "$seconds" -gt 5 ] || return 124
  setsid timeout -k 10 "$seconds" "$@" 8>&- & echo $! >"$STEP"; wait $!; code=$?
  rm -f "$STEP"; return $code
}
bring() { # seconds command... : a step on the way up
  local code; step "$@" >>"$LOG/bring-up.log" 2>&1; code=$?; shift
  [ $code != 0 ] || echo "${1#"$ROOT"/} ${*:2}: done after $SECONDS s"
  [ $code != 124 ] || { logs; skip "time was up in $*"; }
  return $code
}
broken() { # what is wrong with the cluster itself, if anything
  local n; for n in etcd kube-apiserver kcm sched containerd kubelet benchcsi provisioner snapshotter snapctl s3; do
    alive $n || echo "$n has ended"; done
  timeout 60 "$SRC/k" get nodes -o jsonpath='{range .items[*].status.conditions[*]}{.type}={.status}{"\n"}{end}' |
    grep -E '^(Ready=(False|Unknown)|.*Pressure=True)'
}
finish() { # the step that runs, then the cluster
  [ -f "$STEP" ] && kill -9 -- "-$(cat "$STEP")" 2>/dev/null; rm -f "$STEP"
  timeout -k 10 120 "$SRC/down.sh" >>"$LOG/down.log" 2>&1 8>&-; kill "$GUARD" 2>/dev/null
}

mkdir -p "$LOG"; : >"$LOG/bring-up.log"
exec 8>"$B/ci.lock"; flock -n 8 || skip "another ci.sh is at work in $B"
[ -e "/run/netns/$NS" ] && alive etcd && skip "a cluster runs in $B already: make cluster-down ends it"
setsid "$SRC/guard.sh" $$ "$STEP" >>"$LOG/down.log" 2>&1 </dev/null 8>&- & GUARD=$!
trap finish EXIT; trap 'exit 143' TERM INT HUP
timeout -k 10 120 "$SRC/down.sh" >"$LOG/down.log" 2>&1 8>&-  # what a machine that stopped has left

bring 300 "$SRC/machine.sh" || { logs; skip "this machine lacks programs that apt does not give it"; }
lacking=$(timeout -k 10 120 "$SRC/probe.sh" 8>&-) || skip "this machine cannot run a kubelet. ${lacking//$'\n'/; }"
build=0; for p in k8s containerd velero aws; do compgen -G "$BIN/.$p-*" >/dev/null || build=$BUILD; done
[ $build != 0 ] || [ "$MINUTES" -le $CACHED ] || MINUTES=$CACHED
[ "$(minutes_left)" -ge $((CORE + build)) ] || skip "$(minutes_left) minutes are left, $((CORE + build)) would be needed"
bring 1500 "$SRC/build/build.sh" || { logs; skip "the cluster's programs could not be built"; }
bring 600 "$SRC/tools/images.sh" || { logs; skip "the images could not be made"; }
bring 300 "$SRC/up.sh" || { timeout -k 10 120 "$SRC/down.sh"; bring 300 "$SRC/up.sh"; } >/dev/null 2>&1 || { logs; skip "the cluster does not start on this machine"; }
bring 300 "$SRC/agent.sh" ours || bring 300 "$SRC/agent.sh" ours || { logs
  [ -z "$(broken)" ] || skip "the cluster broke: $(broken)"
  echo "FAILED: our node-agent does not become ready"; "$SRC/k" -n velero get pods -o wide; "$SRC/k" -n velero logs daemonset/node-agent --tail=50
  printf '\n0 passed, 1 failed, 0 skipped\n'; exit 1; }

step "$(left)" "$PYTHON" -m tests.acceptance.run --settled --core-first --seconds $(($(left) - 60)); code=$?
[ $code = 0 ] && exit 0
why=$(broken); [ -z "$why" ] || skip "the cluster broke: $why"
[ $code -lt 124 ] || skip "the acceptance tests were ended from outside or did not end in time (code $code)"
[ -f /sys/fs/cgroup/cgroup.controllers ] && skip "tests failed on cgroup v2, where they have never been seen to pass"
exit $code
