"""What is typed after `trqam`, and what a process inherits: numbers, paths, streams, variables."""

import os
import subprocess
import sys
from pathlib import Path
from shlex import quote

import pytest

from tests.conftest import ROOT
from trqam.__main__ import main, parsed, parser
from trqam.config import command_line
from trqam.config.errors import UserError
from trqam.experiment.files import write_atomically

DOMAIN = "pointmaze-medium-navigate"
TASK = f"{DOMAIN}-singletask-task2-v0"
COMMANDS = parser()._subparsers._group_actions[0].choices
NUMBERS = ["1" + "0" * 18, "9" * 400, "-1", "nan", "1e400", "", "1.5.2"]


def least(command):
    """The fewest words that the command takes."""
    words = [command]
    for action in COMMANDS[command]._actions:
        value = next(iter(action.choices)) if action.choices else "name"
        if not action.option_strings and action.nargs not in ("?", "*"):
            words.append(value)
        elif action.required and action.option_strings:
            words += [action.option_strings[0], value]
    return words


OPTIONS = [(name, action) for name, command in COMMANDS.items() for action in command._actions]
COUNTED = [(name, action.option_strings[0]) for name, action in OPTIONS if action.type not in (None, command_line.path)]


@pytest.mark.parametrize(("command", "option"), COUNTED, ids=lambda value: value)
@pytest.mark.parametrize("text", NUMBERS, ids=lambda value: value[:5])
def test_a_number_beyond_its_bounds_is_one_line(command, option, text, capsys):
    with pytest.raises(SystemExit) as ended:
        parsed([*least(command), f"{option}={text}"])
    assert ended.value.code == 2
    line = capsys.readouterr().err
    assert line.startswith(f"trqam {command}: error: argument {option}: ")
    assert line.count("\n") == 1
    assert len(line) < 500


def test_every_number_of_the_command_line_has_bounds():
    assert len(COUNTED) > 15
    assert not [(name, action.option_strings) for name, action in OPTIONS if action.type in (int, float)]
    for name in COMMANDS:
        parsed(least(name))


def test_the_scale_may_be_named_after_the_command():
    before = parsed(["--config", "tests/tiny.yaml", "--set", "seeds=3", "--set", "mixed=true", "status"])
    for words in (
        ["status", "--config", "tests/tiny.yaml", "--set", "seeds=3", "--set", "mixed=true"],
        ["--set", "seeds=3", "status", "--set", "mixed=true", "--config=tests/tiny.yaml"],
        ["--config", "other.yaml", "--set", "seeds=3", "status", "--config", "tests/tiny.yaml", "--set", "mixed=true"],
    ):
        found = parsed(words)
        assert (found.config, found.set) == (before.config, before.set)
    assert parsed(["status"]).config == Path("config/config.yaml")


