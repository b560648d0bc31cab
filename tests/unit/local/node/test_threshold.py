"""Kubelet's thresholds."""

from hypothesis import given
from hypothesis import strategies as st

from pipecat_local.node.threshold import Threshold

counts = st.integers(1, 4)


def says(success: int, failure: int, results: list[bool]) -> list[bool | None]:
    threshold, said = Threshold(success, failure), []
    for result in results:
        threshold, answer = threshold.seen(result)
        said.append(answer)
    return said


def test_a_failure_counts_after_as_many_as_the_threshold() -> None:
    assert says(1, 3, [True, False, False, False, True]) == [True, None, None, False, True]


def test_a_run_that_is_broken_begins_again() -> None:
    assert says(2, 2, [True, False, True, True]) == [None, None, None, True]


@given(counts, counts, st.lists(st.booleans(), max_size=30))
def test_it_says_what_the_last_run_says_once_it_is_long_enough(success: int, failure: int, results: list[bool]) -> None:
    for end, said in enumerate(says(success, failure, results), start=1):
        last = results[end - 1]
        long_enough = end >= (need := success if last else failure) and set(results[end - need : end]) == {last}
        assert said is (last if long_enough else None)
