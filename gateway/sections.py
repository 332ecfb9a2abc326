"""The sections of the settings: each setting with its default and what it is for."""

from ipaddress import ip_address
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

from gateway.identity.claims import ALGORITHMS


def _require_address(host: str) -> str:
    if host != "localhost":
        ip_address(host)
    return host


def _require_secret_reference(value: str) -> str:
    if value.startswith(("file:", "env:")):
        return value
    raise ValueError("a secret is given by reference only: file:PATH or env:NAME")


def _require_url(value: str) -> str:
    if value.startswith(("http://", "https://")) and not value.endswith("/"):
        return value
    raise ValueError("an http(s) URL without a slash at the end")


def _refuse_url(folder: str) -> str:
    if "://" in folder:
        raise ValueError("the tables lie in a folder; a store's URL is not one")
    return folder


Host = Annotated[str, AfterValidator(_require_address)]
SecretReference = Annotated[str, AfterValidator(_require_secret_reference)]
Url = Annotated[str, AfterValidator(_require_url)]
FolderName = Annotated[str, AfterValidator(_refuse_url)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Section(BaseModel):
    """Settings that belong together."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class TlsSettings(Section):
    """What a listener proves itself with."""

    certificate: Path = Field(description="PEM file with the certificate and its chain.")
    key: Path = Field(description="PEM file with the private key.")


class Listener(Section):
    """Where a process listens."""

    host: Host = Field("127.0.0.1", description="Address to listen on.")
    tls: TlsSettings | None = Field(
        None, description="PEM files `{certificate, key}`; read again when they are renewed."
    )
    tls_terminator: str = Field(
        "", description="What speaks TLS in front of it, by name; or beyond loopback `tls`."
    )
    public_url: Url | Literal[""] = Field(
        "", description="URL under which others reach it; empty: by `host` and `port`."
    )

    @model_validator(mode="after")
    def _encrypted(self) -> "Listener":
        if not self.is_loopback and self.tls is None and not self.tls_terminator:
            raise ValueError(
                f"host {self.host} is beyond loopback: give tls its certificate and key, or name "
                "in tls_terminator what speaks TLS in front of it"
            )
        return self

    @property
    def is_loopback(self) -> bool:
        """Whether only this machine reaches it."""
        return self.host == "localhost" or ip_address(self.host).is_loopback

    def url_at(self, port: int) -> str:
        """Return the URL of a listener on `port`."""
        if self.public_url:
            return self.public_url
        host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host)  # noqa: S104
        scheme = "https" if self.tls else "http"
        return f"{scheme}://{f'[{host}]' if ':' in host else host}:{port}"


class ProxySettings(Listener):
    """The data plane."""

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


class ConsoleSettings(Listener):
    """The control plane."""

    port: Port = Field(8485, description="Port of the API that the command line uses.")
    recorders: tuple[Url, ...] = Field(
        (),
        description="URLs of all hosts' recorders, which show what is not committed yet; "
        "empty: this host's.",
    )


class PolicySettings(Section):
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


class IssuerSettings(Section):
    """An OIDC issuer whose tokens are accepted."""

    url: str = Field(description="Exactly the `iss` of its tokens.")
    audiences: tuple[str, ...] = Field(min_length=1, description="Accepted values of `aud`.")
    jwks_url: str = Field("", description="Where its keys are; discovered when empty.")
    algorithms: tuple[str, ...] = Field(ALGORITHMS, description="Accepted signature algorithms.")
    required_claims: dict[str, str] = Field(
        {},
        description="Claims that its tokens must have, with exactly this value; needed where the "
        "issuer serves strangers too, as public CI systems do.",
    )
    groups_claim: str = Field(
        "groups", description="Claim with the list of groups; dots lead into objects."
    )
    groups_map: dict[str, str] = Field(
        {},
        description="The claim's values to policy's groups; if given, other values mean nothing.",
    )
    groups: tuple[str, ...] = Field(
        (), description="Groups of all its principals, for tokens that name none."
    )
    person_claim: str = Field(
        "", description="Claim that is one per human; empty: issuer and subject are."
    )
    kind: Literal["user", "service"] = Field("user", description="Kind of its principals.")
    kind_claim: str = Field("", description="Claim that tells people from services.")
    service_values: tuple[str, ...] = Field(
        ("service",),
        description="Values of `kind_claim` that mean a service; `user` means a person, others "
        "mean `kind`.",
    )
    claims: dict[str, str] = Field(
        {}, description="Claims that become facts: policy's name to the token's claim."
    )
    leeway_s: int = Field(30, ge=0, le=300, description="Tolerated difference of clocks.")
    outage_s: int = Field(
        3600,
        ge=0,
        le=86400,
        description="How long known keys serve while the issuer can't be reached; then all calls "
        "with its tokens fail.",
    )

    @model_validator(mode="after")
    def _asymmetric(self) -> "IssuerSettings":
        unknown = set(self.algorithms) - set(ALGORITHMS)
        if unknown:
            raise ValueError(f"algorithms not accepted: {', '.join(sorted(unknown))}")
        return self


class LoginSettings(Section):
    """How people log in with `countersign login`; told to whoever asks the console."""

    client_id: str = Field(
        "", description="Public OAuth client for people; empty: there is no `countersign login`."
    )
    issuer: str = Field("", description="URL of the issuer; empty: the first of `issuers`.")
    scopes: tuple[str, ...] = Field(("openid",), description="Scopes that are asked for.")
    token: Literal["access", "id"] = Field(
        "access", description="Which of the two tokens the gateway is shown."
    )
    redirect_port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Loopback port of `/callback`; 0: any free one, as RFC 8252 wants.",
    )


class EndpointSettings(Section):
    """A Claude server inside the company."""

    base_url: Url = Field(description="Without `/v1`.")
    credential: SecretReference = Field(
        description="Reference to its key, sent as `x-api-key`: file:PATH or env:NAME."
    )


class StateSettings(Section):
    """What all workers share."""

    url: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder.")


class MaskingSettings(Section):
    """What masks need beside the rules of the bundle."""

    keys: tuple[SecretReference, ...] = Field(
        (),
        description="References to the shared keys that seal masked thinking and tag masked "
        "values, each of 32 characters or more; the first one seals, all open. Without one, an "
        "answer whose signed thinking would be masked is stopped.",
    )


class JournalSettings(Section):
    """The journals, on this host's disk."""

    min_free_mb: int = Field(
        128,
        ge=1,
        le=1_000_000,
        description="Free space below which calls are refused: the reserve in which the closings "
        "of all running exchanges, and what other processes write within a second, still fit.",
    )


class LakeSettings(Section):
    """The Iceberg tables."""

    catalog: str = Field("", description="SQLAlchemy URL; empty: SQLite in the data folder.")
    warehouse: FolderName = Field(
        "", description="Folder of the tables, no URL of a store; empty: in the data folder."
    )
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


class RecorderSettings(Listener):
    """The recorder's API, from which consoles read what is not committed yet."""

    port: Port = Field(8490, description="Port at which consoles ask for what is not committed.")
    token: SecretReference | Literal[""] = Field(
        "", description="Reference to the consoles' token; empty: made anew at each start."
    )
