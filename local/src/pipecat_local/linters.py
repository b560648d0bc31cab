"""Linters that are Go programs: actionlint for the workflows, kube-score for the chart.

Each is had as the Kubernetes binaries are, its version pinned in ``local/tools/go.mod`` too.
"""

from typing import Final

from pipecat_local.assets import Binary

_ACTIONLINT: Final = "1.7.12"
_KUBE_SCORE: Final = "1.20.0"

ACTIONLINT: Final = Binary(
    "actionlint",
    _ACTIONLINT,
    "tools",
    "github.com/rhysd/actionlint/cmd/actionlint",
    f"-X github.com/rhysd/actionlint.version={_ACTIONLINT}",
    ("-version",),
)
KUBE_SCORE: Final = Binary(
    "kube-score",
    _KUBE_SCORE,
    "tools",
    "github.com/zegl/kube-score/cmd/kube-score",
    f"-X main.version={_KUBE_SCORE}",
    ("version",),
)
