"""Settings: one YAML file, read once, validated whole, frozen. Secrets only by reference.

Environment variables override the file: `COUNTERSIGN_PROXY__PORT=9000` sets `proxy.port`.
"""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    BaseModel,
    Field,
    IPvAnyNetwork,
    ValidationError,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

from gateway.masking.seals import LEAST_KEY_CHARS
from gateway.sections import (
    ConsoleSettings,
    EndpointSettings,
    IssuerSettings,
    JournalSettings,
    LakeSettings,
    LoginSettings,
    MaskingSettings,
    PolicySettings,
    Port,
    ProxySettings,
    RecorderSettings,
    StateSettings,
)


class BadConfig(Exception):
    """The settings can't be used; one line per error."""

    def __init__(self, errors: list[str]) -> None:
        super().__init__("\n".join(errors))
        self.errors = errors


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
    trusted_proxies: tuple[IPvAnyNetwork, ...] = Field(
        (),
        description="Networks of proxies in front of it, whose `x-forwarded-for` says who calls.",
    )
    proxy: ProxySettings = ProxySettings()
    console: ConsoleSettings = ConsoleSettings()
    policy: PolicySettings = PolicySettings()
    issuers: tuple[IssuerSettings, ...] = Field((), description="Trusted OIDC issuers.")
    login: LoginSettings = LoginSettings()
    endpoints: dict[str, EndpointSettings] = Field({}, description="Claude servers by name.")
    state: StateSettings = StateSettings()
    masking: MaskingSettings = MaskingSettings()
    journal: JournalSettings = JournalSettings()
    lake: LakeSettings = LakeSettings()
    recorder: RecorderSettings = RecorderSettings()

    @model_validator(mode="after")
    def _complete(self) -> "Settings":
        if self.demo and (self.issuers or self.endpoints):
            raise ValueError("demo: refuses to run beside configured issuers or endpoints")
        listeners = (self.proxy, self.console, self.recorder)
        if self.demo and not all(listener.is_loopback for listener in listeners):
            raise ValueError("demo: listens on loopback only")
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

    @model_validator(mode="after")
    def _can_log_in(self) -> "Settings":
        urls = [issuer.url for issuer in self.issuers]
        if len(set(urls)) != len(urls):
            raise ValueError("issuers: each URL only once")
        if self.login.client_id and self.login_issuer not in urls:
            raise ValueError("login.issuer: is none of the issuers")
        if "openid" not in self.login.scopes:
            raise ValueError("login.scopes: openid is needed, which proves that the answer is ours")
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
    def login_issuer(self) -> str:
        """The issuer at which people log in."""
        return self.login.issuer or (self.issuers[0].url if self.issuers else "")

    @property
    def console_url(self) -> str:
        """Where the console listens."""
        return self.console.url_at(self.console.port)

    @property
    def recorder_url(self) -> str:
        """Where the recorder's API is."""
        return self.recorder.url_at(self.recorder.port)

    @property
    def proxy_url(self) -> str:
        """What clients use as base URL."""
        return self.proxy.url_at(self.proxy.port)


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


def read_masking_keys(settings: Settings) -> list[str]:
    """Return the keys that seal and tag.

    Raises:
        BadConfig: one is not there or too short.
    """
    keys = {reference: read_secret(reference) for reference in settings.masking.keys}
    short = [reference for reference, key in keys.items() if len(key) < LEAST_KEY_CHARS]
    if short:
        raise BadConfig(
            [f"secret {name}: has less than {LEAST_KEY_CHARS} characters" for name in short]
        )
    return list(keys.values())


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
    if field.default is None:
        return "none"
    return str(field.default) if field.default != "" else "empty"
