"""Every rule of decide: what is observed and the clock in, a plan out."""

from dataclasses import replace
from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipecat_operator.conclude import Conclusion, conclude
from pipecat_operator.conditions import ConditionType, EndReason, Phase
from pipecat_operator.decide import BODY_MAX, OVERDUE, PATIENCE, SILENCE, Look, decide, give_up, has_waited_long
from pipecat_operator.observe import ConditionView, Trouble
from support.objects import NOW, UID, bot, job, observed, pod, running, session, starting

SECOND = timedelta(seconds=1)
FAILED_BY_POLICY = {"FailureTarget": ConditionView("PodFailurePolicy", "Container bot ... exit code 70 matching")}


class TestBeforeTheJob:
    def test_a_new_session_is_started(self):
        plan = decide(observed(session(), bot()), NOW)
        assert plan.start
        assert plan.status is None

    def test_a_stopped_one_never_is(self):
        plan = decide(observed(session(stop=True), bot()), NOW)
        assert (plan.start, plan.status.end_reason) == (False, EndReason.STOPPED)

    def test_a_large_body_is_refused_before_any_outside_call(self):
        plan = decide(observed(session(body={"text": "x" * BODY_MAX}), bot()), NOW)
        assert (plan.start, plan.status.end_reason) == (False, EndReason.BODY_TOO_LARGE)
        assert str(BODY_MAX) in plan.status.message

    def test_the_largest_body_is_carried(self):
        room = len('{"text":""}')
        assert decide(observed(session(body={"text": "x" * (BODY_MAX - room)}), bot()), NOW).start

    def test_a_slot_is_asked_for_before_any_outside_call(self):
        wants = observed(session(), bot(), needs_slot=True)
        plan = decide(wants, NOW)
        assert (plan.look, plan.start, plan.status) == (Look.SLOT, False, None)
        assert decide(replace(wants, needs_slot=False), NOW).start

    def test_without_a_slot_it_ends_at_once(self):
        plan = decide(observed(session(), bot(), full="Bot 'assistant' has all"), NOW)
        assert (plan.start, plan.status.phase, plan.status.end_reason) == (
            False,
            Phase.FAILED,
            EndReason.CAPACITY_REACHED,
        )
        assert (plan.status.message, plan.event.message) == ("Bot 'assistant' has all",) * 2

    @pytest.mark.parametrize(
        ("of", "known"),
        [
            (session(), {}),
            (session(stop=True), {"a_bot": bot()}),
            (session(body={"text": "x" * BODY_MAX}), {"a_bot": bot()}),
            (session(age_s=180), {"a_bot": bot()}),
        ],
        ids=["no-bot", "stopped", "large-body", "too-late"],
    )
    def test_who_will_not_start_asks_for_no_slot(self, of, known):
        plan = decide(observed(of, needs_slot=True, **known), NOW)
        assert (plan.look, plan.start) == (None, False)

    def test_a_missing_bot_is_waited_for_and_told_once(self):
        plan = decide(observed(session()), NOW)
        assert not plan.start
        assert plan.status.phase is Phase.PENDING
        assert plan.event.reason is EndReason.BOT_NOT_FOUND
        assert "assistant" in plan.event.message
        told = session(plan.status.model_dump(mode="json", by_alias=True, exclude_none=True))
        again = decide(observed(told), NOW)
        assert (again.status, again.event, again.start) == (None, None, False)
        assert again.wake_at == told.metadata.creation_timestamp + timedelta(seconds=180)

    def test_a_bot_missing_for_too_long_ends_the_session(self):
        plan = decide(observed(session(age_s=180)), NOW)
        assert plan.status.end_reason is EndReason.BOT_NOT_FOUND

    def test_trouble_with_daily_is_told_while_trying_on(self):
        trouble = Trouble(EndReason.ROOM_FAILED, "Daily gave no answer", NOW)
        plan = decide(observed(session(), bot(), start_trouble=trouble), NOW)
        assert plan.start
        assert plan.status.condition(ConditionType.ROOM_READY).message.startswith("Daily gave no answer. ")

    def test_trouble_with_daily_for_too_long_ends_the_session(self):
        trouble = Trouble(EndReason.ROOM_FAILED, "Daily gave no answer", NOW)
        late = observed(session(age_s=180), bot(), start_trouble=trouble)
        assert decide(late, NOW).look is Look.JOB
        plan = decide(replace(late, job_is_gone=True), NOW)
        assert plan.status.end_reason is EndReason.ROOM_FAILED

    @pytest.mark.parametrize("spec", [{"stop": True}, {"age_s": 180}], ids=["stopped", "too-late"])
    def test_a_job_whose_making_was_not_answered_is_looked_for_before_the_end(self, spec):
        trouble = Trouble(EndReason.START_TIMEOUT, "no answer to POST", NOW)
        tried = observed(session(**spec), bot(), start_trouble=trouble)
        assert decide(tried, NOW).look is Look.JOB
        plan = decide(replace(tried, job_is_gone=False), NOW)
        assert (plan.status, plan.start) == (None, False), "the cache is about to know it, too"

    def test_a_session_seen_too_late_says_that_nobody_tried(self):
        plan = decide(observed(session(age_s=180), bot()), NOW)
        assert (plan.start, plan.status.end_reason) == (False, EndReason.START_TIMEOUT)
        assert "the operator was away, or its clock is ahead" in plan.status.message

    def test_a_bot_that_an_earlier_try_started_is_ended_when_trying_on_is_hopeless(self):
        why = Conclusion(EndReason.ROOM_FAILED, "Daily refused create_room (401)")
        plan = give_up(observed(session(), bot(), job=job()), why, NOW)
        assert (plan.status.phase, plan.terminate) == (Phase.ENDING, True)
        assert give_up(observed(session(), bot()), why, NOW).status.phase is Phase.FAILED

    def test_a_job_that_no_status_names_is_given_up_in_time(self):
        young = observed(session(), bot(), job=job())
        assert decide(young, NOW).wake_at == young.session.metadata.creation_timestamp + timedelta(seconds=180)
        late = observed(session(age_s=180), bot(), job=job(), pod=pod(), cause_looked_for=True)
        plan = decide(late, NOW)
        assert (plan.start, plan.status.end_reason, plan.terminate) == (False, EndReason.START_TIMEOUT, True)

    def test_a_job_that_no_status_names_is_met_by_starting_again(self):
        assert decide(observed(session(), bot(), job=job()), NOW).start


