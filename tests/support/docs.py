"""Tables of the documentation that are generated from the code; `make docs` writes them."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from pyiceberg.types import IcebergType, ListType, MapType, StructType

from gateway.config import describe_settings
from gateway.conformance.run import CHECKS
from gateway.demo.directives import DIRECTIVES
from lake.catalog import SHAPES
from lake.names import ELSEWHERE, Elsewhere
from support.shipped import DEFAULT, source

ROOT = Path(__file__).parents[2]
OPA = ROOT / ".tools" / "opa-1.22.2" / "opa"


def settings() -> str:
    """Return docs/settings.md."""
    rows = "\n".join(f"| `{n}` | {default} | {text} |" for n, default, text in describe_settings())
    return f"""# Settings

One YAML file, read once at start and validated whole: `countersign config check FILE` says all
errors at once. Environment variables override it: `COUNTERSIGN_PROXY__PORT=9000` sets
`proxy.port`. A secret is only ever a reference: `file:PATH` or `env:NAME`.

| setting | default | what it is |
| --- | --- | --- |
{rows}
"""


def reasons() -> str:
    """Return docs/reasons.md, from the METADATA of the policies."""
    done = subprocess.run(
        [OPA, "inspect", "-a", "-f", "json", "policies"],
        cwd=ROOT,
        capture_output=True,
        check=True,
    )
    found: dict[str, str] = {}
    for item in json.loads(done.stdout).get("annotations", []):
        custom: dict[str, Any] = item["annotations"].get("custom", {})
        if "message" in custom:
            found[custom["code"]] = custom["message"]
    rows = "\n".join(f"| `{code}` | {found[code]} |" for code in sorted(found))
    return f"""# Reason codes of refusals

Every refusal says its sentence, its code and the exchange's id in one line; the record keeps them.
Codes and sentences live in the METADATA of the policies and nowhere else.

| code | sentence |
| --- | --- |
{rows}
"""


def columns() -> str:
    """Return lake/README.md."""
    parts = []
    for name, shape in SHAPES.items():
        rows = "\n".join(
            f"| `{field.name}` | {_type(field.field_type)} | {field.doc} | {_names(field.name)} |"
            for field in shape.schema().fields
        )
        head = "| column | type | what it is | OTel | OCSF |\n| --- | --- | --- | --- | --- |"
        parts.append(f"## {name}\n\n{head}\n{rows}")
    tables = "\n\n".join(parts)
    return f"""# The tables

Apache Iceberg, format version 2, Parquet with zstd, partitioned by day and retention class. The
recorder writes them; auditors read them with `countersign sql`, DuckDB or Spark. The last columns
say what OpenTelemetry's GenAI conventions and OCSF call the same, where they have a name for it.

An exchange lists its request body as pieces, its own and some kept from its base: `countersign sql`
has a view `bodies` (`exchange_id`, `request_body`, `response_body`) that puts them together.

{tables}
"""


def _type(kind: IcebergType) -> str:
    """Return a type in short: the fields of a struct by name."""
    match kind:
        case ListType():
            return f"list of {_type(kind.element_type)}"
        case MapType():
            return f"map of {_type(kind.key_type)} to {_type(kind.value_type)}"
        case StructType():
            return (
                f"({', '.join(f'{field.name} {_type(field.field_type)}' for field in kind.fields)})"
            )
        case _:
            return str(kind)


def _names(column: str) -> str:
    names = ELSEWHERE.get(column, Elsewhere())
    return " | ".join(f"`{name}`" if name else "" for name in names)


def directives() -> str:
    """Return docs/demo.md."""
    rows = "\n".join(f"| `{name}` | {text} |" for name, text in DIRECTIVES.items())
    return f"""# The demo Claude

`countersign up --demo` starts a server that speaks the Messages API and has no model behind it; all
its answers say so. A prompt steers it, with `[[demo NAME]]` or `[[demo NAME=VALUE]]`:

| directive | what it does |
| --- | --- |
{rows}
"""


def conformance() -> str:
    """Return docs/conformance.md."""
    rows = "\n".join(f"| `{check.name}` | {check.proves} |" for check in CHECKS)
    return f"""# The conformance suite

