"""What a pod's spec asks to run, with its Secrets, ConfigMaps and image at hand. Pure.

Messages are kubelet's own (pkg/kubelet/kubelet_pods.go, pkg/volume, v1.37), so that whoever reads them can look
them up.
"""

import base64
import json
import math
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path, PurePosixPath
from typing import Any, Final

from pipecat_operator.kube import Object

DEFAULT_MODE: Final = 0o644
MARKER: Final = "PIPECAT_LOCAL_CONTAINER"
"""In the environment of each of a container's processes: they are told by it."""

SUPPORTED_VOLUMES: Final = ("emptyDir", "secret", "configMap", "downwardAPI", "projected")

_REFERENCE: Final = re.compile(r"\$(?:(\$)|\(([^)]*)\))")
_MAP_KEY: Final = re.compile(r"^metadata\.(labels|annotations)\['(.+)'\]$")
_QUANTITY: Final = re.compile(r"^([+-]?[0-9]+(?:\.[0-9]*)?(?:[eE][+-]?[0-9]+)?)([KMGTPE]i|[numkMGTPE]|)$")
_SUFFIXES: Final = {
    "": Decimal(1),
    "n": Decimal("1e-9"),
    "u": Decimal("1e-6"),
    "m": Decimal("1e-3"),
    **{suffix: Decimal(1000) ** power for power, suffix in enumerate("kMGTPE", start=1)},
    **{f"{suffix}i": Decimal(1024) ** power for power, suffix in enumerate("KMGTPE", start=1)},
}


class ConfigError(Exception):
    """The container can't be made from what there is: CreateContainerConfigError."""


class MountError(Exception):
    """A volume can't be set up; the text is that of the FailedMount event."""


@dataclass(frozen=True, slots=True)
class Image:
    """What an image stands for on this machine."""

    command: tuple[str, ...]
    working_dir: str | None = None
    env: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sources:
    """The Secrets and ConfigMaps of the pod's namespace that exist, by name; values as bytes."""

    secrets: Mapping[str, Mapping[str, bytes]]
    config_maps: Mapping[str, Mapping[str, bytes]]


@dataclass(frozen=True, slots=True)
class Host:
    """What the machine adds to a container."""

    node_name: str
    ip: str
    allocatable: Mapping[str, str]
    path: str
    pythonpath: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Folders:
    """Where one pod's files lie."""

    root: Path

    def volume(self, name: str) -> Path:
        """Of a volume."""
        return self.root / "volumes" / name

    def container(self, name: str) -> Path:
        """Of a container."""
        return self.root / "containers" / name

    def home(self, container: str) -> Path:
        """HOME of a container."""
        return self.container(container) / "home"

    def termination_log(self, container: str) -> Path:
        """What stands for the container's terminationMessagePath."""
        return self.container(container) / "termination-log"


@dataclass(frozen=True, slots=True)
class File:
    """One file of a volume."""

    path: PurePosixPath
    content: bytes
    mode: int


@dataclass(frozen=True, slots=True)
class Command:
    """What to execute."""

    argv: tuple[str, ...]
    env: Mapping[str, str]
    cwd: Path


def images(text: str) -> dict[str, Image]:
    """The image map, ``{"images": {"<image>": {"command": [...], "workingDir": "...", "env": {...}}}}``.

    Raises:
        ValueError: it isn't one; the text says where.
    """
    found: dict[str, Image] = {}
    document = json.loads(text)
    if not isinstance(document, dict) or not isinstance(document.get("images"), dict):
        raise ValueError(  # noqa: TRY004
            'an image map begins {"images": {"<image>": {"command": [...]}}}'
        )
    for name, entry in document["images"].items():
        if not isinstance(entry, dict) or not isinstance(entry.get("command", []), list):
            raise ValueError(  # noqa: TRY004
                f'image {name!r}: expected {{"command": [...], "workingDir": "...", "env": {{...}}}}'
            )
        command = tuple(str(part) for part in entry.get("command", []))
        env = {str(key): str(value) for key, value in (entry.get("env") or {}).items()}
        found[name] = Image(command, entry.get("workingDir"), env)
    return found


