"""Settings: one YAML file, read once, validated whole, frozen. Secrets only by reference.

Environment variables override the file: `COUNTERSIGN_PROXY__PORT=9000` sets `proxy.port`.
"""

import os
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from gateway.identity.oidc import ALGORITHMS


class BadConfig(Exception):
    """The settings can't be used; one line per error."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


def _require_loopback(host: str) -> str:
    if host == "localhost" or ip_address(host).is_loopback:
        return host
    raise ValueError("this version listens on loopback only")


def _require_secret_reference(value: str) -> str:
    if value.startswith(("file:", "env:")):
        return value
    raise ValueError("a secret is given by reference only: file:PATH or env:NAME")


def _require_url(value: str) -> str:
    if value.startswith(("http://", "https://")) and not value.endswith("/"):
        return value
    raise ValueError("an http(s) URL without a slash at the end")


Host = Annotated[str, AfterValidator(_require_loopback)]
SecretReference = Annotated[str, AfterValidator(_require_secret_reference)]
Url = Annotated[str, AfterValidator(_require_url)]
Port = Annotated[int, Field(ge=1, le=65535)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class ProxySettings(_Section):
    """The data plane."""

    host: Host = Field("127.0.0.1", description="Address to listen on; loopback only for now.")
    port: Port = Field(8484, description="Port that clients use as their base URL.")
    workers: int = Field(0, ge=0, le=64, description="Processes; 0 means one per core.")
    drain_s: float = Field(
        25, gt=0, le=300, description="How long running exchanges may go on after a stop signal."
    )
    answer_timeout_s: float = Field(
        600,
        gt=0,
        le=3600,
        description="How long a Claude server may be silent, before and within an answer.",
    )


class ConsoleSettings(_Section):
    """The control plane."""

    host: Host = Field("127.0.0.1", description="Address to listen on; loopback only for now.")
    port: Port = Field(8485, description="Port of the API that the command line uses.")
    recorders: tuple[Url, ...] = Field(
        (),
        description="URLs of all hosts' recorders, which show what is not committed yet; "
        "empty: this host's.",
    )


class PolicySettings(_Section):
    """The OPA sidecar and the bundle it gets."""

    source: Path = Field(Path("policies"), description="Folder with the Rego of the bundle.")
    opa: Path = Field(Path(".tools/opa-1.22.2/opa"), description="The OPA program.")
    relay_port: Port = Field(8486, description="Loopback port at which OPA fetches the bundle.")
    operator_port: Port = Field(8487, description="Loopback port of OPA for operators.")
    deadline_ms: int = Field(
        250, ge=10, le=5000, description="From sending a question to its answer; then refuse."
    )
    slot_wait_ms: int = Field(
        1000, ge=10, le=10000, description="Wait for a free connection to OPA; then refuse."
    )
    connections: int = Field(
        4, ge=1, le=64, description="Questions a worker has under way; about two per OPA core."
    )


class IssuerSettings(_Section):
    """An OIDC issuer whose tokens are accepted."""

    url: str = Field(description="Exactly the `iss` of its tokens.")
    audiences: tuple[str, ...] = Field(min_length=1, description="Accepted values of `aud`.")
    jwks_url: str = Field("", description="Where its keys are; discovered when empty.")
    algorithms: tuple[str, ...] = Field(ALGORITHMS, description="Accepted signature algorithms.")
    groups_claim: str = Field("groups", description="Claim with the list of groups.")
    person_claim: str = Field(
        "", description="Claim that is one per human; empty: issuer and subject are."
    )
    kind: Literal["user", "service"] = Field("user", description="Kind of its principals.")
    kind_claim: str = Field("", description="Claim that says `user` or `service`, if there is one.")
    claims: dict[str, str] = Field(
        {}, description="Claims that become facts: policy's name to the token's claim."
    )
    leeway_s: int = Field(30, ge=0, le=300, description="Tolerated difference of clocks.")

    @model_validator(mode="after")
    def _asymmetric(self) -> "IssuerSettings":
        unknown = set(self.algorithms) - set(ALGORITHMS)
        if unknown:
            raise ValueError(f"algorithms not accepted: {', '.join(sorted(unknown))}")
        return self


class EndpointSettings(_Section):
    """A Claude server inside the company."""

    base_url: Url = Field(description="Without `/v1`.")
    credential: SecretReference = Field(
        description="Reference to its key, sent as `x-api-key`: file:PATH or env:NAME."
    )


class StateSettings(_Section):
    """What all workers share."""

    url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder.")


class JournalSettings(_Section):
    """The journals, on this host's disk."""

    min_free_mb: int = Field(
        128,
        ge=1,
        le=1_000_000,
        description="Free space below which calls are refused: the reserve in which the closings "
        "of all running exchanges, and what other processes write within a second, still fit.",
    )


