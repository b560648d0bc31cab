"""What all pods of the node share."""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from pipecat_local.node import spec
from pipecat_local.node.address import Addresses
from pipecat_local.node.events import Recorder
from pipecat_operator.kube import Kube, Object


class ImageMissing(Exception):
    """The image isn't in the map; the text says which are."""


@dataclass(frozen=True, slots=True)
class Machine:
    """The API server, the addresses, the images and the folders."""

    kube: Kube
    recorder: Recorder
    addresses: Addresses
    host: spec.Host
    image_map: Path
    folder: Path
    clock: Callable[[], datetime]

    def image(self, name: str) -> spec.Image:
        """What an image stands for; the map is read anew, so that one may be added while a pod waits.

        Raises:
            ImageMissing: it isn't in the map.
        """
        try:
            known = spec.images(self.image_map.read_text())
        except (OSError, ValueError) as error:
            raise ImageMissing(f"the image map {self.image_map.name} can't be read: {error}") from error
        if name not in known:
            raise ImageMissing(f"not found in the process node's image map, which has: {', '.join(known) or 'none'}")
        return known[name]

    def log(self, pod: Object, container: str) -> Path:
        """Where a container's output goes."""
        metadata = pod["metadata"]
        folder = f"{metadata['namespace']}_{metadata['name']}_{metadata['uid']}"
        return self.folder / "logs" / folder / f"{container}.log"
