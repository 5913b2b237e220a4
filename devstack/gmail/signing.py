"""RS256: key pairs, signed JSON Web Tokens, and the documents that publish public keys."""

import base64
import binascii
import datetime
import hashlib
import json
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.x509.oid import NameOID


class TokenError(ValueError):
    """A JSON Web Token that is malformed or that another key has signed."""


class SigningKey:
    """An RSA key pair."""

    def __init__(self) -> None:
        self._key = rsa.generate_private_key(public_exponent=65_537, key_size=2048)
        public = self._key.public_key()
        der = public.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
        self.key_id = hashlib.sha256(der).hexdigest()[:40]

    def sign(self, claims: dict[str, Any]) -> str:
        """A signed token with these claims."""
        header = {"alg": "RS256", "kid": self.key_id, "typ": "JWT"}
        signed = f"{_segment(json.dumps(header).encode())}.{_segment(json.dumps(claims).encode())}"
        signature = self._key.sign(signed.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{signed}.{_segment(signature)}"

    def verify(self, token: str) -> dict[str, Any]:
        """The claims of a token that this key signed, their times unchecked. Raises TokenError."""
        try:
            header, claims, signature = token.split(".")
            self._key.public_key().verify(
                _unsegment(signature), f"{header}.{claims}".encode(), padding.PKCS1v15(), hashes.SHA256()
            )
            if json.loads(_unsegment(header)).get("alg") != "RS256":
                raise TokenError("the algorithm is not RS256")
            decoded: dict[str, Any] = json.loads(_unsegment(claims))
        except (ValueError, binascii.Error, InvalidSignature, AttributeError) as error:
            raise TokenError(f"no token of this key: {error}") from error
        return decoded

    def private_pem(self) -> str:
        """The private key as service account files bear it."""
        return self._key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ).decode()

    def certificate_pem(self) -> str:
        """A self-signed certificate of the public key, as Google's v1 certificates are."""
        name = x509.Name(
            [x509.NameAttribute(NameOID.COMMON_NAME, "federated-signon.system.gserviceaccount.com")]
        )
        now = datetime.datetime.now(datetime.UTC)
        certificate = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(name)
            .public_key(self._key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=30))
            .sign(self._key, hashes.SHA256())
        )
        return certificate.public_bytes(serialization.Encoding.PEM).decode()

    def jwk(self) -> dict[str, str]:
        """The public key as a JSON Web Key."""
        numbers = self._key.public_key().public_numbers()
        return {
            "kty": "RSA",
            "alg": "RS256",
            "use": "sig",
            "kid": self.key_id,
            "n": _segment(numbers.n.to_bytes((numbers.n.bit_length() + 7) // 8)),
            "e": _segment(numbers.e.to_bytes(3)),
        }


def _segment(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode("ascii")


def _unsegment(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