class LakeSettings(_Section):
    """The Iceberg tables."""

    catalog: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder.")
    warehouse: str = Field("", description="Folder of the tables; empty: in the data folder.")
    commit_every_s: float = Field(
        15, gt=0, le=3600, description="Longest that a closed exchange waits for its commit."
    )
    keys: str = Field(
        "", description="Folder of the recorder's signing keys; empty: in the data folder."
    )
    witness_file: str = Field(
        "", description="File that is told of every signed root; best on another machine's disk."
    )
    witness_url: str = Field(
        "",
        pattern=r"^(https?://.+)?$",
        description="Server that is told of every signed root, by POST of JSON lines.",
    )


class RecorderSettings(_Section):
    """The recorder's API, from which consoles read what is not committed yet."""

    host: Host = Field("127.0.0.1", description="Address to listen on; loopback only for now.")
    port: Port = Field(8490, description="Port at which consoles ask for what is not committed.")
    token: SecretReference | Literal[""] = Field(
        "", description="Reference to the consoles' token; empty: made anew at each start."
    )


class Settings(BaseSettings):
    """All settings of a deployment."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="COUNTERSIGN_", env_nested_delimiter="__"
    )

    folder: Path = Field(
        Path("var"), description="Data folder: journals, state, warehouse, sockets."
    )
    demo: bool = Field(
        False,
        description="Demo issuer and demo Claude; refuses real issuers and endpoints beside it.",
    )
    demo_issuer_port: Port = Field(8488, description="Loopback port of the demo issuer.")
    demo_claude_port: Port = Field(8489, description="Loopback port of the demo Claude.")
    proxy: ProxySettings = ProxySettings()
    console: ConsoleSettings = ConsoleSettings()
    policy: PolicySettings = PolicySettings()
    issuers: tuple[IssuerSettings, ...] = Field((), description="Trusted OIDC issuers.")
    endpoints: dict[str, EndpointSettings] = Field({}, description="Claude servers by name.")
    state: StateSettings = StateSettings()
    journal: JournalSettings = JournalSettings()
    lake: LakeSettings = LakeSettings()
    recorder: RecorderSettings = RecorderSettings()

    @model_validator(mode="after")
    def _complete(self) -> "Settings":
        if self.demo and (self.issuers or self.endpoints):
            raise ValueError("demo: refuses to run beside configured issuers or endpoints")
        if not self.demo and not self.issuers:
            raise ValueError("issuers: at least one is needed")
        if not self.demo and not self.endpoints:
            raise ValueError("endpoints: at least one is needed")
        ports = [
            self.proxy.port,
            self.console.port,
            self.policy.relay_port,
            self.policy.operator_port,
            self.recorder.port,
            *((self.demo_issuer_port, self.demo_claude_port) if self.demo else ()),
        ]
        twice = sorted({port for port in ports if ports.count(port) > 1})
        if twice:
            raise ValueError(f"ports: used twice: {', '.join(map(str, twice))}")
        return self

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003 - the library's signature
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment override the file."""
        return env_settings, init_settings

    @property
    def journal_folder(self) -> Path:
        """Where journals lie."""
        return self.folder / "journal"

    @property
    def min_free_bytes(self) -> int:
        """The floor of free space under the journals."""
        return self.journal.min_free_mb * 1024 * 1024

    @property
    def bundle_file(self) -> Path:
        """The newest bundle that could be built."""
        return self.folder / "run" / "bundle.tar.gz"

    @property
    def opa_socket(self) -> Path:
        """The unix socket of OPA."""
        return self.folder / "run" / "opa.sock"

    @property
    def keys_folder(self) -> Path:
        """The folder of the recorder's keys."""
        return Path(self.lake.keys) if self.lake.keys else self.folder / "keys"

    @property
    def state_url(self) -> str:
        """The state database."""
        return self.state.url or f"sqlite:///{self.folder / 'state.db'}"

    @property
    def catalog_url(self) -> str:
        """The Iceberg catalog."""
        return self.lake.catalog or f"sqlite:///{self.folder / 'catalog.db'}"

    @property
    def warehouse(self) -> str:
        """The folder of the Iceberg tables."""
        return self.lake.warehouse or str(self.folder / "warehouse")

    @property
    def console_url(self) -> str:
        """Where the console listens."""
        return f"http://{self.console.host}:{self.console.port}"

    @property
    def recorder_url(self) -> str:
        """Where the recorder's API is."""
        return f"http://{self.recorder.host}:{self.recorder.port}"

    @property
    def proxy_url(self) -> str:
        """What clients use as base URL."""
        return f"http://{self.proxy.host}:{self.proxy.port}"


