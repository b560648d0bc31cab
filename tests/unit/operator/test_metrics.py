"""What is counted is there before it happens."""

import inspect
import re

from pipecat_operator.conditions import EndReason
from pipecat_operator.daily import Daily
from pipecat_operator.metrics import DAILY_OPERATIONS, Metrics


def test_the_first_end_of_every_reason_is_an_increase():
    shown = Metrics().text().decode().splitlines()
    for reason in EndReason:
        assert f'pipecat_sessions_ended_total{{phase="{reason.phase}",reason="{reason}"}} 0.0' in shown


def test_the_first_refusal_of_the_key_is_an_increase():
    operations = re.findall(r'_call\("[A-Z]+", f?"[^"]+", "(\w+)"', inspect.getsource(Daily))
    assert sorted(operations) == sorted(DAILY_OPERATIONS)
    shown = Metrics().text().decode().splitlines()
    for operation in operations:
        assert f'pipecat_daily_request_seconds_count{{operation="{operation}",outcome="401"}} 0.0' in shown