def unsupported(pod: Object) -> list[str]:
    """What the pod asks for and no process node can give; empty: it can run."""
    spec = pod["spec"]
    found = [f"spec.{key}" for key in ("initContainers", "hostNetwork", "resourceClaims") if spec.get(key)]
    if spec.get("restartPolicy") != "Never":
        found.append(f"restartPolicy {spec.get('restartPolicy')}")
    for volume in spec.get("volumes") or []:
        if not any(kind in volume for kind in SUPPORTED_VOLUMES):
            kinds = ", ".join(key for key in volume if key != "name")
            found.append(f"volume {volume['name']} of kind {kinds}")
    for container in spec["containers"]:
        name = container["name"]
        found += [f"{key} of container {name}" for key in ("lifecycle", "volumeDevices") if container.get(key)]
        found += [
            f"a gRPC {probe} of container {name}"
            for probe in ("readinessProbe", "livenessProbe", "startupProbe")
            if "grpc" in (container.get(probe) or {})
        ]
        found += [
            f"subPathExpr of container {name}"
            for mount in container.get("volumeMounts") or []
            if mount.get("subPathExpr")
        ]
    return found


def references(pod: Object) -> tuple[set[str], set[str]]:
    """The names of the Secrets and of the ConfigMaps the pod reads."""
    secrets: set[str] = set()
    config_maps: set[str] = set()
    for container in pod["spec"]["containers"]:
        sources = [entry.get("valueFrom") or {} for entry in container.get("env") or []]
        for source in [*sources, *(container.get("envFrom") or [])]:
            for kind in ("secretKeyRef", "secretRef"):
                secrets |= {source[kind]["name"]} if kind in source else set()
            for kind in ("configMapKeyRef", "configMapRef"):
                config_maps |= {source[kind]["name"]} if kind in source else set()
    for volume in pod["spec"].get("volumes") or []:
        for source in [volume, *((volume.get("projected") or {}).get("sources") or [])]:
            if "secret" in source:
                secrets.add(_source_name(source["secret"]))
            if "configMap" in source:
                config_maps.add(_source_name(source["configMap"]))
    return secrets, config_maps


def secret_data(secret: Object) -> dict[str, bytes]:
    """A Secret's values."""
    return {key: base64.b64decode(value) for key, value in (secret.get("data") or {}).items()}


def config_map_data(config_map: Object) -> dict[str, bytes]:
    """A ConfigMap's values."""
    texts = {key: value.encode() for key, value in (config_map.get("data") or {}).items()}
    return texts | {key: base64.b64decode(value) for key, value in (config_map.get("binaryData") or {}).items()}


def field_value(pod: Object, path: str, host: Host, pod_ip: str) -> str:
    """A downward-API field.

    Raises:
        ConfigError: no such field.
    """
    metadata, spec = pod["metadata"], pod["spec"]
    if match := _MAP_KEY.match(path):
        return str((metadata.get(match[1]) or {}).get(match[2], ""))
    fields: dict[str, Callable[[], str]] = {
        "metadata.name": lambda: str(metadata["name"]),
        "metadata.namespace": lambda: str(metadata["namespace"]),
        "metadata.uid": lambda: str(metadata["uid"]),
        "metadata.labels": lambda: _formatted(metadata.get("labels")),
        "metadata.annotations": lambda: _formatted(metadata.get("annotations")),
        "spec.nodeName": lambda: host.node_name,
        "spec.serviceAccountName": lambda: str(spec.get("serviceAccountName") or ""),
        "status.hostIP": lambda: host.ip,
        "status.hostIPs": lambda: host.ip,
        "status.podIP": lambda: pod_ip,
        "status.podIPs": lambda: pod_ip,
    }
    if path not in fields:
        raise ConfigError(f"unsupported fieldPath: {path}")
    return fields[path]()


