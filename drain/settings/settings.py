"""The drain's settings: the flags, the RINGBUF_DRAIN_* variables and the keys of the file are the fields of `Settings`.

Where the values come from is in `configuration.py`.
"""

from __future__ import annotations

import grp
import pwd
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final, Literal

from pydantic import AfterValidator, BeforeValidator, Field
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from drain.settings import kafka_properties
from drain.settings.address import Address
from drain.settings.balance import Balance  # noqa: TC001 - pydantic reads it
from drain.settings.exporter_kind import ExporterKind
from drain.settings.otlp_environment import OtlpProtocol, header_problem, parse_codes, parse_headers
from drain.settings.spool_choices import MIN_BYTES, WhenFull
from drain.settings.units import Bytes, Seconds  # noqa: TC001 - pydantic reads them
from drain.state_directory import STATE_OFF
from ringbuf.ring.directory import default_ring_dir

if TYPE_CHECKING:
    from pydantic_settings import PydanticBaseSettingsSource


ENVIRONMENT_PREFIX: Final = "RINGBUF_DRAIN_"
LISTEN_OFF: Final = "off"
_MOST: Final = 1_000_000_000  # of things that are counted
_HIGHEST_ID: Final = (1 << 32) - 2  # of users and groups; the last number stands for none
_DAY: Final = 86400.0


def _ids_of(kind: str, look_up: Callable[[str], int]) -> Callable[[object], object]:
    def resolve(value: object) -> object:
        values = [value] if isinstance(value, str) else value
        return [number(part) for some in values for part in split(some)] if isinstance(values, list) else values

    def split(some: object) -> list[object]:
        return [part for part in some.split(",") if part.strip()] if isinstance(some, str) else [some]

    def number(part: object) -> object:
        if not isinstance(part, str) or part.strip().lstrip("+-").isdecimal():
            return part
        try:
            return look_up(part.strip())
        except KeyError:
            raise ValueError(f"there is no {kind} {part.strip()!r} here") from None

    return resolve


def _checked_listen(value: str) -> str:
    if value != LISTEN_OFF:
        Address.parse(value)
    return value


def _checked_codes(value: str) -> str:
    parse_codes(value)
    return value


def _none_if_off(value: object) -> object:
    return None if str(value) == STATE_OFF else value


def _joined(value: object) -> object:
    """Return several endpoints as one text, as a variable has them."""
    several = value if isinstance(value, list) else [value]
    if not all(isinstance(one, str) for one in several):
        return value
    names = [name.strip() for one in several for name in str(one).split(",")]
    if not all(names):
        raise ValueError("an endpoint is empty")
    if len(set(names)) < len(names):
        raise ValueError("an endpoint is there twice")
    return ",".join(names)


def _split_headers(value: object) -> object:
    if isinstance(value, str):
        headers, problems = parse_headers(value)
    elif isinstance(value, dict):
        headers = {str(name).lower(): text for name, text in value.items()}
        problems = [problem for name, text in headers.items() if (problem := header_problem(name, str(text)))]
    else:
        return value
    if problems:
        raise ValueError("; ".join(problems))
    return headers


def _otlp(description: str, **constraints: Any) -> Any:
    return Field(description=description, json_schema_extra={"exporter": "otlp"}, **constraints)


def _file(description: str, **constraints: Any) -> Any:
    return Field(description=description, json_schema_extra={"exporter": "file"}, **constraints)


def _kafka(description: str, **constraints: Any) -> Any:
    return Field(description=description, json_schema_extra={"exporter": "kafka"}, **constraints)


def _state(description: str, **constraints: Any) -> Any:
    return Field(description=description, json_schema_extra={"needs": "state_dir"}, **constraints)


def _metrics(description: str, **constraints: Any) -> Any:
    return Field(description=description, json_schema_extra={"needs": "metrics_exporter"}, **constraints)


