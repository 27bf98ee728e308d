"""What can be set, from the environment (`BELIEFSTREAM_...`) or a `.env` file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Literal
from urllib.parse import quote

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict

from streams.directories import cache_directory
from streams.topics import TopicNames


class Settings(BaseSettings):
    """Of a worker and of the command line; every field is an environment variable with the prefix."""

    model_config = SettingsConfigDict(
        env_prefix="BELIEFSTREAM_", env_file=".env", extra="ignore", frozen=True
    )

    brokers: str = Field("127.0.0.1:9092", description="Kafka bootstrap servers, host:port[,host:port...]")
    application: str = Field("beliefstream", description="name of the application and its consumer group")
    observations: str = Field("observations", description="topic of observations")
    sensors: str = Field("sensors", description="topic of sensor definitions, compacted")
    models: str = Field("models", description="topic of model definitions, compacted")
    priors: str = Field("priors", description="topic of priors")
    posteriors: str = Field("posteriors", description="topic of posteriors")
    dead_letters: str = Field("dead-letters", description="topic of messages that could not be used")
    partitions: int = Field(8, ge=1, description="partitions of observations, priors, posteriors and beliefs")
    batch: int = Field(512, ge=1, le=65536, description="most messages in one batch")
    batch_seconds: float = Field(0.02, gt=0, description="longest wait for a batch to fill, seconds")
    maximum_message_bytes: int = Field(
        1_000_000, ge=1000, description="larger messages are dead letters, bytes"
    )
    future_tolerance: float = Field(
        60.0, ge=0, description="how far ahead of the worker's clock a live time may be, seconds"
    )
    history: int = Field(
        256,
        ge=1,
        description="times of an entity, counted from its newest, that late observations can change; the window of its "
        "model bounds them too",
    )
    device: Literal["auto", "cpu", "cuda"] = Field("auto", description="where the network runs")
    weights: str = Field("equivariant-32x4-16", description="shipped weights by name, or a .safetensors file")
    precision: Literal["single", "double"] = Field(
        "single",
        description="of the network; double takes about 1.5 times as long, and a posterior then equals the replay "
        "of the log to 9 digits, however messages fall into batches",
    )
    compiled: Path = Field(
        default_factory=lambda: cache_directory() / "compiled",
        description="directory of the compiled networks that `beliefstream compile` makes",
    )
    threads: int = Field(1, ge=1, description="threads of the network on the CPU")
    points: int = Field(96, ge=16, description="importance samples that check each posterior")
    refine_below: float = Field(
        0.7,
        ge=0,
        le=1,
        description="effective sample size under which a posterior is refined; 0 never; .95 is nearer and slower",
    )
    repeat_below: float = Field(
        0.5,
        ge=0,
        le=1,
        description="effective sample size, refined, under which it is refined again with 4 and 16 times the points; "
        ".9 is nearer and several times slower where most problems are hard",
    )
    fast: bool = Field(
        False,
        description="check posteriors at fewer places and leave them as they are: neither refined nor defended, "
        "whatever `refine_below` says; for where thousands a second count more than the last tenth of a nat",
    )
    measurements: str = Field(
        "", description="modules that register measurements of one's own, separated by commas"
    )
    store: Literal["memory://", "rocksdb://"] = Field(
        "memory://",
        description="where beliefs are kept locally: memory:// or rocksdb://, on disk, from where a restart is faster",
    )
    data_directory: Path = Field(
        Path(".beliefstream"), description="of the local store on disk; each worker needs its own"
    )
    session_timeout: float = Field(
        10.0, ge=6, description="after which a silent worker's partitions go to others, seconds; 6 at least"
    )
    web_host: str = Field("127.0.0.1", description="address of /healthz, /readyz and /metrics")
    web_port: int = Field(8080, ge=0, le=65535, description="port of /healthz, /readyz and /metrics")
    logs: Literal["auto", "json", "console"] = Field("auto", description="auto: console in a terminal")
    fetch_high_watermark: bool = Field(
        False, description="ask for the end of a topic by reading; the embedded broker needs it"
    )

    @property
    def names(self) -> TopicNames:
        """The topics' names."""
        return TopicNames.for_app(
            self.application,
            observations=self.observations,
            sensors=self.sensors,
            models=self.models,
            priors=self.priors,
            posteriors=self.posteriors,
            dead_letters=self.dead_letters,
        )

    @property
    def belief_directory(self) -> Path:
        """Where this application's beliefs lie on disk; several applications may share a data directory."""
        return self.data_directory / quote(self.application, safe="")

    def environment(self) -> dict[str, str]:
        """The same settings as environment variables, for a worker in a process of its own."""
        values: dict[str, Any] = self.model_dump(mode="json")
        return {f"BELIEFSTREAM_{name.upper()}": str(value) for name, value in values.items()}
