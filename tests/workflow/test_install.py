"""The Makefile's variables, and the environment that it makes: refused in one line, made, kept, made anew."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from shlex import quote

import pytest

from tests.conftest import ROOT

PYTHON = sys.executable
PIN = "numpy-2.4.6.dist-info"


@pytest.fixture
def setup(tmp_path, monkeypatch):
    """install.py in a folder of its own, whose pip installs one package, of which only records are real."""
    place = tmp_path / "a stranger's folder"
    place.mkdir()
    (place / "workflow").mkdir()
    for name in ("workflow/install.py", "pyproject.toml"):
        shutil.copy(ROOT / name, place / name)
    (place / "requirements.txt").write_text("numpy==2.4.6\n")
    return load(place, monkeypatch)


def imported(place):
    """The module install.py of a folder."""
    spec = importlib.util.spec_from_file_location("install", place / "workflow/install.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def load(place, monkeypatch):
    """The same, with a stand-in for what it runs."""
    module = imported(place)
    module.commands = []

    def run(command, begun):
        module.commands.append(command)
        if "venv" in command:
            subprocess.run([command[0], "-m", "venv", "--without-pip", command[-1]], check=True)
        if "-r" in command:
            for record in module.pins():
                wheel(module.VENV, record)

    monkeypatch.setattr(module, "run", run)
    return module


def site(venv):
    return next(venv.glob("lib/python3*/site-packages"))


def wheel(venv, record, version=""):
    """What an installed package leaves, as far as install.py looks."""
    folder = site(venv) / record.replace(".dist-info", f"{version}.dist-info")
    folder.mkdir(exist_ok=True)
    (folder / "RECORD").write_text("numpy/core.py,sha256=x,1\nnumpy/a.py,,\n__pycache__/x.pyc,,\n../../../bin/f2py,,\n")
    (site(venv) / "numpy").mkdir(exist_ok=True)


def program(folder, name, body):
    path = folder / name
    path.parent.mkdir(exist_ok=True, parents=True)
    path.write_text(f"#!/bin/sh\n{body}\n")
    path.chmod(0o755)
    return str(path)


def made(setup):
    assert setup.main([]) == 0
    setup.commands.clear()
    (setup.VENV / "witness").touch()
    return setup


def test_nothing_to_do_changes_nothing_and_says_nothing(setup, capsys):
    made(setup)
    assert "trqam: making .venv: 1 pinned packages" in capsys.readouterr().out
    before = setup.MARK.read_bytes()
    assert setup.main([]) == 0
    assert setup.main([sys.executable]) == 0
    assert setup.main(["--look"]) == 0
    assert capsys.readouterr() == ("", "")
    (site(setup.VENV) / PIN).rename(site(setup.VENV) / PIN.replace(".dist-info", "+cpu.dist-info"))  # a local build
    assert setup.main([]) == 0
    assert (setup.commands, setup.MARK.read_bytes()) == ([], before)


SPOILT = {
    "its installation was not finished": lambda venv: (venv / "installed").write_text('{"unfinished": true}'),
    "its Python does not start": lambda venv: [(venv / "bin" / n).unlink() for n in ("python", "python3")],
    "numpy-2.4.6 is missing or incomplete in it": lambda venv: shutil.rmtree(site(venv) / PIN),
    "numpy-2.4.6 is missing or incomplete in  it": lambda venv: shutil.rmtree(site(venv) / "numpy"),
    "an earlier version of this project made it": lambda venv: (venv / "installed").write_text(""),
    "an earlier version of this project  made it": lambda venv: (venv / "installed").write_text("{damaged"),
}


@pytest.mark.parametrize("reason", SPOILT)
def test_what_was_made_here_and_is_spoilt_is_made_anew(setup, capsys, reason):
    made(setup)
    SPOILT[reason](setup.VENV)
    capsys.readouterr()
    assert setup.main(["--look"]) == (0 if "earlier" in reason else 1)
    assert setup.main([]) == 0
    assert f"trqam: making .venv anew: {' '.join(reason.split())}\n" in capsys.readouterr().out
    assert not (setup.VENV / "witness").exists()
    assert setup.main([]) == 0
    assert len(setup.commands) == 3


@pytest.mark.parametrize("how", [shutil.copytree, os.rename])
def test_a_folder_that_was_moved_or_copied_gets_an_environment_of_its_own(setup, capsys, monkeypatch, tmp_path, how):
    made(setup)
    how(setup.ROOT, tmp_path / "elsewhere", **({"symlinks": True} if how is shutil.copytree else {}))
    there = load(tmp_path / "elsewhere", monkeypatch)
    assert there.main([]) == 0
    assert f"anew: this folder was moved or copied from {setup.ROOT}\n" in capsys.readouterr().out
    assert not (there.VENV / "witness").exists()
    assert (setup.VENV / "witness").exists() == (how is shutil.copytree)


def test_another_python_means_another_environment_but_only_if_it_is_named(setup, capsys, monkeypatch, tmp_path):
    made(setup)
    other = "3.12" if sys.version_info[:2] == (3, 11) else "3.11"
    named = program(tmp_path, f"python{other}", f'[ "$1" = -m ] && exec {quote(PYTHON)} "$@"\necho {other} "$0"')
    monkeypatch.setattr(setup.sys, "executable", named)
    assert setup.main([]) == 0
    assert setup.commands == []
    assert setup.main([named]) == 0
    out = capsys.readouterr().out
    assert re.search(r"anew: it was made with \S+, and is to be of \S+/python\d\.\d+\n", out)


def test_changed_requirements_are_brought_in_and_what_the_user_added_stays(setup, capsys):
    made(setup)
    (setup.ROOT / "requirements.txt").write_text("numpy==2.4.7\n")
    assert setup.main([]) == 0
    assert "has changed; bringing .venv up to date" in capsys.readouterr().out
    assert [command[2] for command in setup.commands] == ["pip", "pip"]
    assert (setup.VENV / "witness").exists()


def test_an_interrupted_or_failed_installation_does_not_count(setup, capsys, monkeypatch):
    for error, code in ((KeyboardInterrupt(), 130), (setup.Refused("the installation failed: no network"), 1)):
        with monkeypatch.context() as patch:
            patch.setattr(setup, "run", lambda *_, error=error: (_ for _ in ()).throw(error))
            assert setup.main([]) == code
        assert capsys.readouterr().err.count("\n") == 1
        assert setup.main(["--look"]) == 1
        capsys.readouterr()
    assert setup.main([]) == 0
    assert "anew: its installation was not finished" in capsys.readouterr().out


def test_a_users_own_environment_is_used_if_it_fits_and_never_changed(setup, capsys):
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", setup.VENV], check=True)
    before = sorted(setup.VENV.rglob("*"))
    assert setup.main([]) == 1
    assert capsys.readouterr().err == (
        "trqam: .venv was not made by make in this folder, and numpy-2.4.6 is missing or incomplete in it: "
        "move it away, then make another\n"
    )
    assert sorted(setup.VENV.rglob("*")) == before
    wheel(setup.VENV, PIN)
    assert (setup.main([]), setup.commands) == (0, [])
    assert capsys.readouterr() == ("", "")


def test_a_link_to_the_environment_of_another_folder_is_never_emptied(setup, capsys, monkeypatch, tmp_path):
    made(setup)
    other = tmp_path / "other"
    shutil.copytree(setup.ROOT, other, ignore=shutil.ignore_patterns(".venv"))
    (other / ".venv").symlink_to(setup.VENV)
    there = load(other, monkeypatch)
    assert (there.main([]), there.commands) == (0, [])
    shutil.rmtree(site(setup.VENV) / PIN)
    assert there.main([]) == 1
    assert (setup.VENV / "witness").exists()
    assert setup.main([]) == 0  # its own folder makes it anew
    (other / ".venv").unlink()
    (other / ".venv").symlink_to(tmp_path / "gone")
    assert there.main([]) == 1
    assert "is no folder that is there" in capsys.readouterr().err
    (other / ".venv").unlink()
    (tmp_path / "scratch").mkdir()
    (other / ".venv").symlink_to(tmp_path / "scratch")
    assert there.main([]) == 1  # somebody's folder


@pytest.mark.parametrize(
    ("body", "what"), [("echo 3.13 /opt/x", "is 3.13"), ("echo 3.8 /opt/x", "is 3.8"), ("exit 127", "does not start")]
)
def test_a_python_out_of_bounds_is_one_line_before_anything_is_made(setup, capsys, tmp_path, body, what):
    python = program(tmp_path / "bin", "python", body)
    assert setup.main([python]) == 1
    line = f"trqam: Python 3.11 or 3.12 is needed, {python} {what}: make PYTHON=python3.12\n"
    assert capsys.readouterr() == ("", line)
    assert not setup.VENV.exists()


def test_one_on_path_is_taken_where_python3_is_out_of_bounds(setup, capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(setup.sys, "executable", program(tmp_path / "bin", "python3", "echo 3.13 /opt/python3.13"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    assert setup.main([]) == 1
    assert "python3 is 3.13" in capsys.readouterr().err
    program(tmp_path / "bin", "python3.11", "exit 127")  # as pyenv's, of a version that is not chosen
    program(tmp_path / "bin", "python3.12", f"echo 3.12 {quote(PYTHON)}")
    assert setup.main([]) == 0
    assert capsys.readouterr().out.startswith("trqam: python3 is 3.13; taking python3.12\n")
    assert setup.commands[0][0] == PYTHON


def test_a_python_without_venv_is_one_line_and_costs_nothing(setup, capsys, tmp_path):
    python = program(
        tmp_path, "python", f'case "$2" in "import ensurepip"*) exit 1;; esac; echo 3.11 {tmp_path}/python'
    )
    assert setup.main([python]) == 1
    assert "has no venv module; on Debian or Ubuntu: apt install python3.11-venv" in capsys.readouterr().err
    assert not setup.VENV.exists()
    made(setup)
    assert setup.main([python]) == 1  # as another Python it would make it anew
    assert (setup.VENV / "witness").exists()


def test_a_colon_in_the_path_is_one_line(setup, capsys, monkeypatch, tmp_path):
    place = shutil.copytree(setup.ROOT, tmp_path / "a:b")
    assert load(place, monkeypatch).main([]) == 1
    assert "no environment works in a folder with a colon in its name" in capsys.readouterr().err


def test_what_pip_does_is_said_every_few_seconds_and_its_failure_in_one_line(setup, capsys, tmp_path):
    module = imported(setup.ROOT)
    module.TICK = 0.2
    module.VENV.mkdir()
    said = 'echo "Collecting numpy==2.4.6"; sleep 1; echo "ERROR: No matching distribution"; exit 1'
    slow = program(tmp_path, "pip", said)
    with pytest.raises(module.Refused, match=r"install\.log\): ERROR: No matching distribution$"):
        module.run([slow, "-m", "pip"], 0.0)
    assert re.search(r"^ +\d+ s  Collecting numpy==2\.4\.6$", capsys.readouterr().out, re.MULTILINE)
    assert "No matching" in (module.VENV / "install.log").read_text()


def test_no_other_file_names_other_bounds(setup):
    allowed = setup.versions()
    assert re.search(r"- python=(\S+)", (ROOT / "environment.yml").read_text())[1] in allowed
    assert f"{sys.version_info[0]}.{sys.version_info[1]}" in allowed


def make(*words, folder=ROOT, code=0, **options):
    """What make prints; as from a shell, though the tests run under make themselves."""
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("MAKE", "MFLAGS"))}
    done = subprocess.run(["make", *words], cwd=folder, env=environment, capture_output=True, text=True, **options)
    assert (done.returncode == 0) == (code == 0), done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(
    ("goal", "option"),
    [("paper", "--configfile"), ("bench", "--config"), ("status", "--config"), ("doctor", "--config")],
)
def test_every_goal_takes_the_configuration(goal, option):
    assert f'{option} "config/paper.yaml"' in make("-n", goal, "CONFIG=config/paper.yaml")
    assert "config/paper.yaml" not in make("-n", goal)
    error = make(goal, "CONFIG=config/none.yaml", code=2)
    assert "trqam: CONFIG=config/none.yaml: no such file; name a scale file, such as config/paper.yaml\n" in error
    assert "install.py" not in error


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["paper", "CONFG=a"], "CONFG= means nothing here; these do: CONFIG CORES FROM CLEAR PYTHON PYTEST"),
        (["paper", "config=a"], "config= means nothing here"),
        (["paper", "CONFIG="], "CONFIG= is empty"),
        (["paper", "FROM="], "FROM= is empty"),
        (
            ["test", "CONFIG=config/paper.yaml"],
            "CONFIG= means nothing to make test; only to: paper bench status doctor",
        ),
        (["status", "CORES=2"], "CORES= means nothing to make status; only to: paper"),
        (["paper", "CORES=0"], "CORES=0: write a number of cores from 1 on, or all"),
        (["paper", "FROM=a.zip", "CONFIG=b.yaml"], "FROM=a.zip carries its configuration: leave out CONFIG=b.yaml"),
    ],
)
def test_a_variable_that_nothing_obeys_is_refused(words, line):
    assert line in make("-n", *words, code=2)


def test_make_alone_says_what_there_is():
    shown = make()
    assert shown.startswith("make paper ")
    assert not re.search("^#", shown, re.MULTILINE)


def test_looking_installs_nothing(tmp_path):
    (tmp_path / "workflow").mkdir()
    for name in ("Makefile", "workflow/install.py", "pyproject.toml", "requirements.txt"):
        shutil.copy(ROOT / name, tmp_path / name)
    before = sorted(tmp_path.iterdir())
    assert "nothing was made here: make paper" in make("status", folder=tmp_path, code=2)
    assert sorted(tmp_path.iterdir()) == before
