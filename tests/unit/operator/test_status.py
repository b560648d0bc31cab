"""What is told is brief, and its own."""

from pipecat_operator import conditions, status
from pipecat_operator.api import RoomStatus
from pipecat_operator.conclude import Conclusion, conclude
from pipecat_operator.conditions import ConditionType, EndReason, Phase
from support.objects import NOW, observed, pod, session

LONG = "x" * 2_000_000


def test_no_message_outgrows_the_object():
    of = session()
    told = [
        status.waiting(of, ConditionType.ROOM_READY, "RoomFailed", LONG, NOW),
        status.ending(of, Conclusion(EndReason.STOPPED, LONG), NOW),
        status.finished(of, Conclusion(EndReason.INVALID_POD_TEMPLATE, LONG), None, NOW),
    ]
    for each in told:
        assert len(each.model_dump_json()) < 3 * conditions.MESSAGE_MAX
        assert (each.message or "").startswith("xxx")


def test_a_short_message_is_told_whole():
    assert status.ending(session(), Conclusion(EndReason.STOPPED, "As asked."), NOW).message == "As asked."


def test_an_end_that_somebody_wrote_before_the_start_is_not_the_end():
    of = session({"phase": "Pending", "endReason": "UserLeft"})
    told = status.starting(of, RoomStatus(url="https://r"), NOW)
    assert (told.phase, told.end_reason) == (Phase.STARTING, None)


def test_a_termination_message_deeper_than_anybody_reads():
    of = observed(session(), pod=pod(phase="Failed", exit_code=70, termination_message="[" * 1_000_000))
    assert conclude(of).reason is EndReason.BOT_FAILED
