"""The installation id: part of every room's name, so that two installations never touch each other's rooms."""

import secrets

from pipecat_operator import names
from pipecat_operator.kube import CONFIGMAPS, AlreadyExists, Kube, NotFound

KEY = "installationId"


async def installation_id(kube: Kube, namespace: str) -> str:
    """Made once and kept in a ConfigMap beside the Lease."""
    try:
        return await _read(kube, namespace)
    except NotFound:
        made = {
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": {"name": names.INSTALLATION_CONFIGMAP, "namespace": namespace},
            "data": {KEY: f"pc-{secrets.token_hex(4)}"},
        }
        try:
            return str((await kube.create(CONFIGMAPS, namespace, made))["data"][KEY])
        except AlreadyExists:
            return await _read(kube, namespace)


async def _read(kube: Kube, namespace: str) -> str:
    configmap = await kube.get(CONFIGMAPS, namespace, names.INSTALLATION_CONFIGMAP)
    return str(configmap["data"][KEY])
