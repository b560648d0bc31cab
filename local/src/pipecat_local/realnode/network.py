"""The link to this machine, the pods' network, Services and names. None of it reaches anything else."""

import json
from pathlib import Path
from typing import Any, Final

from pipecat_local.realnode.namespaces import Namespaces, run
from pipecat_local.realnode.slots import Slot

DOMAIN: Final = "cluster.local"
PROXY_HEALTH_PORT: Final = 10256
DNS_HEALTH_PORT: Final = 8181


async def connect(slot: Slot, namespaces: Namespaces) -> None:
    """Give the node its address, and this machine routes to node, pods and Services.

    There is no default route: from a pod this machine can be reached, and nothing beyond it.
    """
    ours, theirs = slot.link, "eth0"
    prefix = slot.hosts.prefixlen
    outside = [
        f"link add {ours} type veth peer name {theirs} netns {namespaces.pid}",
        f"address add {slot.host_address}/{prefix} dev {ours}",
        f"link set {ours} up",
        f"route add {slot.pods} via {slot.address}",
        f"route add {slot.services} via {slot.address}",
    ]
    inside = [
        "link set lo up",
        f"address add {slot.address}/{prefix} dev {theirs}",
        f"link set {theirs} up",
        # For what the node itself sends to a Service: kube-proxy rewrites it after it was routed.
        f"route add {slot.services} dev {theirs}",
    ]
    # The routes through it need the other end to be up.
    await run(["ip", "-batch", "-"], "\n".join(outside[:3]))
    await run([*namespaces.enter_network, "ip", "-batch", "-"], "\n".join(inside))
    await run(["ip", "-batch", "-"], "\n".join(outside[3:]))


def write_cni(slot: Slot, folder: Path) -> Path:
    """The pods' network: a link of its own from each pod to the node. Answers the folder of its settings.

    Not a bridge: its pods answer each other past the rules of kube-proxy unless br_netfilter is loaded.
    """
    address_management = {
        "type": "host-local",
        "dataDir": "/run/cni",
        "ranges": [[{"subnet": str(slot.pods)}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    settings = {"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipam": address_management}]}
    folder.mkdir()
    (folder / "10-pods.conflist").write_text(json.dumps(settings))
    return folder


def write_kube_proxy(slot: Slot, kubeconfig: Path, file: Path) -> Path:
    """Services, with nftables."""
    settings: dict[str, Any] = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": str(kubeconfig)},
        "hostnameOverride": slot.name,
        "mode": "nftables",
        "clusterCIDR": str(slot.pods),
        "detectLocalMode": "ClusterCIDR",
        "healthzBindAddress": f"{slot.address}:{PROXY_HEALTH_PORT}",
        # The machine's limits stay as they are.
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
    }
    file.write_text(json.dumps(settings))
    return file


def write_coredns(slot: Slot, kubeconfig: Path, file: Path) -> Path:
    """Names of Services and pods; any other is at once answered that it doesn't exist."""
    file.write_text(
        f"""{DOMAIN} {slot.pods} {slot.services} {{
  bind {slot.address}
  errors
  ready {slot.address}:{DNS_HEALTH_PORT}
  kubernetes {DOMAIN} {slot.pods} {slot.services} {{
    kubeconfig {kubeconfig}
  }}
}}
. {{
  bind {slot.address}
  errors
  template ANY ANY {{
    rcode NXDOMAIN
  }}
}}
"""
    )
    return file
