"""The whole product over TLS, with a certificate that only its clients trust."""

import json
import ssl
import urllib.request
from pathlib import Path

import pytest
from support.certificates import write_pair
from support.deployment import running


def test_proxy_and_console_speak_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    certificate, key = write_pair(tmp_path, "countersign")
    listeners = ("PROXY", "CONSOLE", "RECORDER")
    files = {"CERTIFICATE": str(certificate), "KEY": str(key)}
    environment = {
        f"COUNTERSIGN_{listener}__TLS__{name}": file
        for listener in listeners
        for name, file in files.items()
    }
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))  # as operators name a CA of their own
    with running(tmp_path / "var", environment=environment) as deployment:
        token = deployment.token("tess")
        call = urllib.request.Request(
            f"https://127.0.0.1:{deployment.base_port}/v1/messages",
            data=json.dumps(
                {
                    "model": "claude-sonnet-4-5",
                    "max_tokens": 50,
                    "messages": [{"role": "user", "content": "Hello over TLS"}],
                }
            ).encode(),
            headers={"authorization": f"Bearer {token}", "content-type": "application/json"},
        )
        trusting = ssl.create_default_context(cafile=str(certificate))
        with urllib.request.urlopen(call, context=trusting, timeout=20) as answer:
            assert answer.status == 200
        assert "tess" in deployment.run("sessions", "list", token=token)