What Claude Code and the SDKs rely on is a contract that no gateway may break. `countersign
conformance` checks it from the outside, against this gateway or any other: it makes calls as bytes
and is at the same time the Claude server that the tested gateway forwards them to, so that it sees
both what went in and what came out.

1. Point the tested gateway at the suite: its only endpoint is `http://127.0.0.1:8490` (or what
   `--upstream-host` and `--upstream-port` say), with any credential. In Countersign's settings:

   ```yaml
   endpoints:
     claude: {{base_url: "http://127.0.0.1:8490", credential: "file:/run/secrets/any"}}
   ```

   Use a gateway that carries nothing else meanwhile: every call that arrives counts.
2. Have a token that may use `--model` and may not use `--denied-model`; with `--expired-token`, one
   whose only fault is its age.
3. Run it:

   ```sh
   COUNTERSIGN_TOKEN=… countersign conformance --base-url http://127.0.0.1:8484
   ```

It prints a table of check, result and what was seen, or with `--json` a line for each; `--only
NAME` runs one. The exit status is not 0 if a check fails. A check that lacks what it needs is
skipped, and says so. What is cut into events is compared byte for byte, in words that no common
mask holds back.

| check | what it proves |
| --- | --- |
{rows}

What the suite can't see: whether a record is kept, and whether what is denied is what should be.

## What this gateway changes knowingly

- The server is asked for answers without compression (`accept-encoding: identity`), since masks
  have to read them; callers get them so, which every client can read. An answer that comes
  compressed all the same is a 502.
- A request body with a `content-encoding` is refused: no client of Claude's sends one.
- `authorization`, `x-api-key`, `cookie`, forwarding and hop-by-hop headers end at the gateway, as
  do its own `x-countersign-…`; all others go on.
- Where a mask replaces or holds back text, the events around it carry it in other pieces.
- A list of models is asked for with the longest page, and shows what policy lets the caller use.
- A caller that closes its sending side has left: its call is cancelled.
- A 401 and a redirect of the server are about the gateway, and become a 502.
"""


_DETAILS = {"luhn": "Luhn check", "iban": "IBAN check (modulo 97)"}


def masking() -> str:
    """Return docs/masking.md, with a table of the masks that are shipped."""
    tables = source()
    parts = []
    for topic, names in sorted(tables.topics.items()):
        is_on = "on for everyone" if topic in DEFAULT else "on where a policy asks for it"
        rows = "\n".join(_mask_row(name, tables.masks[name]) for name in sorted(names))
        head = "| mask | what | how it is known |\n| --- | --- | --- |"
        parts.append(f"### `{topic}`: {is_on}\n\n{head}\n{rows}")
    shipped_masks = "\n\n".join(parts)
    guide = (Path(__file__).parent / "masking_guide.md").read_text()
    return f"{guide}\n{shipped_masks}\n"


def _mask_row(name: str, rule: dict[str, Any]) -> str:
    begins = rule.get("begins") or rule.get("starts") or rule.get("names") or ()
    known = [f"`{each}`".replace("|", "\\|") for each in begins] or [f"around `{rule['needs']}`"]
    told = [", ".join(known)]
    if check := rule.get("check"):
        told.append(_DETAILS[check])
    if floor := rule.get("entropy"):
        told.append(f"at least {floor} bits per character")
    if until := rule.get("until"):
        told.append(f"up to `{until}`")
    return f"| `{name}` | {rule['title']} | {'; '.join(told)} |"


GENERATED = {
    ROOT / "docs" / "conformance.md": conformance,
    ROOT / "docs" / "masking.md": masking,
    ROOT / "docs" / "settings.md": settings,
    ROOT / "docs" / "reasons.md": reasons,
    ROOT / "docs" / "demo.md": directives,
    ROOT / "lake" / "README.md": columns,
}

if __name__ == "__main__":
    for path, generate in GENERATED.items():
        path.write_text(generate())
        sys.stdout.write(f"{path.relative_to(ROOT)}\n")