_IdList = list[Annotated[int, Field(ge=0, le=_HIGHEST_ID)]]
UserIds = Annotated[_IdList, NoDecode, BeforeValidator(_ids_of("user", lambda name: pwd.getpwnam(name).pw_uid))]
GroupIds = Annotated[_IdList, NoDecode, BeforeValidator(_ids_of("group", lambda name: grp.getgrnam(name).gr_gid))]
Endpoints = Annotated[str | None, BeforeValidator(_joined)]
Codes = Annotated[str, AfterValidator(_checked_codes)]
StateDir = Annotated[Path | None, BeforeValidator(_none_if_off)]
Headers = Annotated[Mapping[str, str], NoDecode, BeforeValidator(_split_headers)]
KafkaProperties = Annotated[Mapping[str, str | Mapping[str, str]], NoDecode, BeforeValidator(kafka_properties.flat)]


class Settings(BaseSettings):
    """Every setting of the drain; the descriptions are the command's help."""

    model_config = SettingsConfigDict(
        env_prefix=ENVIRONMENT_PREFIX, env_ignore_empty=True, extra="forbid", frozen=True, hide_input_in_errors=True
    )

    ring_dir: Path = Field(default_factory=default_ring_dir, description="The ring directory; RINGBUF_DIR, too.")
    exporter: ExporterKind = Field(ExporterKind.FILE, description="Where the spans go.")
    output: Path = _file(
        "OTLP JSON lines are appended to this file; - is standard output.", default=Path("spans.jsonl")
    )
    file_sync: bool = _file("Wait for the disk before a batch counts as delivered.", default=False)
    file_rotate_bytes: Bytes = _file("Begin a new file before it has more bytes; 0: never.", default=0, ge=0)
    file_rotate_seconds: Seconds = _file("Begin a new file after so many seconds; 0: never.", default=0.0, ge=0)
    file_keep: int = _file("Rotated files that are kept; 0: all.", default=0, ge=0, le=_MOST)
    file_compression: Literal["none", "zstd"] = _file("How the file is compressed.", default="none")
    endpoint: Endpoints = _otlp(
        "URL of the backend; over HTTP, /v1/traces is appended. Of several (repeated, or with commas): see --balance.",
        default=None,
    )
    balance: Balance = _otlp(
        "How several endpoints share the spans: a trace's go to the same, by our choice or that of the Collector's"
        " loadbalancing exporter; requests take turns; or the first that is there gets all.",
        default="trace",
    )
    resolve_interval: Seconds = _otlp(
        "Seconds from one look-up of the endpoints' names to the next; each address behind a name (a headless service)"
        " is an endpoint of its own. 0: a name is one endpoint.",
        default=0.0,
        ge=0,
        le=_DAY,
    )
    hand_over_after: Seconds = _otlp(
        "Where traces have an endpoint: seconds that it is away before the others get its spans; 0: they wait for it.",
        default=0.0,
        ge=0,
        le=_DAY,
    )
    protocol: OtlpProtocol = _otlp("What the exporter `otlp` speaks.", default="http/protobuf")
    headers: Headers = _otlp("Sent with every request.", default_factory=dict)
    compression: Literal["none", "gzip", "zstd"] | None = _otlp(
        "Of requests; default: gzip over HTTP, none over gRPC.", default=None
    )
    timeout: Seconds = _otlp(
        "Seconds for one attempt, from the name look-up to the answer.", default=10.0, gt=0, le=3600
    )
    certificate: Path | None = _otlp("PEM file of the authorities to trust.", default=None)
    client_key: Path | None = _otlp("PEM file of the client's key.", default=None)
    client_certificate: Path | None = _otlp("PEM file of the client's certificate.", default=None)
    insecure: bool = _otlp("gRPC without TLS where the endpoint has no scheme.", default=False)
    headers_file: Path | None = _otlp("More headers, `Name: value` a line; read again when it changes.", default=None)
    max_connection_age: Seconds = _otlp("Seconds after which a new connection is made; 0: never.", default=300.0, ge=0)
    json_non_finite: Literal["text", "omit"] = _otlp(
        "NaN and infinite doubles in JSON: as text, or left out for receivers that refuse them.", default="text"
    )
    hold: bool = _otlp(
        "Hold what is refused for what an operator has to mend, or before anything was taken.", default=True
    )
    retry_codes: Codes = _otlp("HTTP statuses and gRPC codes that are retried, too, with commas.", default="")
    refuse_codes: Codes = _otlp("HTTP statuses and gRPC codes that are final, with commas.", default="")
    kafka_brokers: str | None = _kafka(
        "HOST:PORT of brokers, with commas; some of the cluster's will do.", default=None
    )
    kafka_topic: str = _kafka("The topic; spans of all services go there.", default="otlp_spans")
    kafka_encoding: Literal["otlp_proto", "otlp_json"] = _kafka("Of messages.", default="otlp_proto")
    kafka_partition_by: Literal["none", "trace", "service"] = _kafka(
        "What decides on a span's partition; none: librdkafka chooses one for each message.", default="none"
    )
    kafka_partitioner: Literal["fnv1a", "murmur2"] = _kafka(
        "Function of a trace's or a service's key: the Collector's, or Java's.", default="fnv1a"
    )
    kafka_create_topic: str | None = _kafka(
        "PARTITIONS:REPLICAS of the topic, which is made where it is missing; without it none is made.", default=None
    )
    kafka: KafkaProperties = _kafka("Properties of librdkafka.", default_factory=dict)
    unsampled: Literal["deliver", "count"] = Field(
        "deliver",
        description="Spans that producers write though their trace is not sampled (emit_unsampled): they are"
        " delivered, or counted in the span metrics only.",
    )
    sampling: Path | None = Field(
        None, description="TOML file with rules on whole traces: what is not kept is counted, and not delivered."
    )
    keep_ratio: float | None = Field(
        None,
        ge=0,
        le=1,
        description="In the place of --sampling: the share of all traces that is delivered, 0 to 1.",
    )
    hold_bytes: Bytes = Field(
        256 << 20,
        ge=16 << 20,
        json_schema_extra={"needs": "sampling"},
        description="Of --sampling: memory in which spans wait for the decision on their trace; "
        "at most a quarter of the file system.",
    )
    on_stop: Literal["keep", "decide"] = Field(
        "keep",
        json_schema_extra={"needs": "sampling"},
        description="Of --sampling: what waits for a decision when the drain is stopped is left for the next one, or"
        " decided on what is known and delivered.",
    )
    retry_initial: Seconds = Field(1.0, gt=0, le=_DAY, description="Seconds before the first retry, before jitter.")
    retry_maximum: Seconds = Field(30.0, gt=0, le=_DAY, description="Seconds that the wait between retries grows to.")
    retry_attempts: int = Field(
        100,
        ge=0,
        le=_MOST,
        description="Failures of a batch, while most others get through, after which it becomes a dead letter, or is"
        " rejected with --state-dir off; 0: never.",
    )
    retry_after_maximum: Seconds = Field(
        300.0, ge=0, le=_DAY, description="Seconds at which the backend's own Retry-After is cut."
    )
    retry_elapsed: Seconds = Field(0.0, ge=0, description="Seconds after which a batch is not sent again; 0: never.")
    state_dir: StateDir = Field(
        None,
        description="Folder of the spool (batches that wait) and the dead letters (batches that were refused for good);"
        " off: none; STATE_DIRECTORY, too. Without either, one for each ring directory in $XDG_STATE_HOME/ringbuf-drain"
        " or ~/.local/state/ringbuf-drain.",
    )
    # Well above the latency of a backend that is well: its spans need no disk. What cannot wait so long (a lane that is
    # half full, a batch that failed, a backend that is away) does not.
    spool_after: Seconds = _state(
        "Seconds that a batch waits for its delivery before it is spooled.", default=2.0, ge=0, le=_DAY
    )
    spool_max_bytes: Bytes = _state("Of the spool's files.", default=1 << 30, ge=MIN_BYTES)
    spool_max_age: Seconds = _state("Seconds after which a spooled batch expires; 0: never.", default=604_800.0, ge=0)
    spool_full: WhenFull = _state("A full spool refuses new spans, or drops its oldest.", default="backpressure")
    dead_letter_files: int = _state("Files of refused batches that are kept.", default=1000, ge=1, le=_MOST)
    dead_letter_bytes: Bytes = _state(
        "Of the refused batches that are kept; the oldest are deleted.", default=256 << 20, ge=0
    )
    batch_spans: int = Field(
        16384,
        ge=1,
        le=1_000_000,
        description="Most spans in a batch. Once it has half of them, or 8192 if that is more, it waits for no more.",
    )
    batch_bytes: Bytes = Field(4_000_000, ge=1000, le=1 << 30, description="Bytes of a batch, before compression.")
    batch_delay: Seconds = Field(
        0.2,
        ge=0,
        le=60,
        description="Seconds that a batch waits for more spans; without it 1, where traces or services have partitions"
        " or endpoints of their own.",
    )
    concurrency: int = Field(4, ge=1, le=256, description="Batches that are sent at the same time.")
    max_ring_bytes: Bytes = Field(1 << 30, ge=4096, description="Larger ring files are left alone.")
    allow_uid: UserIds = Field([], description="Owner whose rings are taken, beside our own; may be repeated.")
    allow_gid: GroupIds = Field([], description="Group whose rings are taken, whoever owns them; may be repeated.")
    shutdown_timeout: Seconds = Field(
        10.0, ge=0, le=_DAY, description="Seconds that a stop may take to deliver what is there."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Lines below it are dropped.")
    listen: Annotated[str, AfterValidator(_checked_listen)] = Field(
        "127.0.0.1:9464", description="HOST:PORT for /metrics, /healthz and /readyz; off: nowhere."
    )
    max_series: int = Field(1000, ge=0, le=100_000, description="Series of metrics about spans; 0: none are made.")
    exemplar_filter: Literal["trace_based", "always_on", "always_off"] = Field(
        "trace_based",
        description="Delivered spans that metrics about spans may name as examples: those whose trace is sampled, all,"
        " or none.",
    )
    metrics_exporter: Literal["none", "otlp"] = Field(
        "none", description="Where the metrics go, beside /metrics: nowhere, or by otlp, in protobuf."
    )
    metrics_endpoint: str | None = _metrics(
        "URL of the metrics' receiver; over HTTP /v1/metrics is appended; without it, the spans' --endpoint.",
        default=None,
    )
    metrics_protocol: Literal["grpc", "http/protobuf"] | None = _metrics(
        "What the receiver speaks; without it, http/protobuf, or at the spans' --endpoint what the spans speak.",
        default=None,
    )
    metrics_insecure: bool | None = _metrics(
        "gRPC without TLS where the endpoint has no scheme; without it, as for the spans.", default=None
    )
    metrics_interval: Seconds = _metrics("Seconds from one export to the next.", default=60.0, gt=0, le=_DAY)
    metrics_export_timeout: Seconds = _metrics(
        "Seconds that one export of all metrics may take, whose requests are one or more attempts.",
        default=30.0,
        gt=0,
        le=_DAY,
    )
    metrics_temporality: Literal["cumulative", "delta", "lowmemory"] = _metrics(
        "Sums since the drain's start, or since the last acknowledged export; lowmemory: so of histograms alone.",
        default="cumulative",
    )
    metrics_histograms: Literal["explicit", "exponential"] = _metrics(
        "Buckets of the histograms that are exported; /metrics has explicit ones in any case.", default="explicit"
    )
    metrics_headers: Headers | None = _metrics("Sent with every request; without them, the spans'.", default=None)
    metrics_compression: Literal["none", "gzip", "zstd"] | None = _metrics(
        "Of requests; without it, the spans'.", default=None
    )
    metrics_timeout: Seconds | None = _metrics(
        "Seconds for one attempt; without it, the spans'.", default=None, gt=0, le=3600
    )
    metrics_certificate: Path | None = _metrics(
        "PEM file of the authorities to trust; without it, the spans'.", default=None
    )
    metrics_client_key: Path | None = _metrics("PEM file of the client's key; without it, the spans'.", default=None)
    metrics_client_certificate: Path | None = _metrics(
        "PEM file of the client's certificate; without it, the spans'.", default=None
    )

    @property
    def are_spans_sorted(self) -> bool:
        """Whether each batch is cut by partitions or endpoints that traces or services have of their own."""
        if self.exporter == ExporterKind.KAFKA:
            return self.kafka_partition_by != "none"
        if not self.exporter.startswith("otlp") or self.balance not in {"trace", "collector-ring"}:
            return False
        endpoint = self.endpoint or ""
        return "," in endpoint or (bool(endpoint) and self.resolve_interval > 0)

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - pydantic-settings calls with these names
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - its name, too
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - its name, too
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - its name, too
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Take nothing but arguments: `load` reads the sources, since it remembers which gave what."""
        return (init_settings,)