class TestBeforeTheRoom:
    def test_a_ready_pod_is_running(self):
        plan = decide(
            observed(starting(), bot(), job=job(), pod=pod(phase="Running", ready_at=NOW, ip="10.0.0.7")), NOW
        )
        assert (plan.status.phase, plan.status.joined_at) == (Phase.RUNNING, NOW)
        assert (plan.status.pod_name, plan.status.pod_ip) == (f"bs-{UID}-x", "10.0.0.7")

    def test_a_young_job_is_waited_for(self):
        plan = decide(observed(starting(), bot(), job=job(), pod=pod()), NOW)
        assert (plan.status, plan.look, plan.terminate) == (None, None, False)
        assert plan.wake_at > NOW

    @pytest.mark.parametrize("reason", [EndReason.UNSCHEDULABLE, EndReason.IMAGE_PULL_FAILED, EndReason.BAD_CONFIG])
    def test_trouble_is_told_once_it_lasts(self, reason):
        young = Trouble(reason, "why", NOW - PATIENCE + SECOND)
        of_young = observed(starting(), bot(), job=job(), pod=pod(trouble=young))
        assert decide(of_young, NOW).status is None
        assert decide(of_young, NOW).wake_at == young.since + PATIENCE
        plan = decide(
            observed(starting(), bot(), job=job(), pod=pod(trouble=replace(young, since=NOW - PATIENCE))), NOW
        )
        assert plan.status.condition(ConditionType.BOT_READY).reason == reason
        assert plan.event.reason is reason
        assert plan.status.phase is Phase.STARTING

    @pytest.mark.parametrize("reason", [EndReason.UNSCHEDULABLE, EndReason.IMAGE_PULL_FAILED, EndReason.BAD_CONFIG])
    def test_past_the_start_timeout_the_most_specific_reason_is_given(self, reason):
        late = starting().model_copy(update={"metadata": session(age_s=180).metadata})
        plan = decide(observed(late, bot(), job=job(), pod=pod(trouble=Trouble(reason, "why", NOW))), NOW)
        assert (plan.status.phase, plan.status.end_reason, plan.terminate) == (Phase.ENDING, reason, True)

    def test_a_job_without_a_pod_makes_us_look_for_the_cause(self):
        old = job(created_at=NOW - PATIENCE)
        assert decide(observed(starting(), bot(), job=old), NOW).look is Look.CAUSE
        cause = Trouble(EndReason.POD_REFUSED, "exceeded quota", NOW - PATIENCE)
        plan = decide(observed(starting(), bot(), job=old, cause=cause, cause_looked_for=True), NOW)
        assert plan.status.condition(ConditionType.BOT_READY).message.startswith("exceeded quota. Raise the quota")

    def test_a_cause_found_too_young_is_looked_at_again(self):
        """A Job's creation is told in whole seconds: it seems older than what was seen since."""
        cause = Trouble(EndReason.POD_REFUSED, "exceeded quota", NOW - PATIENCE + SECOND / 2)
        seen = observed(starting(), bot(), job=job(created_at=NOW - PATIENCE), cause=cause, cause_looked_for=True)
        assert (decide(seen, NOW).status, decide(seen, NOW).wake_at) == (None, cause.since + PATIENCE)

    def test_a_silent_start_ends_as_start_timeout(self):
        late = starting().model_copy(update={"metadata": session(age_s=180).metadata})
        seen = observed(late, bot(), job=job(), pod=pod(phase="Running"))
        assert decide(seen, NOW).look is Look.CAUSE
        plan = decide(replace(seen, cause_looked_for=True), NOW)
        assert (plan.status.end_reason, plan.terminate) == (EndReason.START_TIMEOUT, True)

    def test_a_job_refused_for_now_is_told_of_the_job_not_of_the_room(self):
        trouble = Trouble(EndReason.POD_REFUSED, "exceeded quota", NOW)
        plan = decide(observed(session(), bot(), start_trouble=trouble), NOW)
        assert plan.start
        assert plan.status.condition(ConditionType.JOB_CREATED).reason == EndReason.POD_REFUSED
        assert plan.status.condition(ConditionType.ROOM_READY) is None

    @pytest.mark.parametrize(
        ("a_pod", "says"),
        [
            (None, "kube-controller-manager"),
            (pod(node=""), "kube-scheduler"),
            (pod(), "Node node has not started its pod"),
            (pod(phase="Running"), "see the log of pod"),
        ],
    )
    def test_a_cluster_that_is_silent_for_long_is_named(self, a_pod, says):
        old = job(created_at=NOW - SILENCE + SECOND)
        seen = observed(starting(), bot(), job=old, pod=a_pod, cause_looked_for=True)
        assert decide(seen, NOW).status is None
        assert decide(seen, NOW).wake_at == old.created_at + SILENCE
        plan = decide(seen, NOW + SECOND)
        assert (plan.status.phase, plan.event.reason) == (Phase.STARTING, EndReason.START_TIMEOUT)
        assert says in plan.status.message

    @pytest.mark.parametrize("a_pod", [None, pod(node=""), pod(), pod(phase="Running")])
    def test_a_timeout_names_who_was_silent(self, a_pod):
        late = starting().model_copy(update={"metadata": session(age_s=180).metadata})
        plan = decide(observed(late, bot(), job=job(), pod=a_pod, cause_looked_for=True), NOW)
        assert plan.status.end_reason is EndReason.START_TIMEOUT
        assert plan.status.message.startswith("The bot was not in the room within 180 s. ")
        assert len(plan.status.message) > 60


