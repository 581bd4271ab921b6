"""The first attempt that is not void owns its job."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from reminding.lab.train.sweep.attempts import Attempt, State, all_settled, free_jobs, last_params, owners

STATES: list[State] = ["running", "complete", "pruned", "failed", "void"]
ATTEMPTS = st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from(STATES)), max_size=8).map(
    lambda drawn: [Attempt(number, job, state, "worker") for number, (job, state) in enumerate(drawn)]
)


@given(ATTEMPTS, st.randoms())
def test_a_job_is_owned_by_its_first_attempt_that_is_not_void(attempts: list[Attempt], order: random.Random) -> None:
    shuffled = order.sample(attempts, len(attempts))
    owned = owners(shuffled)
    for job in "ab":
        own = [each for each in attempts if each.job == job and each.state != "void"]
        assert owned.get(job) == (own[0] if own else None)
        assert (job in free_jobs("ab", shuffled)) == (not own)
    assert all_settled("ab", shuffled) == all(job in owned and owned[job].state != "running" for job in "ab")


def test_jobs_are_free_in_their_order() -> None:
    assert free_jobs(["c", "a", "b"], [Attempt(0, "a", "running", "worker")]) == ["c", "b"]


def test_a_trial_is_run_again_with_the_values_of_the_attempt_that_died() -> None:
    first = Attempt(0, "a", "void", "worker", params={"lr": 0.1})
    surplus = Attempt(1, "a", "void", "worker")
    other = Attempt(2, "b", "void", "worker", params={"lr": 0.2})
    assert last_params("a", [first, surplus, other]) == {"lr": 0.1}
    assert last_params("c", [first, surplus, other]) == {}
