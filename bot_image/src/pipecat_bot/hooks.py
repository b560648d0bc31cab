"""Named in PIPECAT_SETUP_FILES: Pipecat runs these for every runner and pipeline, whoever's bot it is."""

from pipecat.pipeline.worker import PipelineWorker
from pipecat.workers.runner import WorkerRunner

from pipecat_bot import attachment


async def setup_worker_runner(runner: WorkerRunner) -> None:
    """Before the runner's workers start."""
    attachment.current().add_runner(runner)


async def setup_pipeline_worker(worker: PipelineWorker) -> None:
    """Before the pipeline's transport joins."""
    attachment.current().add_worker(worker)
