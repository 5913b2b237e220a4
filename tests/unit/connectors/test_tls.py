"""What a failed handshake means, and files that are not what they should be."""

import ssl
from pathlib import Path

import pytest

from connectors.errors import ConfigurationError
from connectors.tls import refused_handshake, tls_context
from tests.certificates import Authority


def test_names_are_checked_and_only_the_given_authority_is_trusted(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    context = tls_context("KAFKA", authority.ca_file, authority.issue("client"))
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED
    [trusted] = context.get_ca_certs()
    assert trusted["subject"] == ((("commonName", "authority"),),)


def test_files_that_do_not_fit_name_their_settings(tmp_path: Path) -> None:
    authority = Authority(tmp_path, "authority")
    certificate, other = authority.issue("client"), authority.issue("other")
    with pytest.raises(ConfigurationError, match=r"KAFKA_CLIENT_CERTIFICATE_FILE .*KAFKA_CLIENT_KEY_FILE"):
        tls_context("KAFKA", authority.ca_file, certificate, other)
    with pytest.raises(ConfigurationError, match=r"KAFKA_CLIENT_CERTIFICATE_FILE .*: No such file"):
        tls_context("KAFKA", authority.ca_file, tmp_path / "none")
    with pytest.raises(ConfigurationError, match=r"ELASTICSEARCH_CA_FILE .*: no certificate in PEM"):
        tls_context("ELASTICSEARCH", Path("/dev/null"))


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (9, "not valid yet"),
        (10, "has expired"),
        (18, "set KAFKA_CA_FILE"),
        (20, "set KAFKA_CA_FILE"),
        (62, "another name"),
        (64, "another name"),
        (23, "is not accepted: revoked"),
    ],
)
def test_a_certificate_that_is_not_accepted(code: int, words: str) -> None:
    error = ssl.SSLCertVerificationError("no")
    error.verify_code, error.verify_message = code, "revoked"
    refusal = refused_handshake(error, "kafka:9093", "KAFKA")
    assert words in str(refusal)
    assert "kafka:9093" in str(refusal)
    assert not refusal.transient
