"""Settings from the environment."""

import pytest

from pipecat_operator.settings import SettingsError, load


@pytest.fixture(autouse=True)
def _clean(monkeypatch):
    for name in ("DAILY_API_KEY", "DAILY_API_URL", "POD_IP"):
        monkeypatch.delenv(name, raising=False)


def test_defaults(monkeypatch):
    monkeypatch.setenv("DAILY_API_KEY", "key")
    settings = load()
    assert str(settings.daily_api_url) == "https://api.daily.co/v1"
    assert settings.daily_tokens == "self-signed"


def test_one_message_names_all_that_is_wrong_and_no_value(monkeypatch):
    monkeypatch.setenv("DAILY_API_URL", "s3cret-nonsense")
    monkeypatch.setenv("PIPECAT_OPERATOR_HTTP_PORT", "99999")
    monkeypatch.setenv("PIPECAT_OPERATOR_DAILY_TOKENS", "s3cret-paper")
    with pytest.raises(SettingsError) as caught:
        load()
    message = str(caught.value)
    for name in ("DAILY_API_KEY", "DAILY_API_URL", "PIPECAT_OPERATOR_HTTP_PORT", "PIPECAT_OPERATOR_DAILY_TOKENS"):
        assert name in message
    assert "s3cret" not in message


def test_namespaces_are_a_comma_separated_list(monkeypatch):
    monkeypatch.setenv("DAILY_API_KEY", "key")
    monkeypatch.setenv("PIPECAT_OPERATOR_WATCH_NAMESPACES", "a, b,")
    assert load().watch_namespaces == ("a", "b")


def test_the_key_is_not_shown(monkeypatch):
    monkeypatch.setenv("DAILY_API_KEY", "s3cret")
    assert "s3cret" not in repr(load())
