"""The applications that are backed up: manifests, and what they write. All run the tests' images."""

from __future__ import annotations

from typing import Any

Json = dict[str, Any]

PYTHON_IMAGE, BUSYBOX_IMAGE = "bench.local/python:3", "bench.local/busybox:1"
IMMEDIATE, WAIT = "bench", "bench-wait"
_SLEEP = ["sh", "-c", "trap 'exit 0' TERM; while :; do sleep 1; done"]


def namespace(name: str) -> Json:
    return {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}


def claim(
    where: str, name: str, *, storage_class: str = IMMEDIATE, block: bool = False, size: str = "64Mi"
) -> Json:
    spec: Json = {
        "accessModes": ["ReadWriteOnce"],
        "storageClassName": storage_class,
        "volumeMode": "Block" if block else "Filesystem",
        "resources": {"requests": {"storage": size}},
    }
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": name, "namespace": where},
        "spec": spec,
    }


def pod(
    where: str,
    name: str,
    *,
    claims: tuple[str, ...] = (),
    devices: tuple[str, ...] = (),
    volumes: tuple[Json, ...] = (),
    command: list[str] | None = None,
    image: str = PYTHON_IMAGE,
    annotations: dict[str, str] | None = None,
) -> Json:
    """A pod with its claims at `/<claim>`, devices at `/dev/<claim>` and other volumes at `/<name>`."""
    sources = [{"name": c, "persistentVolumeClaim": {"claimName": c}} for c in (*claims, *devices)]
    container = {
        "name": "app",
        "image": image,
        "imagePullPolicy": "Never",
        "command": command or _SLEEP,
        "volumeMounts": [{"name": n, "mountPath": f"/{n}"} for n in (*claims, *(v["name"] for v in volumes))],
        "volumeDevices": [{"name": d, "devicePath": f"/dev/{d}"} for d in devices],
    }
    spec = {"terminationGracePeriodSeconds": 1, "containers": [container], "volumes": [*sources, *volumes]}
    meta = {"name": name, "namespace": where, "labels": {"app": name}, "annotations": annotations or {}}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": meta, "spec": spec}


# Programs for `python3 -c` inside a pod. `tree` writes files of all kinds, the same for the same seed; `digest` prints
# one line that stands for names, kinds, modes, owners, links, sizes and contents below a directory.
TREE = """
import os, random, sys
root, seed, count, size = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
r = random.Random(seed)
for i in range(count):
    d = f"{root}/d{i % 17}/e{i % 5}"
    os.makedirs(d, exist_ok=True)
    with open(f"{d}/f{i}", "wb") as f:
        f.write(r.randbytes(r.randrange(size * 2) if size > 1 else size))
    os.chmod(f"{d}/f{i}", (0o640, 0o600, 0o755, 0o4711, 0o0444)[i % 5])
    if i % 7 == 0:
        os.chown(f"{d}/f{i}", 1000 + i % 3, 2000)
os.makedirs(f"{root}/empty", exist_ok=True)
os.chmod(f"{root}/empty", 0o1770)
if not os.path.lexists(f"{root}/link"):
    os.symlink("d0/e0/f0", f"{root}/link")
    os.symlink("/nowhere", f"{root}/dangling")
with open(f"{root}/sparse", "wb") as f:
    f.truncate(8 << 20); f.seek(5 << 20); f.write(b"middle")
open(f"{root}/\\u00e4 name with spaces", "w").write("x")
os.sync()
"""
DIGEST = """
import hashlib, os, stat, sys
h = hashlib.sha256(); n = 0; total = 0
root = sys.argv[1]
for base, dirs, files in os.walk(root):
    dirs[:] = sorted(d for d in dirs if d != ".velero")
    for name in sorted(dirs + files):
        p = os.path.join(base, name); s = os.lstat(p); n += 1
        h.update(f"{os.path.relpath(p, root)}|{s.st_mode}|{s.st_uid}|{s.st_gid}".encode())
        if stat.S_ISLNK(s.st_mode): h.update(os.readlink(p).encode())
        elif stat.S_ISREG(s.st_mode):
            total += s.st_size
            with open(p, "rb") as f:
                while b := f.read(1 << 20): h.update(b)
print(n, total, h.hexdigest())
"""
BLOCKS = """
import hashlib, os, random, sys
path, seed = sys.argv[1], int(sys.argv[2])
if seed:
    with open(path, "r+b") as f:
        f.write(random.Random(seed).randbytes(3 << 20)); f.seek(20 << 20); f.write(b"far"); f.flush(); os.fsync(f.fileno())
h = hashlib.sha256()
with open(path, "rb") as f:
    while b := f.read(1 << 20): h.update(b)
print(h.hexdigest())
"""
