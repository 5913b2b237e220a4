"""The emulator's view of a mail over IMAP, also of mail that no standard foresaw."""

import pytest

from devstack.gmail.imap_sections import Entity

BODY = b"\n\n--b\n\nwords\n--b--\n"


@pytest.mark.parametrize(("parameters", "parts"), [(b"", 1), (b"; name*=''x; name*0=y", 0)])
def test_a_multipart_whose_parameters_cannot_be_read_has_no_parts(parameters: bytes, parts: int) -> None:
    raw = b"Content-Type: multipart/mixed; boundary=b" + parameters + BODY
    assert len(Entity.of(raw).parts()) == parts
