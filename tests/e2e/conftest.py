"""A whole stack of its own for these tests: real control plane, pods as processes, the stand-ins, nothing else."""

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import yaml

from pipecat_local import observer
from pipecat_local.observer import Sessions
from pipecat_local.stack import ROOT, Stack
from support import leaks

NAMESPACE = "default"
FINISHING_BOT = os.path.relpath(Path(__file__).parent / "bots" / "finishing.py", ROOT / "bot_image")
"""Seen from the image's working directory: an absolute path may lie below a mount of the pod, such as /tmp."""


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stack]:
    """With the Bots `assistant` (the example) and `finishing` (ends the call after its first answer)."""
    async with Stack(tmp_path_factory.mktemp("stack")) as running:
        running.put_bot_keys(NAMESPACE)
        services = running.services
        assert services is not None
        leaks.note(running.folder, [services.daily_api_key, services.bot_keys["OPENAI_API_KEY"]])
        example = yaml.safe_load((ROOT / "examples" / "bot.yaml").read_text())
        finishing = {
            **example,
            "metadata": {"name": "finishing"},
            "spec": {
                **example["spec"],
                "podTemplate": {"spec": {"containers": [{"name": "bot", "args": [FINISHING_BOT]}]}},
            },
        }
        running.cluster.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump_all([example, finishing]))
        yield running
        running.check()


@pytest_asyncio.fixture(loop_scope="session")
async def watched(stack: Stack) -> AsyncIterator[Sessions]:
    """Every session from here on."""
    async with observer.sessions(stack.cluster, NAMESPACE) as sessions:
        yield sessions


@pytest.fixture
def apply(stack: Stack) -> Callable[..., None]:
    """Make a session, as anybody would."""

    def applied(name: str, bot: str = "assistant", **spec: Any) -> None:
        session = {
            "apiVersion": "pipecat.dev/v1alpha1",
            "kind": "BotSession",
            "metadata": {"name": name},
            "spec": {"botRef": {"name": bot}, **spec},
        }
        stack.cluster.kubectl("apply", "--filename", "-", stdin=yaml.safe_dump(session))

    return applied