def load_settings(path: Path | None, **overrides: Any) -> Settings:
    """Return the settings of a YAML file, overridden by the environment.

    Raises:
        BadConfig: with all errors at once.
    """
    values: dict[str, Any] = {}
    if path is not None:
        try:
            loaded = yaml.safe_load(path.read_text())
        except OSError as e:
            raise BadConfig([f"{path}: {e.strerror}"]) from e
        except yaml.YAMLError as e:
            raise BadConfig([f"{path}: {' '.join(str(e).split())}"]) from e
        if not isinstance(loaded, dict | None):
            raise BadConfig([f"{path}: must be a mapping of settings"])
        values = loaded or {}
    try:
        settings = Settings(**_merge(values, overrides))
    except ValidationError as e:
        raise BadConfig([_explain(error) for error in e.errors()]) from e
    return settings.model_copy(update={"folder": settings.folder.absolute()})


def _merge(values: dict[str, Any], overrides: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a file with single settings replaced, also inside sections."""
    merged = dict(values)
    for name, value in overrides.items():
        inner = merged.get(name)
        if isinstance(value, dict) and isinstance(inner, dict):
            merged[name] = _merge(inner, value)
        else:
            merged[name] = value
    return merged


def _explain(error: Any) -> str:
    where = ".".join(str(part) for part in error["loc"])
    text = str(error["msg"]).removeprefix("Value error, ")
    return f"{where}: {text}" if where else text


def read_secret(reference: str) -> str:
    """Return the secret that a reference names.

    Raises:
        BadConfig: it is not there or empty.
    """
    kind, _, name = reference.partition(":")
    if kind == "env":
        secret = os.environ.get(name, "")
    else:
        try:
            secret = Path(name).read_text().strip()
        except OSError as e:
            raise BadConfig([f"secret {reference}: {e.strerror}"]) from e
    if not secret:
        raise BadConfig([f"secret {reference}: is empty or not set"])
    return secret


def describe_settings() -> Iterator[tuple[str, str, str]]:
    """Yield (name, default, description) of every setting, for the documentation."""
    yield from _describe(Settings, "")
    yield from _describe(IssuerSettings, "issuers[].")
    yield from _describe(EndpointSettings, "endpoints.NAME.")


def _describe(model: type[BaseModel], prefix: str) -> Iterator[tuple[str, str, str]]:
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel):
            yield from _describe(type(field.default), f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", _show(field), field.description or ""


def _show(field: FieldInfo) -> str:
    """Return a default as it would be written in the file."""
    if field.is_required():
        return "required"
    if isinstance(field.default, tuple | dict):
        return ", ".join(field.default) or "none"
    return str(field.default) if field.default != "" else "empty"
