"""Every setting, read once from the environment at the start of a command and passed down from there."""

from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.errors import ConfigurationError


class Settings(BaseSettings):
    """The settings by their environment variables' names, in lower case."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore")

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka's address, host:port")
    elasticsearch_url: str = Field("http://127.0.0.1:9200", description="Elasticsearch's address")
    topic_partitions: int = Field(
        6, ge=1, description="Partitions of new topics; bounds how far workers scale"
    )

    use_gmail_api: bool = Field(
        True, description="Read mailboxes through the Gmail API unless their record says otherwise"
    )
    gmail_api_endpoint: str | None = Field(
        None, description="Another address than Google's, such as the emulator"
    )
    gmail_quota_costs: Literal["new", "legacy"] = Field(
        "new", description="Which cost table Google applies to this project"
    )
    gmail_quota_limits: Literal["new", "legacy", "off"] = Field(
        "new", description="Which limits Google applies; off only where nobody counts"
    )
    gmail_source_share: float = Field(
        0.1, gt=0, lt=1, description="The part of a mailbox's quota that listing and history may use"
    )
    source_poll_seconds: float = Field(
        10.0, gt=0, description="How often the history of a mailbox is asked for when nobody hints"
    )
    credentials_key: SecretStr = Field(
        SecretStr(""), description="Base64 of 32 bytes: encrypts credentials at rest"
    )

    encoder: Literal["minilm", "hash"] = Field(
        "minilm", description="Which model embeds text; hash is for tests"
    )
    max_chunks_per_document: int = Field(
        2_000,
        ge=1,
        le=10_000,
        description="Vectors of one document; what lies beyond is found by its words only",
    )
    parser_processes: int = Field(2, ge=1, description="Sandboxed parsers that one worker keeps")
    ephemeral_directory: Path = Field(
        Path("/dev/shm/mailstream"),  # noqa: S108 - memory, not a disk: nothing here survives a restart
        description="Where parsers may write; must be in memory (tmpfs)",
    )
    state_directory: Path = Field(
        Path.home() / ".local" / "state" / "mailstream",
        description="A worker's notes on events it did not survive; outlives the process",
    )
    metrics_port: int = Field(0, ge=0, description="Port of the Prometheus metrics; 0 serves none")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line"
    )


@cache
def settings() -> Settings:
    """The settings of this process. Raises ConfigurationError that names the variable."""
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0]).upper() if first["loc"] else "settings"
        raise ConfigurationError(f"{name}: {first['msg']}") from error
