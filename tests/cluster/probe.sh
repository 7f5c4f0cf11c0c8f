#!/bin/bash
# probe.sh : can this machine run the cluster at all? Exit 0: yes; 3: no, and a line for each thing that it lacks (rights and size,
# not programs: machine.sh installs those). Tries the very things that kubelet, containerd and runc do, where they do them (an overlay
# on an overlay, say, is refused), and takes all of it back.
. "$(dirname "$(readlink -f "$0")")/common.sh"
lacks=(); try() { local what=$1; shift; "$@" >/dev/null 2>&1 || lacks+=("$what"); }
[ "$(id -u)" = 0 ] || { echo "lacking: root (user $(id -u))"; exit 3; }
mkdir -p "$B" && D=$(mktemp -d "$B/probe.XXXXXX") || { echo "lacking: a directory $B that can be written"; exit 3; }
N=kdmprobe$$
mib() { awk -v n="$1:" '$1 == n {print int($2 / 1024)}' /proc/meminfo; }
writable() { local value; value=$(cat "$1") && echo "$value" >"$1"; }   # writes back what it holds

mounts() { mount --bind "$D" "$D" && mount --make-rshared "$D"; }
overlay() { mkdir -p "$D"/{l,u,w,m} && mount -t overlay overlay -o "lowerdir=$D/l,upperdir=$D/u,workdir=$D/w" "$D/m"; }
network() { ip netns add $N && ip -n $N link set lo up && ip -n $N link add br0 type bridge && ip -n $N link add v0 type veth peer name v1 &&
  ip netns exec $N sh -c 'echo 1 >/proc/sys/net/ipv4/ip_forward'; }
loop() { truncate -s 1M "$D/file" && L=$(losetup -f --show "$D/file") && losetup -d "$L"; }
cgroups() {
  if [ -f /sys/fs/cgroup/cgroup.controllers ]; then
    mkdir /sys/fs/cgroup/$N && for c in cpu memory pids; do echo "+$c" >/sys/fs/cgroup/cgroup.subtree_control || return 1; done
  else
    for c in cpu cpuset memory pids devices freezer; do mkdir -p "/sys/fs/cgroup/$c/$N" || return 1; done
    for f in cpuset.cpus cpuset.mems; do cat "/sys/fs/cgroup/cpuset/$f" >"/sys/fs/cgroup/cpuset/$N/$f" || return 1; done
  fi
}
container() { # a container with a memory limit, as runc makes it for the kubelet
  command -v runc && command -v busybox || return 0     # machine.sh has not run: the rest has been tried
  mkdir -p "$D/c/rootfs/bin" && cp "$(readlink -f "$(command -v busybox)")" "$D/c/rootfs/bin/sh" && cd "$D/c" && runc spec && python3 - <<P && timeout 30 runc --root "$D/runc" run $N
import json
spec = json.load(open("config.json"))
spec["process"].update(terminal=False, args=["/bin/sh", "-c", "true"])
spec["process"].pop("oomScoreAdj", None)
spec["linux"]["cgroupsPath"] = "/$N/c"
spec["linux"].setdefault("resources", {})["memory"] = {"limit": 64 << 20}
json.dump(spec, open("config.json", "w"))
P
}
try "mount --bind and --make-rshared (CAP_SYS_ADMIN)" mounts
try "an overlay mount" overlay
try "network namespaces with bridge and veth (CAP_NET_ADMIN)" network
try "loop devices" loop
try "cgroups of its own" cgroups
try "/dev/kmsg" test -r /dev/kmsg
for s in vm/overcommit_memory vm/panic_on_oom kernel/panic kernel/panic_on_oops kernel/keys/root_maxkeys kernel/keys/root_maxbytes; do
  try "writing /proc/sys/$s (the kubelet sets it)" writable /proc/sys/$s; done
try "a container by runc with a memory limit" container
room() { # what the cgroup of a container that we may be in leaves: limit file, use file, per unit
  local most used; most=$(cat "$1" 2>/dev/null) && used=$(cat "$2" 2>/dev/null) && [[ $most =~ ^[0-9]+$ ]] || { echo 1000000; return; }
  echo $(((most - used) / $3)); }
C=/sys/fs/cgroup
memory=$(printf '%s\n' "$(mib MemAvailable)" "$(room $C/memory/memory.limit_in_bytes $C/memory/memory.usage_in_bytes 1048576)" \
  "$(room $C/memory.max $C/memory.current 1048576)" | sort -n | head -1)
tasks=$(printf '%s\n' "$(room $C/pids/pids.max $C/pids/pids.current 1)" "$(room $C/pids.max $C/pids.current 1)" | sort -n | head -1)
[ "$memory" -ge 4000 ] || lacks+=("4000 MiB of free memory (there are $memory)")
[ "$tasks" -ge 3000 ] || lacks+=("room for 3000 processes and threads (there is for $tasks)")
[ "$(nproc)" -ge 2 ] || lacks+=("two processors")
[ "$(ulimit -Hn)" = unlimited ] || [ "$(ulimit -Hn)" -ge 16384 ] || lacks+=("16384 open files (ulimit -Hn: $(ulimit -Hn))")
[ "$(cat /proc/sys/fs/inotify/max_user_instances)" -ge 100 ] || lacks+=("fs.inotify.max_user_instances of 100")
free=$(df -Pm "$B" | awk 'NR == 2 {print $4}')
[ "$free" -ge 8000 ] || lacks+=("8000 MiB of room in $B (there are $free)")
{ ip netns del $N
  for c in /sys/fs/cgroup/$N /sys/fs/cgroup/*/$N; do [ -d "$c" ] && find "$c" -depth -type d -exec rmdir {} +; done
  umount -l "$D/m"; umount -l "$D"; rm -rf --one-file-system "$D"; } >/dev/null 2>&1
for what in "${lacks[@]}"; do echo "lacking: $what"; done
[ ${#lacks[@]} = 0 ] || exit 3
