"""The vocabulary between agent and mover: what is encoded is decoded, and nothing else is believed."""

from __future__ import annotations

import contextlib

from hypothesis import given
from hypothesis import strategies as st

from mover.protocol import (
    BackupRequest,
    Progress,
    ProtocolError,
    RepositoryAccess,
    RestoreRequest,
    decode_progress,
    decode_request,
    encode_progress,
    encode_request,
)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(), lambda inner: st.dictionaries(st.text(), inner)
)
access = st.builds(
    RepositoryAccess,
    name=st.text(),
    location=st.dictionaries(st.text(), json_values),
    volume_namespace=st.text(),
    password_path=st.text(),
)
seconds = st.floats(min_value=0, max_value=1e6)
backups = st.builds(
    BackupRequest, repository=access, tags=st.dictionaries(st.text(), st.text()), progress_seconds=seconds
)
restores = st.builds(RestoreRequest, repository=access, progress_seconds=seconds)


@given(backups | restores)
def test_request_survives_the_round_trip(request: BackupRequest | RestoreRequest) -> None:
    text = encode_request(request)
    assert decode_request(text) == request
    assert "\n" not in text


@given(st.text() | json_values.map(str))
def test_any_text_is_a_request_or_a_protocol_error(text: str) -> None:
    with contextlib.suppress(ProtocolError):
        decode_request(text)


@given(st.builds(Progress))
def test_progress_survives_the_round_trip(progress: Progress) -> None:
    assert decode_progress(encode_progress(progress)) == progress


@given(st.text())
def test_other_lines_are_no_progress(line: str) -> None:
    assert decode_progress(line) is None or '"progress"' in line