class TestTheEnd:
    def test_stop_is_written_before_the_bot_is_ended(self):
        stopped = running().model_copy(update={"spec": session(stop=True).spec})
        plan = decide(observed(stopped, bot(), job=job(), pod=pod(phase="Running")), NOW)
        assert (plan.status.phase, plan.status.end_reason) == (Phase.ENDING, EndReason.STOPPED)
        assert plan.terminate

    def test_ending_goes_on_where_a_crash_left_it(self):
        ending = session({"phase": "Ending", "endReason": "Stopped", "jobName": f"bs-{UID}"})
        assert decide(observed(ending, bot(), job=job(), pod=pod(phase="Running")), NOW).terminate
        leaving = pod(phase="Running", deletion_at=NOW + 30 * SECOND)
        plan = decide(observed(ending, bot(), job=job(), pod=leaving), NOW)
        assert (plan.terminate, plan.wake_at) == (False, leaving.deletion_at + OVERDUE)

    def test_the_reason_that_was_written_stays(self):
        ending = session({"phase": "Ending", "endReason": "Stopped", "message": "m", "jobName": f"bs-{UID}"})
        ended = pod(phase="Succeeded", exit_code=0, termination_message='{"reason": "UserLeft", "message": ""}')
        assert decide(observed(ending, bot(), job=job(), pod=ended), NOW).status.end_reason is EndReason.STOPPED

    @pytest.mark.parametrize("phase", ["Succeeded", "Failed"])
    def test_a_terminal_pod_ends_it_before_the_job_says_so(self, phase):
        plan = decide(observed(running(), bot(), job=job(), pod=pod(phase=phase, exit_code=0)), NOW)
        assert plan.status.phase.finished
        assert plan.status.condition(ConditionType.FINISHED).status == "True"

    def test_a_job_that_failed_without_a_pod_ends_it(self):
        failed = observed(running(), bot(), job=job(conditions=FAILED_BY_POLICY))
        assert decide(failed, NOW).look is Look.POD
        plan = decide(replace(failed, pod_looked_for=True), NOW)
        assert plan.status.end_reason is EndReason.BOT_FAILED

    @pytest.mark.parametrize("last_seen", [None, pod(phase="Running")], ids=["never-seen", "running"])
    def test_a_job_that_ended_makes_us_look_how_its_pod_did(self, last_seen):
        """Of two watches either may lag: the Job's end came, the pod's is still on its way."""
        done = job(conditions={"SuccessCriteriaMet": ConditionView("CompletionsReached", "")})
        lagging = observed(running(), bot(), job=done, pod=last_seen)
        assert decide(lagging, NOW).look is Look.POD
        left = pod(phase="Succeeded", exit_code=0, termination_message='{"reason": "UserLeft", "message": ""}')
        plan = decide(replace(lagging, pod=left, pod_looked_for=True), NOW)
        assert plan.status.end_reason is EndReason.USER_LEFT
        plan = decide(replace(lagging, pod_looked_for=True), NOW)
        assert plan.status.end_reason is EndReason.BOT_FINISHED, "nobody can tell any more"

    def test_a_deadline_is_told_and_the_pod_waited_for(self):
        over = {"FailureTarget": ConditionView("DeadlineExceeded", "Job was active longer than specified deadline")}
        going = pod(phase="Running", deletion_at=NOW + 30 * SECOND)
        plan = decide(observed(running(), bot(), job=job(conditions=over), pod=going), NOW)
        assert (plan.status.phase, plan.status.end_reason) == (Phase.ENDING, EndReason.DEADLINE_EXCEEDED)
        assert not plan.terminate, "the Job controller deletes the pod itself"

    def test_a_deleted_pod_waits_for_the_word_of_its_job(self):
        """The Job controller deletes the pod at the deadline, and tells why a moment later."""
        stopped = '{"reason": "Stopped", "message": "SIGTERM"}'
        ended = pod(
            phase="Succeeded", exit_code=0, termination_message=stopped, deletion_at=NOW, finished_at=NOW, gone=True
        )
        silent = observed(running(), bot(), job=job(), pod=ended)
        assert (decide(silent, NOW).status, decide(silent, NOW).wake_at) == (None, NOW + PATIENCE)
        assert decide(silent, NOW + PATIENCE).status.end_reason is EndReason.BOT_DELETED
        over = {"FailureTarget": ConditionView("DeadlineExceeded", "Job was active longer than specified deadline")}
        told = replace(silent, job=job(conditions=over))
        assert decide(told, NOW).status.end_reason is EndReason.DEADLINE_EXCEEDED

    def test_a_deletion_past_its_grace_is_a_lost_node(self):
        leaving = pod(phase="Running", deletion_at=NOW - OVERDUE)
        assert decide(observed(running(), bot(), job=job(), pod=leaving), NOW).status.end_reason is EndReason.NODE_LOST
        almost = pod(phase="Running", deletion_at=NOW - OVERDUE + SECOND)
        assert decide(observed(running(), bot(), job=job(), pod=almost), NOW).status is None

    def test_a_pod_that_never_had_a_node_is_not_waited_for(self):
        ending = session({"phase": "Ending", "endReason": "Unschedulable", "jobName": f"bs-{UID}"})
        seen = observed(ending, bot(), job=job(), pod=pod(node="", deletion_at=NOW))
        assert decide(seen, NOW).status.end_reason is EndReason.UNSCHEDULABLE

    def test_a_job_that_is_gone_is_asked_for_and_never_made_twice(self):
        missing = observed(running(), bot())
        assert decide(missing, NOW).look is Look.JOB
        plan = decide(replace(missing, job_is_gone=True), NOW)
        assert (plan.status.end_reason, plan.start) == (EndReason.BOT_DELETED, False)
        assert decide(replace(missing, job_is_gone=False), NOW).status is None


