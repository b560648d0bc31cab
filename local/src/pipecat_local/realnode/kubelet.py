"""The settings of a node's kubelet."""

import json
from pathlib import Path
from typing import Any, Final

from pipecat_local.realnode.containerd import SOCKET
from pipecat_local.realnode.network import DOMAIN
from pipecat_local.realnode.slots import Slot

HEALTH_PORT: Final = 10248


def write_settings(slot: Slot, pki: Path, resolv_conf: Path, logs: Path, file: Path) -> Path:
    """``logs``: where what containers print is kept."""
    settings: dict[str, Any] = {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "address": str(slot.address),
        "healthzBindAddress": str(slot.address),
        "healthzPort": HEALTH_PORT,
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": False},
            "x509": {"clientCAFile": str(pki / "ca.crt")},
        },
        # The API server alone has a certificate of a client.
        "authorization": {"mode": "AlwaysAllow"},
        "tlsCertFile": str(pki / "kubelet.crt"),
        "tlsPrivateKeyFile": str(pki / "kubelet.key"),
        "containerRuntimeEndpoint": f"unix://{SOCKET}",
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": f"/{slot.name}",
        "failCgroupV1": False,
        "failSwapOn": False,
        # To make it lower takes a right that containers like this machine's may lack.
        "oomScoreAdj": 0,
        "clusterDNS": [str(slot.address)],
        "clusterDomain": DOMAIN,
        "resolvConf": str(resolv_conf),
        "podLogsDir": str(logs),
        "volumePluginDir": "/var/lib/kubelet/volume-plugins",
        # How full the machine's disk is, is not for this node to judge; images can't be had again.
        "evictionHard": {
            "memory.available": "100Mi",
            "nodefs.available": "0%",
            "nodefs.inodesFree": "0%",
            "imagefs.available": "0%",
            "imagefs.inodesFree": "0%",
        },
        "imageGCHighThresholdPercent": 100,
        # The control plane gives a node up after 20 s.
        "nodeStatusUpdateFrequency": "4s",
        "nodeLeaseDurationSeconds": 16,
    }
    file.write_text(json.dumps(settings))
    return file
