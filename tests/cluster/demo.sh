#!/bin/bash
# demo.sh : a shop that keeps selling (SQLite in a pod) is backed up by Velero through our node-agent, lost with its whole
# namespace, and restored. `make cluster-demo` brings the cluster up first. Everything here is Velero's and kubectl's own commands.
. "$(dirname "$(readlink -f "$0")")/common.sh"
set -e
say() { printf '\n\033[1m== %s\033[0m\n' "$*"; }
orders() { k -n shop exec shop -- python3 -c "import sqlite3; print(*sqlite3.connect('/data/shop.db').execute('select count(*), coalesce(sum(cents), 0) from orders').fetchone())"; }
finished() { # backup|restore NAME : waits for the end, which must be Completed
  wait_for 180 sh -c "nsenter --net=/run/netns/$NS $BIN/kubectl --kubeconfig $ETC/admin.kubeconfig -n velero get $1 $2 -o jsonpath={.status.completionTimestamp} | grep -q ."
  [ "$(k -n velero get "$1" "$2" -o jsonpath='{.status.phase}')" = Completed ] || { velero "$1" describe "$2" --details; exit 1; }
}
stamp=$(date +%H%M%S)

say "Velero 1.18.3 is installed by its own CLI; our node-agent by one command: kubectl set image"
k -n velero get deployment,daemonset -o wide

say "An application: a shop that writes an order into SQLite every 50 ms"
k delete namespace shop --ignore-not-found >/dev/null
k apply -f "$SRC/manifests/shop.yaml" >/dev/null
k -n shop wait --for=condition=Ready pod/shop --timeout=90s
sleep 3; echo "orders, cents: $(orders)"

say "velero backup create shop-$stamp --include-namespaces shop --snapshot-move-data"
velero backup create "shop-$stamp" --include-namespaces shop --snapshot-move-data
finished backup "shop-$stamp"
k -n velero get datauploads -l "velero.io/backup-name=shop-$stamp"
echo "orders sold since the backup began are lost with the volume; now: $(orders)"

say "kubectl delete namespace shop"
k delete namespace shop

say "velero restore create --from-backup shop-$stamp"
velero restore create "shop-$stamp" --from-backup "shop-$stamp"
finished restore "shop-$stamp"
k -n velero get datadownloads -l "velero.io/restore-name=shop-$stamp"
k -n shop wait --for=condition=Ready pod/shop --timeout=90s
echo "orders, cents: $(orders)"
[ "$(k -n shop exec shop -- python3 -c "import sqlite3; print(sqlite3.connect('/data/shop.db').execute('pragma integrity_check').fetchone()[0])")" = ok ]
[ "$(orders | cut -d' ' -f1)" -gt 10 ]
say "Restored, and SQLite's integrity check says ok"
cat <<T
Where to look:
  $SRC/k -n velero get datauploads,datadownloads
  $SRC/k -n velero logs daemonset/node-agent
  nsenter --net=/run/netns/$NS $BIN/velero --kubeconfig $ETC/admin.kubeconfig backup describe shop-$stamp --details
  status page: $SRC/page.sh, then http://127.0.0.1:8085/ in a browser
  make cluster-down   ends everything
T
