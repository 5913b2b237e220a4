"""No secret stands in the repository: every file that git knows is searched for what keys and tokens look
like. What tests need is made while they run."""

import base64
import hashlib
import math
import re
import secrets
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PATTERNS = {
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----\s*[A-Za-z0-9+/]{40}",
    "Google API key": r"\bAIza[0-9A-Za-z_-]{35}\b",
    "Google OAuth client secret": r"\bGOCSPX-[0-9A-Za-z_-]{28}\b",
    "Google refresh token": r"\b1//0[0-9A-Za-z_-]{40,}",
    "Google access token": r"\bya29\.[0-9A-Za-z_-]{20,}",
    "service account key": r'"private_key_id":\s*"[0-9a-f]{40}"',
    "AWS key": r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b",
    "GitHub token": r"\bgh[pousr]_[0-9A-Za-z]{36}\b",
    "PyPI token": r"\bpypi-[0-9A-Za-z_-]{50,}",
    "npm token": r"\bnpm_[0-9A-Za-z]{36}\b",
    "Slack token": r"\bxox[abprs]-[0-9A-Za-z-]{10,}",
    "token of ours": r"\bmst_[0-9a-f]{16}_[0-9A-Za-z_-]{43}\b",
    "JSON web token": r"\beyJ[0-9A-Za-z_-]{20,}\.eyJ[0-9A-Za-z_-]{20,}\.[0-9A-Za-z_-]{20,}",
    "password in an address": r"\b[a-z][a-z0-9+]{2,}://[^/\s:@\"'{}$]+:[^/\s:@\"'{}$]{6,}@(?!127\.0\.0\.1|localhost)",
    # 32 bytes in base64, as CREDENTIALS_KEY is; a checksum that a package manager wrote is no key.
    "256-bit key": r"(?<![A-Za-z0-9+/=-])[A-Za-z0-9+/]{43}=(?![A-Za-z0-9+/=])",
    "value of a setting": r"(?i)\b(?:password|secret|api_key|token|credentials_key)[ \t]*[:=][ \t]*"
    r"[\"']?([0-9A-Za-z+/_-]{24,}={0,2})(?![0-9A-Za-z+/_.(-])",
}
_FOUND = {name: re.compile(pattern) for name, pattern in PATTERNS.items()}
# Text that is as mixed as a key: words and identifiers stay below.
MIXED_BITS = 3.7


def found_in(name: str, text: str) -> Iterator[tuple[str, str]]:
    """The file's name and what it looks like, for each secret in its text."""
    for kind, pattern in _FOUND.items():
        for match in pattern.finditer(text):
            said = match[1] if pattern.groups else match[0]
            if kind in ("256-bit key", "value of a setting") and _bits(said) < MIXED_BITS:
                continue
            yield name, kind


def _bits(text: str) -> float:
    """Entropy of a character."""
    counts = Counter(text)
    return -sum(count / len(text) * math.log2(count / len(text)) for count in counts.values())


def test_no_file_of_the_repository_holds_a_secret() -> None:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout
    names = [name for name in listed.decode().split("\0") if name]
    assert len(names) > 300
    texts = ((name, (ROOT / name).read_text("utf-8", "replace")) for name in names if (ROOT / name).is_file())
    assert [found for name, text in texts for found in found_in(name, text)] == []


PLANTED = {
    "private key": "-----BEGIN RSA " + "PRIVATE KEY-----\n" + "M" * 64,
    "Google API key": "AI" + "za" + "x" * 35,
    "Google OAuth client secret": "GOC" + "SPX-" + "a" * 28,
    "Google refresh token": "1/" + "/0" + "e" * 60,
    "Google access token": "ya" + "29." + "a0" * 20,
    "service account key": '"private_' + 'key_id": "' + "ab" * 20 + '"',
    "AWS key": "AK" + "IA" + "X" * 16,
    "GitHub token": "gh" + "p_" + "a" * 36,
    "PyPI token": "py" + "pi-" + "A" * 60,
    "npm token": "np" + "m_" + "a" * 36,
    "Slack token": "xo" + "xb-" + "1" * 12,
    "token of ours": "ms" + "t_" + "ab" * 8 + "_" + secrets.token_urlsafe(32),
    "JSON web token": "ey" + "J" + "a" * 30 + ".ey" + "J" + "b" * 30 + "." + "c" * 30,
    "password in an address": "postgresql://mail:" + "correcthorse@db.example.com/x",
    "256-bit key": base64.b64encode(hashlib.sha256(b"a key").digest()).decode(),
    "value of a setting": "api_" + "key = '" + hashlib.sha256(b"b").hexdigest() + "'",
}


@pytest.mark.parametrize("kind", PATTERNS)
def test_each_kind_would_be_found(kind: str) -> None:
    assert kind in {found for _, found in found_in("planted", f"x = 1\nvalue: {PLANTED[kind]}\n")}
