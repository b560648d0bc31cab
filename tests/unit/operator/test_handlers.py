"""kopf as a source of events only."""

from pipecat_operator import handlers


def test_a_kopf_that_gave_up_does_not_have_us_killed_later():
    """It is begun again in the same process; by default the process is sent SIGKILL ten minutes after."""
    assert handlers.settings().process.ultimate_exiting_timeout is None
