"""A crash at any moment: what a caller was given is in the table, and every exchange once."""

import json
import os
import signal
import socket
import threading
import time
from pathlib import Path

from support.deployment import Deployment, running

STREAMS = 12


def stream(deployment: Deployment, token: str, name: str, received: dict[str, bytes]) -> None:
    """Read a paced stream until it ends or breaks, noting every byte of its body."""
    body = json.dumps(
        {
            "model": "claude-sonnet-4-5",
            "max_tokens": 900,
            "stream": True,
            "messages": [{"role": "user", "content": f"{name} [[demo length=600 pace=40]]"}],
        }
    ).encode()
    head = (
        f"POST /v1/messages HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\n"
        f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
    )
    raw = b""
    try:
        with socket.create_connection(("127.0.0.1", deployment.base_port), timeout=30) as peer:
            peer.sendall(head.encode() + body)
            while data := peer.recv(65536):
                raw += data
    except OSError:
        pass
    received[name] = unchunk(raw.partition(b"\r\n\r\n")[2])


def unchunk(raw: bytes) -> bytes:
    """Return the body of a chunked answer as far as it arrived."""
    body = b""
    while raw:
        size, _, rest = raw.partition(b"\r\n")
        if not size or not (length := int(size, 16)):
            break
        body += rest[:length]
        raw = rest[length + 2 :]
    return body


def test_what_was_delivered_before_a_kill_is_in_the_table_afterwards(tmp_path: Path) -> None:
    received: dict[str, bytes] = {}
    with running(tmp_path / "var") as deployment:
        token = deployment.token()
        callers = [
            threading.Thread(target=stream, args=(deployment, token, f"s{n}", received))
            for n in range(STREAMS)
        ]
        for caller in callers:
            caller.start()
            time.sleep(0.1)
        time.sleep(1.5)
        os.kill(deployment.process.pid, signal.SIGKILL)
        deployment.process.wait()
        for caller in callers:
            caller.join(30)
    assert any(received.values())
    assert not all(b"message_stop" in body for body in received.values())
    with running(tmp_path / "var") as deployment:
        deployment.wait_for("select 1 from exchanges where prompt_text like 's%'", STREAMS)
        rows = deployment.sql(
            "select split_part(e.prompt_text, ' ', 1) as name, e.ending, e.released_bytes, "
            "hex(c.data) as data from exchanges e "
            "left join contents c on c.exchange_id = e.exchange_id and c.side = 'response' "
            "where e.prompt_text like 's%' order by 1"
        )
    assert sorted(row["name"] for row in rows) == sorted(received)
    for row in rows:
        recorded = bytes.fromhex(row["data"] or "")
        assert recorded.startswith(received[row["name"]])
        assert row["ending"] in {"interrupted", "delivered"}
    assert "interrupted" in {row["ending"] for row in rows}
