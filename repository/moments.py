"""A time as people write it behind `@`: a day, a minute, a second, or how long ago."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

from repository.errors import InvalidRequestError

AGE = re.compile(r"(\d{1,6})([smhdw])")
AGE_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
CLOCK = re.compile(r"(\d{4}-\d\d-\d\d)(?:[T ](\d\d:\d\d)(:\d\d(?:\.\d{1,9})?)?)?(Z|[+-]\d\d:\d\d)?")
MICROSECONDS_SHOWN = 7  # a point and six digits


def parse_moment(text: str, now: datetime) -> datetime:
    """The last instant of the day, minute or second that `text` names; of an age (`3h`) that instant.

    A time without a zone is of this machine's zone. That a second counts whole lets what a listing shows,
    which has no fractions, be written back.

    Raises:
        InvalidRequestError: It is no time.
    """
    age, found = AGE.fullmatch(text), CLOCK.fullmatch(text)
    try:
        if age:
            return now - timedelta(seconds=int(age[1]) * AGE_SECONDS[age[2]])
        return _end_of(found) if found else _refuse(text)
    except (ValueError, OverflowError):
        return _refuse(text)


def _end_of(found: re.Match[str]) -> datetime:
    day, minute, second, zone = found.groups()
    if minute is None:
        length = timedelta(days=1)
    elif second is None:
        length = timedelta(minutes=1)
    else:
        length = timedelta(seconds=0 if "." in second else 1)
    clock = f"{minute or '00:00'}{(second or ':00')[: 3 + MICROSECONDS_SHOWN]}"
    if "." in clock:
        clock = f"{clock:0<15}"
    start = datetime.fromisoformat(f"{day}T{clock}{(zone or '').replace('Z', '+00:00')}")
    local = start if start.tzinfo else start.astimezone()
    # a manifest's digits below a microsecond are dropped where it is read
    return (local + max(length - timedelta(microseconds=1), timedelta(0))).astimezone(UTC)


def _refuse(text: str) -> datetime:
    raise InvalidRequestError(
        f"{text!r} is no time: write 2026-11-30, 2026-11-30T14:05, 2026-11-30T14:05:10Z or an age like 3h, 2d"
    )
