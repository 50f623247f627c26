"""Which commit a result says it is of: this package's own, or none."""

import os
import subprocess

import pytest

from trqam.experiment.provenance import source
from trqam.operations.bench import record

UNKNOWN = {"git_commit": "unknown", "git_changes": None}
FILE = "trqam/experiment/provenance.py"


def git(folder, *arguments):
    identity = {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@example.org"}
    identity |= {"GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@example.org"}
    command = ["git", "-c", "protocol.file.allow=always", "-C", str(folder), *arguments]
    done = subprocess.run(command, env={**os.environ, **identity}, capture_output=True, text=True, check=True)
    return done.stdout.strip()


def package(folder):
    """A folder that holds the package, as far as `source` looks at it."""
    (folder / FILE).parent.mkdir(parents=True)
    (folder / FILE).write_text("")
    return folder


def repository(folder, name=FILE):
    """A repository with one commit, and the commit."""
    (folder / name).parent.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text("")
    git(folder, "init", "-q")
    git(folder, "add", name)
    git(folder, "commit", "-q", "-m", "one")
    return git(folder, "rev-parse", "HEAD")


def test_a_checkout_has_its_commit_and_says_whether_it_was_changed(tmp_path):
    commit = repository(tmp_path)
    assert source(tmp_path) == {"git_commit": commit, "git_changes": False}
    (tmp_path / "notes").touch()  # no part of it
    assert source(tmp_path)["git_changes"] is False
    (tmp_path / FILE).write_text("changed")
    assert source(tmp_path) == {"git_commit": commit, "git_changes": True}


def test_worktrees_submodules_and_links_are_checkouts(tmp_path):
    commit = repository(tmp_path / "a b\nc")
    git(tmp_path / "a b\nc", "worktree", "add", "-q", str(tmp_path / "tree"))
    repository(tmp_path / "outer", "README")
    git(tmp_path / "outer", "submodule", "add", "-q", str(tmp_path / "a b\nc"), "inside")
    (tmp_path / "link").symlink_to("tree")
    for name in ("a b\nc", "tree", "outer/inside", "link"):
        assert source(tmp_path / name) == {"git_commit": commit, "git_changes": False}


@pytest.mark.parametrize("where", ["copy", ".venv/site-packages", "."])
def test_a_copy_in_or_over_another_repository_has_no_commit(tmp_path, where):
    repository(tmp_path, "README")
    copy = package(tmp_path / where)
    if where == "copy":
        (copy / ".git").mkdir()
    assert source(copy) == UNKNOWN
    if where != ".":
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "-q", "-m", "with the copy")
        assert source(copy) == UNKNOWN


@pytest.mark.parametrize("inside", [True, False])
def test_the_environment_names_no_other_repository(tmp_path, monkeypatch, inside):
    commit = repository(tmp_path / "own") if inside else package(tmp_path / "own")
    repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(tmp_path / "own"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path / "own"))
    assert source(tmp_path / "own") == ({"git_commit": commit, "git_changes": False} if inside else UNKNOWN)


def test_without_git_or_a_commit_all_is_unknown(tmp_path, monkeypatch):
    package(tmp_path)
    git(tmp_path, "init", "-q")
    assert source(tmp_path) == UNKNOWN  # nothing is committed
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-q", "-m", "one")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert source(tmp_path) == UNKNOWN


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another owner")
def test_a_checkout_of_another_owner_is_unknown(tmp_path, monkeypatch):
    commit = repository(tmp_path)
    for path in (tmp_path, tmp_path / ".git"):
        os.chown(path, 65534, 65534)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", os.devnull)
    assert source(tmp_path) == UNKNOWN
    monkeypatch.setenv("GIT_CONFIG_COUNT", "1")  # whoever trusts the folder tells git so
    monkeypatch.setenv("GIT_CONFIG_KEY_0", "safe.directory")
    monkeypatch.setenv("GIT_CONFIG_VALUE_0", str(tmp_path))
    assert source(tmp_path)["git_commit"] == commit


def test_the_benchmark_s_name_does_not_call_unknown_changed(monkeypatch):
    found = {**UNKNOWN, "hardware": {"cpu": "Some CPU"}}
    monkeypatch.setattr(record, "provenance", lambda: found)
    assert record.default_path("").name.endswith("-unknown.json")
