"""What the API server's refusals mean."""

import pytest

from pipecat_operator.kube import ApiError, OtherObject, Refused, Unavailable, error_of

LACKS = 'pods is forbidden: User "x" cannot list resource "pods" in API group "" in the namespace "n"'


@pytest.mark.parametrize(
    ("method", "code", "said", "means"),
    [
        ("PATCH", 422, {"reason": "Invalid", "message": "the server rejected our request", "details": {}}, OtherObject),
        ("PATCH", 422, {"reason": "Invalid", "details": {"name": "s", "causes": [{"field": "status.phase"}]}}, Refused),
        ("POST", 422, {"reason": "Invalid", "details": {}}, Refused),
        ("POST", 500, {"message": "etcdserver: request is too large"}, Refused),
        ("PATCH", 500, {"message": "desc = trying to send message larger than max (3000423 vs. 2097152)"}, Refused),
        ("POST", 500, {"message": "etcdserver: leader changed"}, Unavailable),
        ("GET", 403, {"message": LACKS}, Refused),
        ("GET", 403, {"message": f'{LACKS}: rbac: RBAC: [role.rbac.authorization.k8s.io "x" not found]'}, Refused),
    ],
    ids=[
        *("test-of-a-patch", "schema", "invalid", "too-large-for-etcd", "too-large-on-the-way", "later"),
        *("no-right", "roles-not-read-yet"),
    ],
)
def test_an_answer(method: str, code: int, said: dict, means: type[ApiError]):
    """As Kubernetes 1.37 words them: tried."""
    assert type(error_of(method, code, said)) is means
