"""Every setting, read once from the environment at the start of a command and passed down from there."""

import difflib
import logging
import os
from functools import cache, cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal, Self
from urllib.parse import urlsplit

from pydantic import BeforeValidator, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from connectors.errors import ConfigurationError
from schemas import topics
from schemas.languages import is_english

if TYPE_CHECKING:  # the clients are imported by commands that talk to a server
    from connectors.broker import Broker
    from connectors.elasticsearch import Server

log = logging.getLogger(__name__)

# Set to nothing is not set: what fills in templates leaves such lines.
OptionalFile = Annotated[Path | None, BeforeValidator(lambda value: value or None)]


class Settings(BaseSettings):
    """The settings by their environment variables' names, in lower case."""

    model_config = SettingsConfigDict(env_file=".env", extra="ignore", hide_input_in_errors=True)

    kafka_bootstrap: str = Field("127.0.0.1:9092", description="Kafka's address, host:port")
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = Field(
        "PLAINTEXT", description="How it is spoken with: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL"
    )
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = Field(
        "SCRAM-SHA-512", description="How the password is shown: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512"
    )
    kafka_sasl_username: str = Field("", description="Who we are to Kafka")
    kafka_sasl_password: SecretStr = Field(SecretStr(""), description="His password")
    kafka_sasl_password_file: OptionalFile = Field(None, description="The same from a file")
    kafka_ca_file: OptionalFile = Field(
        None, description="Whose certificates Kafka may show, in PEM; none: the system's authorities"
    )
    kafka_client_certificate_file: OptionalFile = Field(
        None, description="The certificate that we show Kafka, in PEM, where it asks for one"
    )
    kafka_client_key_file: OptionalFile = Field(
        None, description="Its key, without a passphrase; none: it stands in the same file"
    )
    elasticsearch_url: str = Field("http://127.0.0.1:9200", description="Elasticsearch's address")
    elasticsearch_api_key: SecretStr = Field(
        SecretStr(""), description="Key that Elasticsearch asks for, encoded as it gave it"
    )
    elasticsearch_api_key_file: OptionalFile = Field(None, description="The same from a file")
    elasticsearch_ca_file: OptionalFile = Field(
        None, description="Whose certificates Elasticsearch may show; none: the system's authorities"
    )
    topic_partitions: int = Field(
        6, ge=1, description="Partitions of the topics; bounds how far workers scale"
    )
    documents_topic: str = Field(
        topics.DOCUMENTS_NAME,
        pattern=r"^mail\.documents\.v1(\.[a-z0-9-]+)?$",
        description="Where documents stand; another topic once they have outgrown it (docs/GROWTH.md)",
    )
    documents_partitions: int | None = Field(
        None, ge=1, description="Those of mail.documents, where it has another number"
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
    gmail_mailbox_units_per_minute: int | None = Field(
        None, ge=60, description="Units a minute of one mailbox, where they are not the table's"
    )
    gmail_project_units_per_minute: int | None = Field(
        None, ge=60, description="Units a minute of the whole project, where they are not the table's"
    )
    gmail_project_units_per_day: int | None = Field(
        None, ge=1_000, description="Units a day of the whole project, where they are not the table's"
    )
    gmail_requests_in_flight: int = Field(
        10, ge=2, description="Requests that may be under way for one mailbox, over all processes"
    )
    gmail_bytes_per_day: int = Field(
        2_500_000_000, ge=1_000_000, description="Bytes a day that Gmail gives of one mailbox"
    )
    gmail_source_share: float = Field(
        0.1, gt=0, lt=1, description="The part of a mailbox's quota that listing and history may use"
    )
    gmail_slow_share: float = Field(
        0.1, gt=0, lt=1, description="The part that OCR and what had to wait may use; extract has the rest"
    )
    imap_url: str = Field(
        "imaps://imap.gmail.com",
        pattern=r"^imaps?://[^/@]+$",
        description="IMAP server of mailboxes that name none: imaps://host:port, or imap:// for STARTTLS",
    )
    imap_ca_file: OptionalFile = Field(
        None, description="Whose certificates it may show, in PEM; none: the system's authorities"
    )
    imap_bytes_per_day: int = Field(
        2_000_000_000, ge=1_000_000, description="Bytes a day that one mailbox may bring over IMAP"
    )
    imap_compare_days: float = Field(
        7.0, ge=0, description="How long a dual run must last before `imap cutover` goes by it"
    )
    source_poll_seconds: float = Field(
        10.0, gt=0, description="How often the history of a mailbox is asked for when nobody hints"
    )
    draft_quiet_seconds: float = Field(
        60.0, ge=0, description="How long a draft must be left alone before it is read"
    )
    audit_hours: float = Field(
        24.0, ge=0, description="How often each mailbox is compared with the index; 0 never"
    )
    audit_repair: bool = Field(True, description="Whether audits that nobody asked for mend what they find")
    gmail_pubsub_topic: str | None = Field(
        None, description="Topic that Gmail announces changes to, projects/P/topics/T; none: polling only"
    )
    push_host: str = Field("127.0.0.1", description="Where `mailstream push` listens")
    push_port: int = Field(8080, ge=0, le=65_535, description="Its port; 0 takes a free one")
    push_audience: str | None = Field(
        None, description="Audience of the tokens that come with pushes: the subscription's setting"
    )
    push_service_account: str | None = Field(
        None, description="E-mail of the service account that signs pushes: the subscription's setting"
    )
    push_certificates_url: str = Field(
        "https://www.googleapis.com/oauth2/v1/certs", description="Where the signers' certificates are"
    )
    pubsub_subscription: str | None = Field(
        None, description="Subscription to pull from, projects/P/subscriptions/S, instead of being pushed to"
    )
    pubsub_endpoint: str | None = Field(
        None, description="Another address of Pub/Sub than Google's, such as the emulator"
    )
    google_credentials_file: Path | None = Field(
        None, description="A service account's key file, for pulling from Pub/Sub"
    )
    credentials_key: SecretStr = Field(
        SecretStr(""), description="Base64 of 32 bytes: encrypts credentials at rest"
    )
    credentials_key_file: Path | None = Field(
        None, description="The same from a file, one key a line: the first seals, all open"
    )

    languages: str = Field(
        "eng",
        pattern=r"^[A-Za-z_]+(,[A-Za-z_]+)*$",
        description="Languages of the mail (`eng,deu,chi_sim`): for OCR, index and model",
    )
    encoder: Literal["minilm", "minilm-torch", "multilingual", "hash"] | None = Field(
        None,
        description="Which model embeds text; none: the one for the languages; minilm-torch is minilm by"
        " sentence-transformers, in float32; hash is for tests",
    )
    max_chunks_per_document: int = Field(
        2_000,
        ge=1,
        le=10_000,
        description="Vectors of one document; what lies beyond is found by its words only",
    )
    deleted_contents_days: float = Field(
        30.0,
        ge=0,
        description="How long the topic keeps what a deleted message said, should it be seen after all",
    )
    attachment_memory_bytes: int = Field(
        10 * 1024 * 1024, ge=0, description="Larger attachments are streamed, block by block"
    )
    attachment_max_bytes: int = Field(
        50 * 1024 * 1024, ge=1, description="Larger attachments are not downloaded; their metadata is found"
    )
    content_cache_hours: float = Field(
        24.0,
        ge=0,
        le=24,
        description="How long the text of the same bytes is remembered for other mailboxes; 0 not at all",
    )
    parser_processes: int = Field(2, ge=1, description="Sandboxed parsers that one worker keeps")
    scanner: Literal["off", "clamd", "http"] = Field(
        "off", description="Which malware scanner sees attachments before they are read"
    )
    scan_policy: Literal["closed", "open"] = Field(
        "closed", description="What becomes of an attachment without a verdict: not read, or read unscanned"
    )
    clamd_address: str = Field(
        "unix:/run/clamav/clamd.ctl",
        description="Where clamd listens: unix:/path of its socket, or host:port",
    )
    clamd_config: Path | None = Field(
        None, description="Its clamd.conf: checked at start, also where clamd itself cannot be asked"
    )
    http_scanner_url: str = Field("", description="Where a scanner takes bytes by POST; its version by GET")
    http_scanner_token: SecretStr = Field(SecretStr(""), description="The bearer token for it")
    ephemeral_directory: Path = Field(
        Path("/dev/shm/mailstream"),  # noqa: S108 - memory, not a disk: nothing here survives a restart
        description="Where parsers may write; must be in memory (tmpfs)",
    )
    state_directory: Path = Field(
        Path.home() / ".local" / "state" / "mailstream",
        description="A worker's notes on events it did not survive; outlives the process",
    )
    legacy_directory: Path | None = Field(
        None, description="Where the old fetcher kept attachments, for `imap cleanup`"
    )
    legacy_database_url: SecretStr = Field(
        SecretStr(""), description="Its PostgreSQL database; the password may come from PGPASSFILE instead"
    )
    legacy_table: str = Field("attachments", description="Its table of attachments, or SCHEMA.TABLE")
    legacy_id_column: str = Field("id", description="That table's key")
    legacy_path_column: str = Field("path", description="Where it has a file's path")
    serve_host: str = Field("127.0.0.1", description="Where `mailstream serve` listens")
    serve_port: int = Field(8000, ge=0, le=65_535, description="Its port; 0 takes a free one")
    serve_requests_per_minute: int = Field(
        300, ge=1, description="Requests that one caller of the search API has in a minute"
    )
    serve_timeout_seconds: float = Field(10.0, gt=0, description="After this long a search is given up")
    serve_connections: int = Field(200, ge=2, description="Requests under way at once; more are turned away")
    serve_audit_queries: bool = Field(False, description="Whether the log of who searched says also for what")
    oidc_issuer: str | None = Field(
        None, description="OpenID Connect issuer whose tokens the search API trusts"
    )
    oidc_audience: str | None = Field(None, description="Our client id there")
    oidc_keys_url: str | None = Field(None, description="Where that issuer's keys are (its jwks_uri)")
    metrics_port: int = Field(
        0,
        ge=0,
        le=65_531,
        description="Port of the Prometheus metrics, of `worker all` the first of five; 0 serves none",
    )
    metrics_mailboxes: int = Field(
        100,
        ge=0,
        description="Mailboxes that have metrics of their own in each process; of all, the worst is told",
    )
    stalled_seconds: float = Field(
        1_800.0,
        ge=0,
        description="A process that comes on no further with work before it ends after this long; 0 never",
    )
    otel_exporter_otlp_endpoint: str = Field(
        "", description="Where traces go (OTLP over HTTP), with the extra `otel`; none: nobody traces"
    )
    log_format: Literal["text", "json"] = Field(
        "text", description="Log lines for people, or one JSON object a line"
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe log line"
    )

    @model_validator(mode="after")
    def _shares_leave_room(self) -> Self:
        if self.gmail_source_share + self.gmail_slow_share >= 1:
            raise ValueError("GMAIL_SOURCE_SHARE and GMAIL_SLOW_SHARE must leave a part for extract")
        return self

    @model_validator(mode="after")
    def _servers_can_be_reached(self) -> Self:
        protocol = self.kafka_security_protocol
        password = self.kafka_sasl_password.get_secret_value()
        api_key = self.elasticsearch_api_key.get_secret_value()
        if password and self.kafka_sasl_password_file:
            raise ValueError("KAFKA_SASL_PASSWORD and KAFKA_SASL_PASSWORD_FILE: only one of them")
        if api_key and self.elasticsearch_api_key_file:
            raise ValueError("ELASTICSEARCH_API_KEY and ELASTICSEARCH_API_KEY_FILE: only one of them")
        named = bool(self.kafka_sasl_username), bool(password or self.kafka_sasl_password_file)
        if protocol.startswith("SASL_") and not all(named):
            raise ValueError(
                f"KAFKA_SECURITY_PROTOCOL={protocol} needs KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
            )
        if not protocol.startswith("SASL_") and any(named):
            raise ValueError(
                "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD need KAFKA_SECURITY_PROTOCOL=SASL_SSL (or"
                " SASL_PLAINTEXT)"
            )
        certificate, key = self.kafka_client_certificate_file, self.kafka_client_key_file
        if not protocol.endswith("SSL") and (self.kafka_ca_file or certificate or key):
            raise ValueError(
                "KAFKA_CA_FILE and KAFKA_CLIENT_CERTIFICATE_FILE need KAFKA_SECURITY_PROTOCOL=SASL_SSL (or"
                " SSL)"
            )
        if key and not certificate:
            raise ValueError("KAFKA_CLIENT_KEY_FILE needs KAFKA_CLIENT_CERTIFICATE_FILE")
        if "://" in self.kafka_bootstrap:
            raise ValueError("KAFKA_BOOTSTRAP is host:port, with nothing before it")
        url = urlsplit(self.elasticsearch_url)
        if url.scheme not in ("http", "https") or not url.hostname:
            raise ValueError("ELASTICSEARCH_URL must begin with http:// or https:// and name a host")
        if self.elasticsearch_ca_file and url.scheme != "https":
            raise ValueError("ELASTICSEARCH_CA_FILE needs an ELASTICSEARCH_URL that begins with https://")
        if (api_key or self.elasticsearch_api_key_file) and url.username:
            raise ValueError("ELASTICSEARCH_API_KEY and a user in ELASTICSEARCH_URL: only one of them")
        return self

    @cached_property
    def kafka(self) -> "Broker":
        """How Kafka is reached. Raises ConfigurationError where a file cannot be read."""
        from connectors.broker import Broker

        return Broker(
            self.kafka_bootstrap,
            self.kafka_security_protocol,
            self.kafka_sasl_mechanism,
            self.kafka_sasl_username,
            _secret(self.kafka_sasl_password, self.kafka_sasl_password_file, "KAFKA_SASL_PASSWORD_FILE"),
            self.kafka_ca_file,
            self.kafka_client_certificate_file,
            self.kafka_client_key_file,
        )

    @cached_property
    def elasticsearch(self) -> "Server":
        """How Elasticsearch is reached. Raises ConfigurationError where a file cannot be read."""
        from connectors.elasticsearch import Server

        key = _secret(
            self.elasticsearch_api_key, self.elasticsearch_api_key_file, "ELASTICSEARCH_API_KEY_FILE"
        )
        return Server(self.elasticsearch_url, key, self.elasticsearch_ca_file)

    @property
    def language_codes(self) -> tuple[str, ...]:
        """The languages, each once, in their order."""
        return tuple(dict.fromkeys(self.languages.split(",")))

    @property
    def encoder_name(self) -> str:
        """The model that is set, or the one that understands the languages."""
        return self.encoder or ("minilm" if is_english(self.language_codes) else "multilingual")

    @property
    def gmail_extract_share(self) -> float:
        """The part of a mailbox's quota that is left for extract."""
        return 1 - self.gmail_source_share - self.gmail_slow_share


@cache
def settings() -> Settings:
    """The settings of this process. Raises ConfigurationError that names the variable."""
    try:
        found = Settings()
    except ValidationError as error:
        first = error.errors()[0]
        if not first["loc"]:  # settings that do not go together
            raise ConfigurationError(first["msg"].removeprefix("Value error, ")) from error
        raise ConfigurationError(f"{str(first['loc'][0]).upper()}: {first['msg']}") from error
    topics.documents_stand_in(found.documents_topic)
    _name_misspelt()
    return found


def _name_misspelt() -> None:
    """Warn of each variable that is called nearly as a setting: nothing reads it."""
    known = [name.upper() for name in Settings.model_fields]
    file = Path(".env")
    lines = file.read_text(encoding="utf-8").splitlines() if file.is_file() else []
    given = {*os.environ, *(line.partition("=")[0].strip().upper() for line in lines)}
    for name in given - {*known, "LANGUAGE"}:  # LANGUAGE is the system's
        alike = [
            setting for setting in known if setting[:3] == name[:3] and abs(len(setting) - len(name)) < 3
        ]
        for meant in difflib.get_close_matches(name, alike, 1, cutoff=0.9):
            log.warning("%s is no setting: is %s meant?", name, meant)


def _secret(value: SecretStr, file: Path | None, name: str) -> str:
    """A secret as it was given, or the first line of its file. Raises ConfigurationError."""
    if file is None:
        return value.get_secret_value()
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(f"{name} cannot be read: {error}") from error
    if not lines or not lines[0].strip():
        raise ConfigurationError(f"{name} {file} is empty")
    return lines[0].strip()
