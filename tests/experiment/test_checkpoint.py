"""Checkpoints and files: what a failed write, a kill and damage leave, and what is made of it."""

import errno
import os
import resource
import stat

import pytest
import torch

from tests.training.test_training import killed
from trqam.config.errors import UserError
from trqam.experiment import checkpoint, files, lock
from trqam.experiment.files import sweep, temporary_name, write_atomically, write_json, writing


def tensors(value):
    return {"online/critic": torch.full((1000,), float(value))}


def save(folder, step, **options):
    checkpoint.save(folder, step, tensors(step), {"rows": [step]}, **options)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def both(step):
    return [f"step{step:09d}.json", f"step{step:09d}.safetensors"]


def test_two_generations_are_kept_and_a_step_gone_back_behind_is_forgotten(tmp_path):
    for step in (5, 10, 15):
        save(tmp_path, step)
    assert names(tmp_path) == [*both(10), *both(15)]
    save(tmp_path, 12)
    assert checkpoint.Checkpoints(tmp_path).steps == [12, 10]


def test_what_a_kill_parted_from_its_record_goes_with_the_next_save(tmp_path):
    for step in (5, 10):
        save(tmp_path, step)
    (tmp_path / both(5)[0]).unlink()
    save(tmp_path, 15)
    assert names(tmp_path) == [*both(10), *both(15)]


@pytest.mark.parametrize("damaged", [0, 1])
def test_a_damaged_generation_is_named_and_all_damaged_is_an_error(tmp_path, capsys, damaged):
    for step in (5, 10):
        save(tmp_path, step)
    (tmp_path / both(10)[damaged]).write_bytes(b"{}")
    assert checkpoint.Checkpoints(tmp_path).steps == checkpoint.Checkpoints(tmp_path).steps == [5]
    (warning,) = capsys.readouterr().err.splitlines()
    assert both(10)[damaged] in warning
    (tmp_path / both(5)[damaged]).write_bytes(b"{}")
    with pytest.raises(UserError, match=r"no undamaged checkpoint is left in .* `trqam clean`"):
        _ = checkpoint.Checkpoints(tmp_path).steps


@pytest.mark.parametrize("write", [1, 2, 3])
def test_other_tensors_of_a_saved_step_replace_them_under_any_kill(tmp_path, write):
    """As when only the policy is kept: there is no older generation to go back to."""
    save(tmp_path, 20)
    replace = lambda: checkpoint.save(tmp_path, 20, tensors(0), {"rows": [20], "kept": "policy"}, keep=1)  # noqa: E731
    assert killed(replace, files, "publish", write)
    assert checkpoint.Checkpoints(tmp_path).load(20)[1]["rows"] == [20]
    replace()
    found, record = checkpoint.Checkpoints(tmp_path).load(20)
    assert not found["online/critic"].any()
    assert record["kept"] == "policy"
    sweep(tmp_path)
    assert names(tmp_path) == both(20)


def refused(folder, limit):
    """In a fork that may write so many bytes a file: the message of a save's UserError."""
    reading, writing_end = os.pipe()
    child = os.fork()
    if child == 0:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
        try:
            save(folder, 10)
        except UserError as error:
            os.write(writing_end, str(error).encode())
        os._exit(0)
    os.close(writing_end)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reading) as file:
        return file.read()


@pytest.mark.parametrize("limit", [0, 1, 2000])
def test_a_refused_write_is_one_line_and_leaves_what_was_there(tmp_path, limit):
    save(tmp_path, 5)
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    message = refused(tmp_path, limit)
    assert message.startswith(f"{tmp_path}/step000000010.safetensors: cannot be written (File too large); make room")
    assert "\n" not in message
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize(
    ("number", "fix"), [(28, "make room"), (30, "make it writable"), (13, "make it writable"), (5, "look after")]
)
def test_the_fix_is_that_of_the_problem(number, fix):
    pattern = f"the/file: cannot be written .*; {fix}.* run the same command again"
    with pytest.raises(UserError, match=pattern), writing("the/file"):
        raise OSError(number, os.strerror(number))


def test_sweeping_takes_temporary_files_only(tmp_path):
    for name in ("a.json", ".hidden", ".a.tmp", "b.1.tmp"):
        (tmp_path / name).touch()
    temporary_name(tmp_path / "a.json").touch()
    assert killed(lambda: write_atomically(tmp_path / "c", b"x"), os, "replace", 1)
    assert len(names(tmp_path)) == 6
    sweep(tmp_path)
    sweep(tmp_path / "missing")
    assert names(tmp_path) == [".a.tmp", ".hidden", "a.json", "b.1.tmp"]


def test_an_interrupted_write_leaves_no_temporary_file(tmp_path, monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(files, "publish", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_json(tmp_path / "a.json", {})
    assert names(tmp_path) == []


def refusing(monkeypatch, number, folders_only):
    """The file system answers a request to wait for the disk with this error."""
    fsync = os.fsync

    def refuse(descriptor):
        if not folders_only or stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(number, os.strerror(number))
        fsync(descriptor)

    monkeypatch.setattr(os, "fsync", refuse)


@pytest.mark.parametrize("folders_only", [True, False])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP])
def test_a_share_that_cannot_wait_for_the_disk_is_no_failure(tmp_path, monkeypatch, number, folders_only):
    refusing(monkeypatch, number, folders_only)
    monkeypatch.setattr(os, "link", lambda *_: refuse_links(number))
    with lock.held([tmp_path / "run" / "lock"]):
        assert lock.standing(tmp_path / "run" / "lock")[0] == "held"
    save(tmp_path, 5)
    assert checkpoint.Checkpoints(tmp_path).steps == [5]
    assert not list(tmp_path.rglob(".*"))


def refuse_links(number):
    raise OSError(number, os.strerror(number))


@pytest.mark.parametrize("folders_only", [True, False])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT])
def test_a_disk_that_fails_is_one(tmp_path, monkeypatch, number, folders_only):
    refusing(monkeypatch, number, folders_only)
    with pytest.raises(UserError, match=r"step000000005.safetensors: cannot be written"):
        save(tmp_path, 5)


def test_a_folder_that_may_be_written_and_not_read_is_enough(tmp_path, monkeypatch):
    opened = os.open

    def refuse(path, flags, *rest, **options):
        if os.path.isdir(path):
            raise PermissionError(errno.EACCES, "Permission denied")
        return opened(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", refuse)
    write_json(tmp_path / "a.json", {})
    assert (tmp_path / "a.json").read_text() == "{}\n"


def test_a_folder_named_as_a_checkpoint_is_not_deleted(tmp_path):
    (tmp_path / "step000000003.json").mkdir()
    for step in (5, 10):
        save(tmp_path, step)
    assert (tmp_path / "step000000003.json").is_dir()
    assert checkpoint.Checkpoints(tmp_path).steps == [10, 5]