def resource_value(pod: Object, reference: Object, container: str, host: Host) -> str:
    """A ``resourceFieldRef``: the request or limit, in units of the divisor, rounded up."""
    name = reference.get("containerName") or container
    kind, _, resource = reference["resource"].partition(".")
    resources = next((c.get("resources") or {} for c in pod["spec"]["containers"] if c["name"] == name), None)
    if resources is None:
        raise ConfigError(f"container {name} not found")
    amount = (resources.get(kind) or {}).get(resource)
    if amount is None:
        # As kubelet: no limit means all the node has.
        amount = host.allocatable.get(resource, "0") if kind == "limits" else "0"
    divisor = quantity(str(reference.get("divisor") or "0")) or Decimal(1)
    return str(math.ceil(quantity(amount) / divisor))


def quantity(text: str) -> Decimal:
    """A Kubernetes quantity, such as ``250m`` or ``8Gi``."""
    match = _QUANTITY.match(text)
    if match is None:
        raise ConfigError(f"not a quantity: {text!r}")
    return Decimal(match[1]) * _SUFFIXES[match[2]]


def expand(text: str, values: Mapping[str, str]) -> str:
    """Kubernetes' ``$(NAME)`` references; ``$$`` is a dollar sign, an unknown name stays as it stands."""

    def replaced(match: re.Match[str]) -> str:
        return "$" if match[1] else values.get(match[2], match[0])

    return _REFERENCE.sub(replaced, text)


def environment(pod: Object, container: Object, sources: Sources, host: Host, pod_ip: str) -> dict[str, str]:
    """What env and envFrom say.

    Raises:
        ConfigError: a Secret, ConfigMap or key that isn't optional is missing.
    """
    namespace = pod["metadata"]["namespace"]
    values: dict[str, str] = {}
    for entry in container.get("envFrom") or []:
        kind = "secretRef" if "secretRef" in entry else "configMapRef"
        for key, value in _keys(entry[kind], kind, sources).items():
            values[f"{entry.get('prefix') or ''}{key}"] = value.decode(errors="replace")
    for entry in container.get("env") or []:
        source = entry.get("valueFrom") or {}
        if not source:
            values[entry["name"]] = expand(entry.get("value") or "", values)
        elif "fieldRef" in source:
            values[entry["name"]] = field_value(pod, source["fieldRef"]["fieldPath"], host, pod_ip)
        elif "resourceFieldRef" in source:
            values[entry["name"]] = resource_value(pod, source["resourceFieldRef"], container["name"], host)
        elif "secretKeyRef" in source or "configMapKeyRef" in source:
            kind = "secretKeyRef" if "secretKeyRef" in source else "configMapKeyRef"
            reference = source[kind]
            found = _keys(reference, kind, sources)
            if reference["key"] in found:
                values[entry["name"]] = found[reference["key"]].decode(errors="replace")
            elif not reference.get("optional"):
                word = "Secret" if kind == "secretKeyRef" else "ConfigMap"
                raise ConfigError(f"couldn't find key {reference['key']} in {word} {namespace}/{reference['name']}")
        else:
            raise ConfigError(f"env {entry['name']}: the process node can't resolve {', '.join(source)}")
    return values


def command(
    pod: Object, container: Object, image: Image, sources: Sources, host: Host, pod_ip: str, folders: Folders
) -> Command:
    """What to execute for a container; nothing of the node's own environment is in it.

    Raises:
        ConfigError: something it needs is missing.
    """
    name = container["name"]
    spec_env = environment(pod, container, sources, host, pod_ip)
    mounts = dict(_mounts(container, folders))
    env: dict[str, str] = {
        "PATH": host.path,
        "HOME": str(folders.home(name)),
        "LANG": "C.UTF-8",
        "PYTHONUNBUFFERED": "1",
        MARKER: str(folders.container(name)),
        **({"TMPDIR": str(mounts["/tmp"])} if "/tmp" in mounts else {}),  # noqa: S108
        **image.env,
        **{key: relocate(value, mounts) for key, value in spec_env.items()},
    }
    paths = [*host.pythonpath, *filter(None, env.get("PYTHONPATH", "").split(":"))]
    if paths:
        env["PYTHONPATH"] = ":".join(paths)

    def words(key: str) -> list[str]:
        return [relocate(expand(word, spec_env), mounts) for word in container.get(key) or []]

    argv = (*(words("command") or image.command), *words("args"))
    if not argv:
        raise ConfigError("no command specified")
    directory = container.get("workingDir")
    cwd = relocate(directory, mounts) if directory else image.working_dir or str(folders.home(name))
    return Command(argv, env, Path(cwd))


