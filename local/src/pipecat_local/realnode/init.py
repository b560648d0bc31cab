"""PID 1 of a node's namespaces: ``python -I -S init.py HOST_NAME RESOLV_CONF``. When it is killed, all of it is.

Everything that a kubelet and a containerd write outside of their own folders is kept in memory, and away from the
machine's own.
"""

import json
import signal
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

SCRATCH = ("/run", "/var/lib", "/var/log")
KERNEL = {
    "kernel/keys/root_maxbytes": "25000000",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
}
"""What a kubelet would set for the whole machine if it read something else."""


def mount(*arguments: str | Path) -> None:
    subprocess.run(["/usr/bin/env", "mount", *arguments], check=True)


host_name, resolv_conf = sys.argv[1:]
socket.sethostname(host_name)
for folder in SCRATCH:
    mount("-t", "tmpfs", "-o", "mode=0755", "tmpfs", folder)
values = Path(tempfile.mkdtemp(dir="/run"))
for name, value in KERNEL.items():
    file = values / name.replace("/", ".")
    file.write_text(f"{value}\n")
    mount("--bind", file, Path("/proc/sys") / name)
resolver = Path("/etc/resolv.conf").resolve()
if resolver.is_relative_to("/run"):
    resolver.parent.mkdir(parents=True, exist_ok=True)
    resolver.touch()
if resolver.exists():
    # containerd hands it to pods that ask for no DNS of their own.
    mount("--bind", resolv_conf, resolver)

sys.stdout.write(json.dumps({"ready": True}) + "\n")
sys.stdout.flush()
# Orphans come here when their parents have ended: the kernel buries them.
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
while True:
    signal.pause()
