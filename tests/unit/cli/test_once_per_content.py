"""Whether contents are remembered is a setting, and a matter of having a key to hide them under."""

import base64

import pytest

from cli.running import once_per_content
from cli.settings import Settings

KEYS = [base64.b64encode(bytes([number]) * 32).decode() for number in (1, 2)]


def _settings(key: str, hours: float) -> Settings:
    return Settings.model_validate({"credentials_key": key, "content_cache_hours": hours})


async def test_off_or_without_a_key_nothing_is_remembered() -> None:
    for settings in (_settings(KEYS[0], 0), _settings("", 24)):
        async with once_per_content(settings) as once:
            assert once is None


async def test_another_key_makes_other_names() -> None:
    names = set()
    for key in (*KEYS, KEYS[0]):
        async with once_per_content(_settings(key, 24)) as once:
            names.add(once.key("text", "ab" * 32))
    assert len(names) == 2


def test_a_day_is_the_most() -> None:
    with pytest.raises(ValueError, match="less than or equal to 24"):
        _settings(KEYS[0], 25)