def relocate(value: str, mounts: Mapping[str, Path]) -> str:
    """``value``, its beginning changed from the longest mountPath it lies under to the node's own folder."""
    under = [path for path in mounts if value == path or value.startswith(f"{path}/")]
    if not under:
        return value
    longest = max(under, key=len)
    return f"{mounts[longest]}{value.removeprefix(longest)}"


def volume_files(pod: Object, volume: Object, sources: Sources, host: Host, pod_ip: str) -> list[File]:
    """The files of a volume; none for an emptyDir.

    Raises:
        MountError: a Secret, ConfigMap or key that isn't optional is missing.
    """
    try:
        if "projected" in volume:
            mode = _mode(volume["projected"], DEFAULT_MODE)
            parts = volume["projected"].get("sources") or []
            return [f for part in parts for f in _files(pod, part, mode, sources, host, pod_ip)]
        return list(_files(pod, volume, DEFAULT_MODE, sources, host, pod_ip))
    except ConfigError as error:
        raise MountError(f'MountVolume.SetUp failed for volume "{volume["name"]}" : {error}') from error


def _files(pod: Object, source: Object, mode: int, sources: Sources, host: Host, pod_ip: str) -> Iterator[File]:
    for kind in ("secret", "configMap"):
        if kind in source:
            found = _keys({**source[kind], "name": _source_name(source[kind])}, kind, sources)
            yield from _items(source[kind], kind, found, _mode(source[kind], mode))
    if "downwardAPI" in source:
        for item in source["downwardAPI"].get("items") or []:
            if "fieldRef" in item:
                text = field_value(pod, item["fieldRef"]["fieldPath"], host, pod_ip)
            else:
                text = resource_value(pod, item["resourceFieldRef"], "", host)
            item_mode = item.get("mode") or _mode(source["downwardAPI"], mode)
            yield File(PurePosixPath(item["path"]), text.encode(), item_mode)


def _items(source: Object, kind: str, found: Mapping[str, bytes], mode: int) -> Iterator[File]:
    items = source.get("items")
    if items is None:
        yield from (File(PurePosixPath(key), value, mode) for key, value in found.items())
        return
    for item in items:
        if item["key"] in found:
            yield File(PurePosixPath(item["path"]), found[item["key"]], item.get("mode") or mode)
        elif not source.get("optional"):
            word = "secret" if kind == "secret" else "config"
            raise ConfigError(f"references non-existent {word} key: {item['key']}")


def _keys(reference: Mapping[str, Any], kind: str, sources: Sources) -> Mapping[str, bytes]:
    secret = kind.startswith("secret")
    found = (sources.secrets if secret else sources.config_maps).get(reference["name"])
    if found is not None:
        return found
    if reference.get("optional"):
        return {}
    raise ConfigError(f'{"secret" if secret else "configmap"} "{reference["name"]}" not found')


def _source_name(source: Object) -> str:
    return str(source.get("secretName") or source.get("name"))


def _mode(source: Object, default: int) -> int:
    return int(source.get("defaultMode") or default)


def _mounts(container: Object, folders: Folders) -> Iterator[tuple[str, Path]]:
    for mount in container.get("volumeMounts") or []:
        folder = folders.volume(mount["name"])
        yield mount["mountPath"].rstrip("/") or "/", folder / mount["subPath"] if mount.get("subPath") else folder
    path = container.get("terminationMessagePath")
    if path:
        yield path, folders.termination_log(container["name"])


def _formatted(values: Mapping[str, str] | None) -> str:
    return "\n".join(f"{key}={json.dumps(value, ensure_ascii=False)}" for key, value in sorted((values or {}).items()))
