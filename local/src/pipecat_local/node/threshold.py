"""When a probe's single results make a change: kubelet's rule. Pure."""

from dataclasses import dataclass, replace


@dataclass(frozen=True, slots=True)
class Threshold:
    """The run of equal results so far.

    Source: ``worker.doProbe`` in pkg/kubelet/prober/worker.go, v1.37.
    """

    success: int
    failure: int
    last: bool | None = None
    run: int = 0

    def seen(self, result: bool) -> "tuple[Threshold, bool | None]":
        """After one more result; and what the probe now says, ``None``: as before."""
        after = replace(self, last=result, run=self.run + 1 if result == self.last else 1)
        reached = after.run >= (self.success if result else self.failure)
        return after, result if reached else None
