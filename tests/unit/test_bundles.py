"""The revision of a bundle says exactly which policies it holds."""

import io
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest
from support.deployment import ROOT

from gateway.bundles import BadPolicy, build_bundle, digest_policies, find_revision


@pytest.fixture
def policies(tmp_path: Path) -> Path:
    shutil.copytree(ROOT / "policies", tmp_path / "repo" / "policies")
    return tmp_path / "repo" / "policies"


def commit(repository: Path) -> str:
    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=t", "-c", "user.email=t@t.test")
        command = ["git", "-C", str(repository), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("add", "-A")
    git("commit", "-q", "-m", "policies")
    return git("rev-parse", "HEAD")


def test_without_git_the_revision_is_the_content(policies: Path) -> None:
    digest = digest_policies(policies)
    assert find_revision(policies, digest) == f"content-{digest}"


def test_a_clean_checkout_is_its_commit_and_a_changed_one_says_so(policies: Path) -> None:
    head = commit(policies.parent)
    assert find_revision(policies, digest_policies(policies)) == head
    (policies.parent / "elsewhere").write_text("not a policy")
    assert find_revision(policies, digest_policies(policies)) == head
    before = digest_policies(policies)
    (policies / "gateway" / "new.rego").write_text("package gateway.new")
    after = digest_policies(policies)
    assert before != after
    assert find_revision(policies, after) == f"{head}-dirty-{after}"


def test_a_bundle_carries_its_revision_and_no_schemas(opa: Path, policies: Path) -> None:
    bundle = build_bundle(opa, policies)
    with tarfile.open(fileobj=io.BytesIO(bundle.archive)) as archive:
        names = archive.getnames()
        manifest = archive.extractfile("/.manifest")
        assert manifest is not None
        assert json.loads(manifest.read())["revision"] == bundle.revision
    assert not [name for name in names if "schema" in name or "_test" in name]
    assert bundle.etag == build_bundle(opa, policies).etag


def test_broken_rego_names_file_and_row(opa: Path, policies: Path) -> None:
    (policies / "gateway" / "broken.rego").write_text("package gateway.broken\n\nallow if {\n")
    with pytest.raises(BadPolicy, match=r"^/.*/policies/gateway/broken\.rego:\d+: "):
        build_bundle(opa, policies)


def test_a_bundle_without_tables_is_said(opa: Path, policies: Path) -> None:
    (policies / "gateway" / "tables.rego").unlink()
    with pytest.raises(BadPolicy, match=r"no tables: data\.gateway\.tables\.main is undefined"):
        build_bundle(opa, policies)
