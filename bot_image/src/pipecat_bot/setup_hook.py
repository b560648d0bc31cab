"""The file that the host adds to PIPECAT_SETUP_FILES: Pipecat calls it for any bot, before the transport joins."""

from typing import Any

from pipecat_bot import host


async def setup_worker_runner(_: Any) -> None:
    """Nothing to do; Pipecat warns where it is missing."""


async def setup_pipeline_worker(worker: Any) -> None:
    """Let the host watch this pipeline."""
    host.current().attach(worker)