class TestConclude:
    @pytest.mark.parametrize("reason", ["UserLeft", "BotFinished", "MaxDuration", "NoShow", "Idle", "Ejected"])
    def test_the_host_is_believed(self, reason):
        ended = pod(phase="Succeeded", exit_code=0, termination_message=f'{{"reason": "{reason}", "message": "m"}}')
        found = conclude(observed(running(), bot(), job=job(), pod=ended))
        assert (found.reason, found.message) == (EndReason(reason), "m")
        assert found.reason.phase is Phase.SUCCEEDED

    @pytest.mark.parametrize(
        "message", ["", "Traceback ...", '{"reason": "OutOfMemory"}', "[]", '{"reason": 5}', "null"]
    )
    def test_other_words_are_not(self, message):
        ended = pod(phase="Failed", exit_code=3, termination_message=message)
        found = conclude(observed(running(), bot(), job=job(), pod=ended))
        assert found.reason is EndReason.BOT_FAILED
        assert "Exit code 3" in found.message

    @pytest.mark.parametrize(
        ("code", "reason"),
        [
            (0, "BotFinished"),
            (1, "BotFailed"),
            (64, "BadConfig"),
            (70, "BotFailed"),
            (75, "JoinFailed"),
            (137, "BotFailed"),
        ],
    )
    def test_exit_codes_speak_where_no_message_was_left(self, code, reason):
        ended = pod(phase="Failed" if code else "Succeeded", exit_code=code)
        assert conclude(observed(running(), bot(), job=job(), pod=ended)).reason == reason

    @pytest.mark.parametrize(
        ("disruption", "reason"),
        [
            ("EvictionByEvictionAPI", "Evicted"),
            ("TerminationByKubelet", "Evicted"),
            ("PreemptionByScheduler", "Preempted"),
            ("DeletionByTaintManager", "NodeLost"),
            ("DeletionByPodGC", "NodeLost"),
        ],
    )
    def test_what_the_cluster_did_outweighs_the_hosts_sigterm(self, disruption, reason):
        stopped = '{"reason": "Stopped", "message": "SIGTERM"}'
        ended = pod(
            phase="Succeeded", exit_code=0, termination_message=stopped, disruption=ConditionView(disruption, "why")
        )
        assert conclude(observed(running(), bot(), job=job(), pod=ended)).reason == reason

    @pytest.mark.parametrize(
        ("pod_reason", "reason"), [("Evicted", "Evicted"), ("Terminated", "Evicted"), ("Preempting", "Preempted")]
    )
    def test_the_kubelets_words_are_told_not_the_hosts(self, pod_reason, reason):
        stopped = '{"reason": "Stopped", "message": "SIGTERM"}'
        why = ConditionView("TerminationByKubelet", "The node was low on resource: memory.")
        ended = pod(phase="Failed", exit_code=0, termination_message=stopped, reason=pod_reason, disruption=why)
        found = conclude(observed(running(), bot(), job=job(), pod=ended))
        assert found.reason == reason
        assert found.message.startswith("Node node: The node was low on resource: memory. ")

    def test_memory(self):
        ended = pod(phase="Failed", exit_code=137, exit_reason="OOMKilled")
        found = conclude(observed(running(), bot(), job=job(), pod=ended))
        assert found.reason is EndReason.OUT_OF_MEMORY
        assert "resources.limits.memory" in found.message

    def test_a_pod_deleted_by_hand(self):
        stopped = '{"reason": "Stopped", "message": "SIGTERM"}'
        ended = pod(phase="Succeeded", exit_code=0, termination_message=stopped, deletion_at=NOW, gone=True)
        assert conclude(observed(running(), bot(), job=job(), pod=ended)).reason is EndReason.BOT_DELETED
        counted = job(conditions={"SuccessCriteriaMet": ConditionView("CompletionsReached", "")})
        assert conclude(observed(running(), bot(), job=counted, pod=ended)).reason is EndReason.BOT_DELETED

    @pytest.mark.parametrize(
        ("message", "reason"),
        [
            ("Pod default/x has condition DisruptionTarget matching FailJob rule at index 0", "Evicted"),
            ("Container bot for pod default/x failed with exit code 75 matching FailJob rule at index 1", "JoinFailed"),
            ("Container bot for pod default/x failed with exit code 9 matching FailJob rule at index 1", "BotFailed"),
        ],
    )
    def test_the_job_remembers_what_the_pod_can_no_longer_tell(self, message, reason):
        failed = job(conditions={"FailureTarget": ConditionView("PodFailurePolicy", message)})
        assert conclude(observed(running(), bot(), job=failed)).reason == reason

    @given(message=st.text(max_size=6000), code=st.integers(0, 255), exit_reason=st.text(max_size=20))
    def test_any_pod_has_a_reason_and_a_bounded_message(self, message, code, exit_reason):
        ended = pod(phase="Failed", exit_code=code, exit_reason=exit_reason, termination_message=message)
        found = conclude(observed(running(), bot(), job=job(), pod=ended))
        assert found.reason in EndReason
        assert len(found.message) < 1200


def test_a_cause_that_cannot_be_read_is_not_waited_for_for_ever():
    assert not has_waited_long(observed(session(age_s=180 + SILENCE.seconds - 1)), NOW)
    assert has_waited_long(observed(session(age_s=180 + SILENCE.seconds)), NOW)
