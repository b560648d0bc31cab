"""Container images without a registry: archives, as ``docker save`` writes them."""

import hashlib
import io
import json
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from pipecat_local.assets import machine


def write_archive(
    archive: Path, tag: str, files: Mapping[str, Path], command: Sequence[str], links: Mapping[str, str] | None = None
) -> Path:
    """An image of nothing but those files, by their path in it; ``links``: symbolic links, and where they point."""
    layer = _tar(
        {path: file.read_bytes() for path, file in files.items()},
        links or {},
    )
    config = json.dumps(
        {
            "architecture": machine(),
            "os": "linux",
            "config": {"Entrypoint": list(command), "Env": ["PATH=/bin"]},
            "rootfs": {"type": "layers", "diff_ids": [f"sha256:{hashlib.sha256(layer).hexdigest()}"]},
        }
    ).encode()
    config_name = f"{hashlib.sha256(config).hexdigest()}.json"
    manifest = [{"Config": config_name, "RepoTags": [tag], "Layers": ["layer.tar"]}]
    archive.write_bytes(
        _tar({"layer.tar": layer, config_name: config, "manifest.json": json.dumps(manifest).encode()}, {})
    )
    return archive


def _tar(files: Mapping[str, bytes], links: Mapping[str, str]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for path, content in files.items():
            entry = tarfile.TarInfo(path)
            entry.size, entry.mode = len(content), 0o755
            tar.addfile(entry, io.BytesIO(content))
        for path, target in links.items():
            entry = tarfile.TarInfo(path)
            entry.type, entry.linkname = tarfile.SYMTYPE, target
            tar.addfile(entry)
    return packed.getvalue()