def test_a_tilde_that_the_shell_leaves_means_home(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert parsed(["generate", "name", "--out=~/data"]).out == tmp_path / "data"
    for text, found in (("", "''"), ("~nobody-here/data", "~nobody"), ("x" * 300, "xxx"), ("x/" * 3000, "x/x")):
        with pytest.raises(SystemExit):
            parsed(["generate", "name", f"--out={text}"])
        assert f"argument --out: '{found.strip(chr(39))}" in (line := capsys.readouterr().err)
        assert line.count("\n") == 1


def run(shell, **environment):
    """The outcome of a line of the shell, in which `trqam` stands for the command."""
    line = f'trqam() {{ {quote(sys.executable)} -m trqam "$@"; }}; {shell}'
    environment = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(["bash", "-c", line], env=environment, capture_output=True, text=True)


def test_a_device_or_pipe_is_not_replaced_by_a_file(tmp_path):
    """Whoever may write /dev, as in a container, would have no /dev/null after `--out /dev/null`."""
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to("pipe")
    for path in (tmp_path / "pipe", tmp_path / "link"):
        with pytest.raises(UserError, match=f"^{path}: a device or pipe, and no file to be replaced; "):
            write_atomically(path, "text")
    assert (tmp_path / "pipe").is_fifo()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["link", "pipe"]


def test_a_file_that_the_system_refuses_is_one_line(monkeypatch, capsys):
    def status(arguments, config):
        Path("/nowhere/file").read_text()

    monkeypatch.setattr("trqam.cli.commands.status", status)
    monkeypatch.setattr(sys, "argv", ["trqam", "--config", "tests/tiny.yaml", "status"])
    with pytest.raises(SystemExit) as ended:
        main()
    line = "trqam: error: /nowhere/file: No such file or directory; mend that and run it again\n"
    assert (ended.value.code, capsys.readouterr().err) == (2, line)


STATUS = "trqam --config tests/tiny.yaml status"


@pytest.mark.parametrize(
    ("shell", "code", "errors"),
    [
        (f"{STATUS} | false; exit ${{PIPESTATUS[0]}}", 141, ""),
        (f"{STATUS} --help | false; exit ${{PIPESTATUS[0]}}", None, ""),
        ("trqam --config tests/tiny.yaml doctor | head -1 >&2; exit ${PIPESTATUS[0]}", 141, "ok    python"),
        (f"{STATUS} >&-", 0, ""),
        (f"{STATUS} 2>&-", 0, ""),
        (f"{STATUS} <&- >&- 2>&-", 0, ""),
        (f"{STATUS} --set seeds=x 2>&-", 2, ""),
        (f"{STATUS} --set seeds=x 2>&1 | false; exit ${{PIPESTATUS[0]}}", 2, ""),
        (f"{STATUS} > /dev/full", 2, "trqam: error: stdout: cannot be written (No space left on device); make room"),
    ],
)
def test_closed_streams_and_full_disks(shell, code, errors):
    if "/dev/full" in shell and not Path("/dev/full").exists():
        pytest.skip("needs Linux's /dev/full")
    if "doctor" in shell:
        shell = f"cd {quote(str(ROOT))}; {shell}"
    done = run(shell)
    assert done.returncode in ({0, 141} if code is None else {code}), done.stderr
    assert done.stderr.startswith(errors)
    assert done.stderr.count("\n") == bool(errors)


def test_a_training_needs_no_streams(load):
    config = load(tasks=[TASK], methods=["trqam"])
    changes = f"--set data_dir={config.scale.data_dir} --set env_workers=1 --set 'tasks=[{TASK}]'"
    done = run(f"trqam --config tests/tiny.yaml {changes} pretrain {DOMAIN} <&- >&- 2>&-")
    assert done.returncode == 0
    assert (config.results / "pretrained" / DOMAIN / "base.safetensors").is_file()


def test_a_name_in_other_letters_is_printed_where_only_ascii_is(tmp_path):
    folder = tmp_path / "ü"
    folder.mkdir()
    text = (ROOT / "tests/tiny.yaml").read_text().replace("config/", f"{ROOT}/config/")
    (folder / "scale.yaml").write_text(text)
    bare = {"LC_ALL": "C", "PYTHONCOERCECLOCALE": "0", "PYTHONUTF8": "0"}
    for variables in ({"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}, bare):
        done = run(f"cd '{tmp_path}'; trqam --config ü/scale.yaml status", **variables)
        assert (done.returncode, done.stderr) == (0, "")


JUNK = {
    "MPLBACKEND": "module://nowhere.backend_inline", "TORCH_LOGS": "junk", "OMP_NUM_THREADS": "abc",
    "MKL_NUM_THREADS": "-1", "OPENBLAS_NUM_THREADS": "0", "MUJOCO_GL": "osmesa", "TRQAM_RENDERER": "nonsense",
    "COLUMNS": "junk", "LINES": "junk", "PYTHONWARNINGS": "error", "TQDM_MININTERVAL": "junk",
}  # fmt: skip


def test_variables_that_libraries_judge_are_settled_before_them():
    program = "import trqam.__main__, torch, tqdm, trqam.report.figures; "
    program += "from trqam.environments import environment as envs; "
    program += f"[envs.reset(envs.make(task), 0) for task in ({TASK!r}, 'cube-single-play-singletask-task1-v0')]"
    environment = {**os.environ, **JUNK, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("command", ["plan", "bench --quick --device cuda", "train"])
def test_a_gpu_that_is_not_there_is_one_line(load, command, monkeypatch, capsys):
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr("trqam.operations.plan._spaces", lambda domain: None)
    config = load(tasks=[TASK])
    words = (f"train {TASK} trqam --stage offline" if command == "train" else command).split()
    options = ["--config", "tests/tiny.yaml", "--set", f"data_dir={config.scale.data_dir}", "--set", "device=cuda"]
    monkeypatch.setattr(sys, "argv", ["trqam", *options, "--set", f"tasks=[{TASK}]", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    error = capsys.readouterr().err
    assert error == (
        "trqam: error: device: cuda: PyTorch sees no GPU here; --set device=auto, or run where there is one\n"
    )
    assert not list(Path("results").rglob("*.csv"))
