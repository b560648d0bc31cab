"""Requests within bounds, what the API server refuses, and where the gateway may listen."""

import pytest

from pipecat_gateway.settings import load
from pipecat_gateway.wire import requests
from pipecat_gateway.wire.errors import Problem, from_api
from pipecat_operator.kube import error_of
from pipecat_operator.settings import SettingsError


@pytest.mark.parametrize("text", [b"", b"  \n", b"{}"])
def test_nothing_is_an_empty_request(text):
    assert requests.parse(text) == {}


@pytest.mark.parametrize(
    "text",
    [
        b"{",
        b"[1]",
        b'"x"',
        b"null",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"x": NaN}',
        b'{"x": -Infinity}',
        b'{"x": 1e999}',
        b'{"x": ' + b"9" * 5000 + b"}",
    ],
)
def test_what_is_no_object_is_a_400(text):
    with pytest.raises(Problem) as caught:
        requests.parse(text)
    assert (caught.value.status, caught.value.code) == (400, "bad_json")
    assert "sys." not in caught.value.error


def nested(levels: int) -> bytes:
    """An object in an array in an object ..."""
    text = "1"
    for level in range(levels, 0, -1):
        text = f'{{"a": {text}}}' if level % 2 else f"[{text}]"
    return text.encode()


def test_nesting_has_a_bound():
    assert requests.parse(nested(requests.DEPTH_MAX))
    with pytest.raises(Problem, match="more than 100 levels"):
        requests.parse(nested(requests.DEPTH_MAX + 1))


@pytest.mark.parametrize(
    ("code", "answered"), [(404, 404), (403, 403), (422, 400), (409, 409), (429, 503), (500, 503), (401, 503), (0, 503)]
)
def test_the_api_servers_refusals(code, answered):
    assert from_api(error_of("POST", code, {"message": "said"}), "It").status == answered


def test_rights_that_the_gateway_lacks_are_not_the_callers_business():
    said = 'bots.pipecat.dev "x" is forbidden: User "system:serviceaccount:a:b" cannot get resource "bots"'
    problem = from_api(error_of("GET", 403, {"message": said}), "It")
    assert (problem.status, problem.code) == (500, "misconfigured")
    assert "serviceaccount" not in problem.error


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.0.1", "::1", "localhost"])
def test_loopback_needs_no_leave(monkeypatch, host):
    monkeypatch.setenv("PIPECAT_GATEWAY_HOST", host)
    assert load(insecure=False).host == host


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "gateway.test", ""])
def test_elsewhere_needs_leave(monkeypatch, host):
    monkeypatch.setenv("PIPECAT_GATEWAY_HOST", host)
    assert load(insecure=True).host == host
    with pytest.raises(SettingsError, match="--insecure"):
        load(insecure=False)
