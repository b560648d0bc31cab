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


@pytest.mark.parametrize("name", ["a", "team-1", "a" * 63])
def test_namespaces_are_names_as_kubernetes_has_them(monkeypatch, name):
    monkeypatch.setenv("DAILY_API_KEY", "key")
    monkeypatch.setenv("PIPECAT_OPERATOR_NAMESPACE", name)
    monkeypatch.setenv("PIPECAT_OPERATOR_WATCH_NAMESPACES", f"b,{name}")
    settings = load()
    assert (settings.namespace, settings.watch_namespaces) == (name, ("b", name))


@pytest.mark.parametrize(
    "name", ["*", "A", "a b", "a/../b", "a?x=1", "a.b", "-a", "a-", "ä", "a\nb", "a" * 64, "https://s"]
)
@pytest.mark.parametrize("variable", ["PIPECAT_OPERATOR_NAMESPACE", "PIPECAT_OPERATOR_WATCH_NAMESPACES"])
def test_what_can_be_no_namespace_is_refused(monkeypatch, variable, name):
    """Their names become part of URLs."""
    monkeypatch.setenv("DAILY_API_KEY", "key")
    monkeypatch.setenv(variable, name)
    with pytest.raises(SettingsError) as caught:
        load()
    assert str(caught.value) == (
        f"Wrong settings:\n  {variable}: is not the name of a namespace: "
        "1 to 63 of a-z, 0-9 and -, with no - at either end"
    )
