"""`countersign verify` and `keys` on a running deployment."""

import json
import shutil
from pathlib import Path

from support.deployment import running
from support.messages import ask


def test_a_running_deployment_verifies_also_over_a_new_key_and_offline(tmp_path: Path) -> None:
    witness = tmp_path / "witness"
    with running(
        tmp_path / "var", environment={"COUNTERSIGN_LAKE__WITNESS_FILE": str(witness)}
    ) as deployment:
        token = deployment.token()
        for number in range(1, 3):
            assert ask(deployment.base_url, token, "Hello").status == 200
            deployment.wait_for("select 1 from exchanges", count=number)
            deployment.run("keys", "rotate")
        deployment.wait_for("select 1 from proofs where journal_id like 'proxy%'", count=2)
        copy = shutil.copytree(tmp_path / "var" / "warehouse", tmp_path / "copy")
        report = json.loads(deployment.run("verify", "--json", "--witness", str(witness)))
        assert report["findings"] == []
        assert report["coverage"]["witnessed"] >= 2
        assert len(report["coverage"]["keys"]) == 2
        assert "as it was recorded" in deployment.run("verify", "--since", "1h")
        (first,) = (
            key
            for key in (tmp_path / "var" / "keys" / "public").glob("*.pem")
            if not key.with_name(f"{key.stem}.endorsed.json").exists()
        )
        offline = deployment.run("verify", "--offline", str(copy), "--key", str(first))
        assert "as it was recorded" in offline
        for path in (copy / "countersign" / "exchanges" / "data").rglob("*.parquet"):
            path.unlink()
        assert "unreadable" in deployment.run(
            "verify", "--offline", str(copy), "--key", str(first), check=False
        )
