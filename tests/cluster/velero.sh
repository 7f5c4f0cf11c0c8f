#!/bin/bash
# velero.sh : after `up.sh 4`, an S3 server and an unmodified Velero (server, plugin, its own node-agent), by Velero's own CLI.
. "$(dirname "$(readlink -f "$0")")/common.sh"
set -e
S3_ROOT=${CLUSTER_S3_ROOT:-$VAR/s3} # another cluster's, to share its bucket
mkdir -p "$S3_ROOT/$BUCKET" "$VAR/s3"
if ! alive s3; then
  S3=$(cd "$ROOT" && "$PYTHON" -m tests.programs versitygw-1.8.0)
  ROOT_ACCESS_KEY=$S3_ACCESS_KEY ROOT_SECRET_KEY=$S3_SECRET_KEY \
    start s3 "$S3" --quiet --keep-alive --access-log "$LOG/s3-access.log" --port $BR_IP:7070 posix "$S3_ROOT"
fi
if ! k -n velero get deployment velero >/dev/null 2>&1; then
  printf '[default]\naws_access_key_id=%s\naws_secret_access_key=%s\n' $S3_ACCESS_KEY $S3_SECRET_KEY >"$VAR/s3-credentials"
  # an empty node-agent ConfigMap, so that tests can change concurrency and resources while everything runs
  k create namespace velero --dry-run=client -o yaml | k apply -f - >/dev/null
  k -n velero create configmap node-agent-config --from-literal=config.json='{}' --dry-run=client -o yaml | k apply -f - >/dev/null
  velero install --node-agent-configmap node-agent-config --image $UPSTREAM_IMAGE --plugins bench.local/velero-plugin:1 --provider aws --bucket $BUCKET \
    --secret-file "$VAR/s3-credentials" --use-node-agent --kubelet-root-dir "$KROOT" --features EnableCSI \
    --backup-location-config region=us-east-1,s3ForcePathStyle=true,s3Url=$S3_URL --use-volume-snapshots=false \
    --wait >"$LOG/velero-install.log" 2>&1 || { tail -5 "$LOG/velero-install.log" >&2; exit 1; }
fi
location_is_available() { k -n velero get backupstoragelocation default -o jsonpath='{.status.phase}' | grep -qx Available; }
wait_for 90 location_is_available
