"""The masks that are shipped, and a made-up value for each, put together at run time."""

import random
import subprocess
from functools import cache
from pathlib import Path

import msgspec

from gateway.tables import Source, Tables, compile_tables

ROOT = Path(__file__).parents[2]
OPA = ROOT / ".tools" / "opa-1.22.2" / "opa"
DEFAULT = ("cloud", "keys", "services")
"""The topics that are on for everyone."""

_HEX = "0123456789abcdef"
_UPPER = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_WORD = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"


@cache
def source() -> Source:
    """Return the shipped tables as OPA gives them."""
    command = [str(OPA), "eval", "--bundle", ".", "--format", "raw", "data.gateway.tables.main"]
    done = subprocess.run(command, cwd=ROOT / "policies", capture_output=True, check=True)
    return msgspec.json.decode(done.stdout, type=Source)


@cache
def shipped() -> Tables:
    """Return the shipped tables, compiled."""
    return compile_tables("shipped", source())


def _draw(seed: str, size: int, alphabet: str = _WORD) -> str:
    return "".join(random.Random(seed).choices(alphabet, k=size))


_FORMS: dict[str, tuple[str, ...]] = {
    "age_secret_key": ("AGE-SECRET", "-KEY-1", "U58"),
    "alibaba_access_key": ("LT", "AI", "W20"),
    "anthropic_key": ("sk-", "ant-api03-", "W93", "AA"),
    "atlassian_token": ("ATA", "TT3", "W100"),
    "aws_access_key": ("AK", "IA", "U16"),
    "aws_secret_key": ("W40",),
    "aws_session_token": ("W200",),
    "azure_client_secret": ("Q", "~", "W34"),
    "azure_key": ("W86", "=="),
    "azure_sas": ("W43", "%3D"),
    "brevo_key": ("xkey", "sib-", "H64", "-", "W16"),
    "cloudflare_origin_ca_key": ("v1.", "0-", "H24", "-", "H146"),
    "connection_string": ("W12",),
    "crates_token": ("ci", "o", "W32"),
    "databricks_token": ("da", "pi", "H32"),
    "digitalocean_token": ("dop", "_v1_", "H64"),
    "discord_webhook": ("123456789012345678", "/", "W68"),
    "docker_token": ("dckr", "_pat_", "W27"),
    "doppler_token": ("dp.", "pt.", "W43"),
    "dropbox_token": ("sl", ".", "W140"),
    "email": ("erika", "@", "example.org"),
    "figma_token": ("fig", "d_", "W40"),
    "fly_token": ("fm", "2_", "W120"),
    "github_token": ("gh", "p_", "W36"),
    "gitlab_token": ("gl", "pat-", "W20"),
    "google_access_token": ("ya", "29.", "W100"),
    "google_api_key": ("AI", "za", "W35"),
    "google_client_secret": ("GOC", "SPX-", "W28"),
    "grafana_token": ("gl", "sa_", "W32", "_", "H8"),
    "groq_key": ("gs", "k_", "W52"),
    "heroku_key": ("HR", "KU-", "W40"),
    "huggingface_token": ("h", "f_", "W34"),
    "iban": ("GB29", " NWBK ", "6016 1331 ", "9268 19"),
    "jwt": ("ey", "J", "W20", ".ey", "J", "W40", ".", "W43"),
    "linear_key": ("lin", "_api_", "W40"),
    "mailgun_key": ("ke", "y-", "H32"),
    "newrelic_key": ("NR", "AK-", "U27"),
    "notion_token": ("nt", "n_", "W46"),
    "npm_token": ("np", "m_", "W36"),
    "nuget_key": ("oy", "2", "H43"),
    "onepassword_token": ("ops", "_eyJ", "W250"),
    "openai_key": ("sk-", "proj-", "W120"),
    "payment_card": ("4111 ", "1111 1111 1111"),
    "perplexity_key": ("ppl", "x-", "W48"),
    "pgp_private_key": (
        *("-----BEGIN PGP PRIVATE ", "KEY BLOCK-----", "\n\n", "W64", "\n", "W60", "\n=", "W4"),
        *("\n-----END PGP PRIVATE ", "KEY BLOCK-----"),
    ),
    "private_key": (
        *("-----BEGIN RSA PRIVATE ", "KEY-----", "\n  | ", "W64", "\n  | ", "W64", "\n"),
        *("-----END RSA PRIVATE ", "KEY-----"),
    ),
    "phone": ("+49 ", "30 1234567"),
    "phone_us": ("(415) ", "555-2671"),
    "planetscale_token": ("pscale", "_tkn_", "W43"),
    "postman_key": ("PM", "AK-", "H24", "-", "H34"),
    "pulumi_token": ("pu", "l-", "H40"),
    "pypi_token": ("pyp", "i-AgE", "W100"),
    "replicate_token": ("r", "8_", "W37"),
    "rubygems_key": ("ruby", "gems_", "H48"),
    "sendgrid_key": ("S", "G.", "W22", ".", "W43"),
    "sentry_token": ("sntr", "ys_", "W80"),
    "shopify_token": ("shp", "at_", "H32"),
    "slack_token": ("xo", "xb-", "123456789012-", "W24"),
    "slack_webhook": ("T0123ABCD/", "B0123ABCD/", "W24"),
    "square_token": ("sq0", "csp-", "W43"),
    "stripe_key": ("sk_", "live_", "W24"),
    "supabase_key": ("sb", "p_", "H40"),
    "tailscale_key": ("ts", "key-auth-", "W12", "-", "W24"),
    "telegram_token": ("A", "A", "W33"),
    "twilio_key": ("S", "K", "H32"),
    "vault_token": ("hv", "s.", "W90"),
    "xai_key": ("xa", "i-", "W80"),
}
_FRAMES = {
    "aws_secret_key": 'aws_secret_access_key = "{}"',
    "aws_session_token": "AWS_SESSION_TOKEN={}",
    "azure_key": "AccountName=a;AccountKey={};EndpointSuffix=core",
    "azure_sas": "https://a.test/b?sv=1&sig={}",
    "connection_string": "postgres://ada:{}@db.test:5432/shop",
    "credential_fields": 'password: "{}"',
    "credential_headers": "Authorization: Bearer {}\n",
    "discord_webhook": "https://discord.com/api/webhooks/{}",
    "slack_webhook": "https://hooks.slack.com/services/{}",
    "telegram_token": "bot 123456789:{}",
}
_ALPHABETS = {"H": _HEX, "U": _UPPER, "W": _WORD}


def value_of(name: str) -> str:
    """Return a made-up value that a rule masks whole, the same in every run."""
    parts = []
    for place, part in enumerate(_FORMS.get(name, ("W20",))):
        is_drawn = part[0] in _ALPHABETS and part[1:].isdigit()
        parts.append(
            _draw(f"{name} {place}", int(part[1:]), _ALPHABETS[part[0]]) if is_drawn else part
        )
    return "".join(parts)


def frame_of(name: str) -> str:
    """Return what must stand around a value, with `{}` in its place."""
    return _FRAMES.get(name, "It is {} there.")
