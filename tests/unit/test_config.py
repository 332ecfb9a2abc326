"""Settings: one file, the environment over it, every error at once, secrets by reference."""

from pathlib import Path

import pytest

from gateway.config import (
    BadConfig,
    describe_settings,
    load_settings,
    read_masking_keys,
    read_secret,
)

GOOD = """
issuers:
  - {url: "https://idp.test", audiences: [countersign]}
endpoints:
  claude: {base_url: "http://claude.test:8080", credential: "env:CLAUDE_KEY"}
proxy: {port: 9000, workers: 3}
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "countersign.yaml"
    path.write_text(GOOD)
    return path


def errors_of(path: Path | None, **overrides: object) -> list[str]:
    with pytest.raises(BadConfig) as bad:
        load_settings(path, **overrides)
    return bad.value.errors


def test_a_file_is_read_and_the_environment_overrides_it(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COUNTERSIGN_PROXY__PORT", "9100")
    settings = load_settings(file)
    assert (settings.proxy.port, settings.proxy.workers) == (9100, 3)
    assert settings.folder.is_absolute()


def test_an_override_replaces_one_setting_of_a_section(file: Path) -> None:
    settings = load_settings(file, proxy={"port": 9200})
    assert (settings.proxy.port, settings.proxy.workers) == (9200, 3)


def test_all_errors_are_said_at_once(file: Path) -> None:
    file.write_text(
        "proxy: {port: 0, colour: red, host: nowhere}\n"
        "issuers: [{url: 'https://x', audiences: [], algorithms: [HS256]}]\n"
        "endpoints: {claude: {base_url: 'claude', credential: sk-secret}}\n"
    )
    assert sorted(error.partition(":")[0] for error in errors_of(file)) == [
        "endpoints.claude.base_url",
        "endpoints.claude.credential",
        "issuers.0.audiences",
        "proxy.colour",
        "proxy.host",
        "proxy.port",
    ]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param("[]", "must be a mapping", id="no mapping"),
        pytest.param("a: [", "while parsing", id="no YAML"),
        pytest.param("{}", "issuers: at least one", id="nothing in it"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(file: Path, text: str, error: str) -> None:
    file.write_text(text)
    assert error in errors_of(file)[0]


def test_the_demo_refuses_real_issuers_and_endpoints_beside_it(file: Path) -> None:
    assert errors_of(file, demo=True) == [
        "demo: refuses to run beside configured issuers or endpoints"
    ]


def test_a_warehouse_is_a_folder_and_no_url_is_taken_for_one(file: Path) -> None:
    assert errors_of(file, lake={"warehouse": "s3://bucket/tables"}) == [
        "lake.warehouse: the tables lie in a folder; a store's URL is not one"
    ]
    assert load_settings(file, lake={"warehouse": "/srv/tables"}).warehouse == "/srv/tables"


def test_ports_are_used_once(file: Path) -> None:
    assert errors_of(file, console={"port": 9000}) == ["ports: used twice: 9000"]


def test_a_secret_comes_from_where_its_reference_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "key").write_text("from-file\n")
    monkeypatch.setenv("CLAUDE_KEY", "from-environment")
    assert read_secret(f"file:{tmp_path}/key") == "from-file"
    assert read_secret("env:CLAUDE_KEY") == "from-environment"
    for reference in (f"file:{tmp_path}/none", "env:NOT_SET"):
        with pytest.raises(BadConfig):
            read_secret(reference)


def test_every_setting_says_what_it_is() -> None:
    rows = list(describe_settings())
    assert len(rows) > 30
    assert [name for name, _, text in rows if not text] == []


def test_beyond_loopback_it_needs_tls_or_who_speaks_it(file: Path) -> None:
    assert errors_of(file, proxy={"host": "0.0.0.0"}) == [
        "proxy: host 0.0.0.0 is beyond loopback: give tls its certificate and key, or name in "
        "tls_terminator what speaks TLS in front of it"
    ]
    tls = {"certificate": "/tls.crt", "key": "/tls.key"}
    assert load_settings(file, proxy={"host": "0.0.0.0", "tls": tls}).proxy_url.startswith("https")
    terminated = {"host": "::", "tls_terminator": "the ingress", "port": 9000}
    assert load_settings(file, proxy=terminated).proxy_url == "http://[::1]:9000"


def test_a_listener_is_known_by_its_public_url(file: Path) -> None:
    console = {"public_url": "https://console.test"}
    assert load_settings(file, console=console).console_url == "https://console.test"


def test_the_demo_never_leaves_the_machine() -> None:
    proxy = {"host": "192.0.2.1", "tls_terminator": "the ingress"}
    assert errors_of(None, demo=True, proxy=proxy) == ["demo: listens on loopback only"]


def test_a_masking_key_that_is_short_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOOD", "k" * 32)
    monkeypatch.setenv("SHORT", "k" * 31)
    masking = {"keys": ["env:GOOD", "env:SHORT"]}
    with pytest.raises(BadConfig, match="secret env:SHORT: has less than 32 characters"):
        read_masking_keys(load_settings(None, demo=True, masking=masking))
    masking = {"keys": ["env:GOOD"]}
    assert read_masking_keys(load_settings(None, demo=True, masking=masking)) == ["k" * 32]


def test_people_log_in_at_a_trusted_issuer_only(file: Path) -> None:
    login = {"client_id": "cli", "issuer": "https://other.test"}
    assert errors_of(file, login=login) == ["login.issuer: is none of the issuers"]
    assert load_settings(file, login={"client_id": "cli"}).login_issuer == "https://idp.test"


def test_an_issuer_is_configured_once(file: Path) -> None:
    issuer = {"url": "https://idp.test", "audiences": ["countersign"]}
    assert errors_of(file, issuers=[issuer, issuer]) == ["issuers: each URL only once"]
