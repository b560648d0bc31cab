"""What users are told to do, by the real sentences of Kubernetes and Daily."""

import pytest

from pipecat_operator.advice import advised
from pipecat_operator.conditions import EndReason

QUOTA = 'pods "x" is forbidden: exceeded quota: tight, requested: pods=1, used: pods=1, limited: pods=1'
POLICY = "jobs.batch \"x\" is forbidden: ValidatingAdmissionPolicy 'p' with binding 'b' denied request: no bots here"
RIGHTS = 'User "system:serviceaccount:a:b" cannot create resource "jobs" in API group "batch"'


@pytest.mark.parametrize(
    ("reason", "message", "advice"),
    [
        (EndReason.POD_REFUSED, QUOTA, "Raise the quota"),
        (EndReason.POD_REFUSED, POLICY, "admission policy"),
        (EndReason.POD_REFUSED, RIGHTS, "Give the operator's service account that right."),
        (EndReason.START_TIMEOUT, RIGHTS, "Give the operator's service account that right."),
        (EndReason.POD_REFUSED, "maximum cpu usage per Container is 100m, but limit is 1", "LimitRange"),
        (EndReason.POD_REFUSED, 'violates PodSecurity "restricted:latest"', "pod-security label"),
        (EndReason.POD_REFUSED, 'error looking up service account x/y: serviceaccount "y" not found', "Create it"),
        (EndReason.POD_REFUSED, "something new", "podTemplate"),
        (EndReason.ROOM_FAILED, "Daily refused create_room (401): authentication-error", "DAILY_API_KEY"),
        (EndReason.ROOM_FAILED, "Daily refused create_room (400): property 'x'", "room properties"),
        (EndReason.ROOM_FAILED, "Daily gave no answer to create_room: ClientOSError", "the operator's way to Daily"),
        (EndReason.BAD_CONFIG, "A Job 'x' that isn't this session's stands in the way.", "Delete it."),
        (EndReason.IMAGE_PULL_FAILED, "ErrImagePull: not found", "imagePullSecrets"),
    ],
)
def test_the_message_ends_with_what_to_do(reason: EndReason, message: str, advice: str):
    text = advised(reason, message)
    assert text.startswith(message)
    assert advice in text.removeprefix(message)


def test_a_reason_that_speaks_for_itself_is_left_alone():
    assert advised(EndReason.BODY_TOO_LARGE, "At most 65536.") == "At most 65536."
