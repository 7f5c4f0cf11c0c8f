#!/bin/bash
# second_node.sh up|down|lose : a second node, bench-node-2, on this machine: a network namespace with a bridge of its own behind a
# veth pair, and a mount namespace in which its kubelet's directory lies where the first one's does (DaemonSets name one path).
# Its CSI volumes are the first node's directories, so any volume can be on any node. `lose` kills it and deletes its Node.
. "$(dirname "$(readlink -f "$0")")/common.sh"
NODE2=bench-node-2 NS2=${NS}2 BR2=${BR}b BR2_IP=10.244.1.1 LINK=10.244.255
C2="$BIN/ctr -a $RUN/containerd2.sock -n k8s.io"
DAEMONS=(kubelet2 benchcsi2 containerd2 node2)
in_node() { nsenter -t "$(cat "$RUN/node2.pid")" -m --net=/run/netns/$NS2 "$@"; }
start2() { local name=$1; shift
  nsenter -t "$(cat "$RUN/node2.pid")" -m --net=/run/netns/$NS2 setsid "$@" >"$LOG/$name.log" 2>&1 </dev/null & echo $! >"$RUN/$name.pid"; }
kill_all() { # the daemons, then what ran in the node's pods
  for n in "$@"; do alive "$n" && kill -9 "$(cat "$RUN/$n.pid")" 2>/dev/null; done
  for p in $(ps -eo pid,args | awk -v r="$RUN/containerd2.sock" '/containerd-shim-runc-v[2]/ && index($0,r){print $1}'); do kill -9 "$p" 2>/dev/null; done
  for c in /sys/fs/cgroup/$NS2 /sys/fs/cgroup/*/$NS2; do [ -d "$c" ] && find "$c" -name cgroup.procs -exec cat {} + ; done 2>/dev/null | sort -u | xargs -r kill -9 2>/dev/null
}

network() {
  [ -e /run/netns/$NS2 ] && return
  ip netns add $NS2
  ip -n $NS link add kdm-to2 type veth peer name kdm-to1 netns $NS2
  ip -n $NS addr add $LINK.1/30 dev kdm-to2; ip -n $NS link set kdm-to2 up; ip -n $NS route add 10.244.1.0/24 via $LINK.2
  ip -n $NS2 link set lo up; ip -n $NS2 addr add $LINK.2/30 dev kdm-to1; ip -n $NS2 link set kdm-to1 up
  ip -n $NS2 link add $BR2 address 02:0a:f4:00:01:01 type bridge; ip -n $NS2 addr add $BR2_IP/24 dev $BR2; ip -n $NS2 link set $BR2 up
  ip -n $NS2 route add default via $LINK.1
  ip netns exec $NS2 sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'
}
credentials() {
  [ -f "$ETC/kubelet2.kubeconfig" ] && return
  ( cd "$PKI"
    openssl ecparam -genkey -name prime256v1 -noout -out kubelet2.key
    openssl req -new -key kubelet2.key -subj "/O=system:nodes/CN=system:node:$NODE2" -out kubelet2.csr
    openssl x509 -req -in kubelet2.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 3650 -out kubelet2.crt -extfile <(
      printf 'keyUsage=critical,digitalSignature\nextendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=DNS:%s,IP:127.0.0.1,IP:%s\n' $NODE2 $BR2_IP) 2>/dev/null
    rm kubelet2.csr )
  sed "s,/kubelet\.crt,/kubelet2.crt,; s,/kubelet\.key,/kubelet2.key,; s,containerd\.sock,containerd2.sock,; s,cgroupRoot: /$NS,cgroupRoot: /$NS2,; s,podLogsDir: .*,podLogsDir: $VAR/podlogs2," \
    "$ETC/kubelet.yaml" >"$ETC/kubelet2.yaml"
  python3 - "$PKI" $BR_IP >"$ETC/kubelet2.kubeconfig" <<'P'
import base64, json, sys
pki, server = sys.argv[1:]
data = lambda name: base64.b64encode(open(f"{pki}/{name}", "rb").read()).decode()
print(json.dumps({"apiVersion": "v1", "kind": "Config", "current-context": "b",
  "clusters": [{"name": "b", "cluster": {"server": f"https://{server}:443", "certificate-authority-data": data("ca.crt")}}],
  "users": [{"name": "n", "user": {"client-certificate-data": data("kubelet2.crt"), "client-key-data": data("kubelet2.key")}}],
  "contexts": [{"name": "b", "context": {"cluster": "b", "user": "n"}}]}))
P
  mkdir -p "$ETC/cni2"
  sed "s,\"$BR\",\"$BR2\",; s,$RUN/cni,$RUN/cni2,; s,$POD_CIDR,10.244.1.0/24,; s,10\.244\.0\.10,10.244.1.10,; s,\"$BR_IP\",\"$BR2_IP\"," "$ETC/cni/10-bench.conflist" >"$ETC/cni2/10-bench.conflist"
  sed "s,$VAR/containerd\",$VAR/containerd2\",; s,$RUN/containerd\",$RUN/containerd2\",; s,containerd\.sock,containerd2.sock,; s,$ETC/cni\",$ETC/cni2\"," "$ETC/containerd.toml" >"$ETC/containerd2.toml"
}
up() {
  set -e
  network; rm -f "$ETC/kubelet2.kubeconfig"; credentials
  for c in /sys/fs/cgroup/*/; do [ "$c" = /sys/fs/cgroup/unified/ ] || [ -f /sys/fs/cgroup/cgroup.controllers ] || mkdir -p "$c/$NS2"; done
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then mkdir -p /sys/fs/cgroup/$NS2
  else for f in cpuset.cpus cpuset.mems; do cat /sys/fs/cgroup/cpuset/$f >/sys/fs/cgroup/cpuset/$NS2/$f; done; fi
  mkdir -p "$VAR/kubelet2"
  alive node2 || { nsenter --net=/run/netns/$NS2 setsid unshare -m --propagation slave sh -c "mount --bind $VAR/kubelet2 $KROOT && mount --make-rshared $KROOT && exec sleep infinity" </dev/null >/dev/null 2>&1 & echo $! >"$RUN/node2.pid"; }
  mounted() { in_node mountpoint -q "$KROOT"; }; wait_for 10 mounted
  alive containerd2 || PATH=$BIN:$PATH start2 containerd2 "$BIN/containerd" -c "$ETC/containerd2.toml"
  # shellcheck disable=SC2086
  wait_for 30 $C2 version
  for archive in "$IMAGES"/*.tar; do in_node $C2 images import --local "$archive" >/dev/null; done
  alive kubelet2 || start2 kubelet2 "$BIN/kubelet" --config "$ETC/kubelet2.yaml" --kubeconfig "$ETC/kubelet2.kubeconfig" --root-dir "$KROOT" --hostname-override $NODE2 --node-ip $BR2_IP --cert-dir "$KROOT/pki" --v=2
  wait_for 60 k wait --for=condition=Ready node/$NODE2 --timeout=1s
  alive benchcsi2 || start2 benchcsi2 "$BIN/benchcsi" -node $NODE2 -data "$VAR/csi" -kubelet-root "$KROOT"
  registered() { k get csinode $NODE2 -o jsonpath='{.spec.drivers[*].name}' | grep -q bench.csi.local; }
  wait_for 30 registered
}
lose() { kill_all kubelet2 benchcsi2 containerd2; k delete node $NODE2 --ignore-not-found >/dev/null; }
down() {
  k delete node $NODE2 --ignore-not-found >/dev/null 2>&1
  kill_all "${DAEMONS[@]}"
  k delete pods -A --field-selector spec.nodeName=$NODE2 --force --grace-period=0 >/dev/null 2>&1 # the controller-manager takes a minute
  for n in "${DAEMONS[@]}"; do rm -f "$RUN/$n.pid"; done
  ip -n $NS link del kdm-to2 2>/dev/null; ip netns del $NS2 2>/dev/null
  for i in 1 2 3; do grep -q "$RUN/containerd2\|$VAR/containerd2" /proc/self/mountinfo || break
    for m in $(awk -v a="$RUN/containerd2" -v b="$VAR/containerd2" 'index($5,a)==1 || index($5,b)==1 {print $5}' /proc/self/mountinfo | tac); do umount -l "$m" 2>/dev/null; done; done
  no_cgroups() { for c in /sys/fs/cgroup/$NS2 /sys/fs/cgroup/*/$NS2; do [ -d "$c" ] && find "$c" -depth -type d -exec rmdir {} +; done; ! compgen -G "/sys/fs/cgroup/*/$NS2"; }
  wait_for 10 no_cgroups # what was killed takes a moment to be gone
  rm -rf --one-file-system "$VAR/kubelet2" "$VAR/containerd2" "$RUN/containerd2" "$RUN/cni2"
}
case ${1:-} in up | down | lose) "$1" ;; *) sed -n 2p "$0" >&2; exit 2 ;; esac
