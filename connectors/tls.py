"""TLS towards our servers: what is trusted, who we are, and what a failed handshake means."""

import ssl
from pathlib import Path

from connectors.errors import ConfigurationError

# OpenSSL's numbers of what may be wrong with a certificate (X509_V_ERR_...).
_NOT_YET_VALID = 9
_EXPIRED = 10
_SIGNED_BY_NOBODY_KNOWN = (18, 19, 20, 21)
_OTHER_NAME = (62, 64)


def tls_context(
    prefix: str,
    ca_file: Path | None = None,
    certificate_file: Path | None = None,
    key_file: Path | None = None,
) -> ssl.SSLContext:
    """Trusts ``ca_file``, or the system's authorities, and checks names; shows a certificate where given one.

    Raises ConfigurationError that names the setting, which begins with ``prefix`` (``KAFKA``).
    """
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as error:
        problem = "no certificate in PEM" if isinstance(error, ssl.SSLError) else error.strerror
        raise ConfigurationError(f"{prefix}_CA_FILE {ca_file}: {problem}") from error
    if certificate_file is not None:
        try:
            # A key under a passphrase would make OpenSSL ask the terminal for it.
            context.load_cert_chain(certificate_file, key_file, password="")
        except OSError as error:
            problem = "not in PEM, or not of one pair" if isinstance(error, ssl.SSLError) else error.strerror
            files = f"{prefix}_CLIENT_CERTIFICATE_FILE {certificate_file}"
            if key_file is not None:
                files += f", {prefix}_CLIENT_KEY_FILE {key_file}"
            raise ConfigurationError(f"{files}: {problem}") from error
    return context


def refused_handshake(error: ssl.SSLError, server: str, prefix: str) -> ConfigurationError:
    """A failed handshake in words; ``server`` is its address, ``prefix`` that of its settings."""
    code = error.verify_code if isinstance(error, ssl.SSLCertVerificationError) else None
    if code is None:
        return ConfigurationError(f"no TLS with {server} ({error.reason}): does it speak TLS on that port?")
    if code == _EXPIRED:
        return ConfigurationError(f"the certificate of {server} has expired: give the server a new one")
    if code == _NOT_YET_VALID:
        return ConfigurationError(f"the certificate of {server} is not valid yet: is the clock right here?")
    if code in _SIGNED_BY_NOBODY_KNOWN:
        return ConfigurationError(
            f"the certificate of {server} is signed by nobody who is trusted here: set {prefix}_CA_FILE to"
            " the certificate of its authority"
        )
    if code in _OTHER_NAME:
        return ConfigurationError(f"the certificate of {server} is made out to another name")
    assert isinstance(error, ssl.SSLCertVerificationError)
    return ConfigurationError(f"the certificate of {server} is not accepted: {error.verify_message}")
