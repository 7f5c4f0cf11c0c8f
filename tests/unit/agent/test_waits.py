from __future__ import annotations

from datetime import timedelta

from agent.control.waits import Waits
from tests.fakes.resources import T0, after


def test_a_clock_that_is_set_changes_no_wait() -> None:
    clock = [1000.0]
    waits = Waits(lambda: clock[0])
    assert waits.seconds("u", T0, after(60)) == 60
    clock[0] += 5
    for jump in (timedelta(hours=9), -timedelta(hours=9)):
        assert waits.seconds("u", T0, after(65) + jump) == 65


def test_a_moment_that_another_clock_puts_into_the_future_is_now() -> None:
    clock = [1000.0]
    waits = Waits(lambda: clock[0])
    assert waits.seconds("u", after(3600), T0) == 0
    clock[0] += 7
    assert waits.seconds("u", after(3600), after(7)) == 7


def test_each_moment_is_waited_from_by_itself_until_the_move_is_gone() -> None:
    clock = [1000.0]
    waits = Waits(lambda: clock[0])
    waits.seconds("u", T0, after(60))
    assert waits.seconds("u", after(50), after(60)) == 10
    waits.forget("u")
    assert waits.seconds("u", T0, after(10)) == 10
