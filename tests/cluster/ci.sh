#!/bin/bash
# ci.sh MINUTES : the acceptance tests where this machine can run them, within MINUTES; ends with `N passed, N failed, N skipped`.
# What the machine's rights forbid, or the time, is skipped and says so; a cluster that does not come up where the probe said
# that it can is a failure. All tests not on `trial` if there is time for them, else those marked `core`.
. "$(dirname "$(readlink -f "$0")")/common.sh"
cd "$ROOT" || exit 1
MINUTES=${1:?minutes}
WHOLE=20 CORE=8 BUILD=8       # minutes on two cores that also do something else; quiet: 12, 4 and 5
left() { echo $((MINUTES - SECONDS / 60)); }
skip() { printf '\n************ THE ACCEPTANCE TESTS ON A CLUSTER ARE SKIPPED: %s\n\n0 passed, 0 failed, 1 skipped\n' "$*"; exit 0; }
failed() { echo "FAILED: $*"; for log in "$LOG"/{bring-up,kubelet,containerd,kube-apiserver,velero-install}.log; do
    [ -s "$log" ] && printf -- '---- the end of %s\n' "$log" && tail -25 "$log" | cut -c1-400; done
  [ -f /sys/fs/cgroup/cgroup.controllers ] && skip "the cluster did not come up on cgroup v2, where it was never tried (tests/cluster/README.md)"
  printf '\n0 passed, 1 failed, 0 skipped\n'; exit 1; }

mkdir -p "$LOG"
"$SRC/machine.sh" >"$LOG/bring-up.log" 2>&1 || failed "tests/cluster/machine.sh"
lacking=$("$SRC/probe.sh") || skip "this machine cannot run a kubelet. ${lacking//$'\n'/; }"
build=0; for p in k8s containerd velero aws; do compgen -G "$BIN/.$p-*" >/dev/null || build=$BUILD; done
[ "$(left)" -ge $((CORE + build)) ] || skip "$(left) minutes are left, $((CORE + build)) would be needed"
trap '"$SRC/down.sh" >>"$LOG/down.log" 2>&1' EXIT
for step in build/build.sh tools/images.sh up.sh "agent.sh ours"; do
  # shellcheck disable=SC2086
  timeout -k 10 $(($(left) * 60)) "$SRC"/$step >>"$LOG/bring-up.log" 2>&1; code=$?
  [ $code != 124 ] || skip "time was up in tests/cluster/$step"
  [ $code = 0 ] || failed "tests/cluster/$step"
  echo "tests/cluster/$step: done after $SECONDS s"
done
if [ "$(left)" -ge $WHOLE ]; then some=; elif [ "$(left)" -ge $CORE ]; then
  some=--core; printf '\n************ ONLY THE CORE OF THE ACCEPTANCE TESTS: %s minutes are left, all would need %s\n\n' "$(left)" $WHOLE
else skip "the cluster is up, but only $(left) minutes are left of $MINUTES"; fi
"$PYTHON" -m tests.acceptance.run --settled --minutes "$(left)" $some
