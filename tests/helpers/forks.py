"""`snakemake` and `python -m trqam` in a copy of the project, as forks of one process that has imported them.

Most of a small job's time goes into imports, and a paper is made by some forty jobs. What a command reads, writes,
says and ends with is as in an interpreter of its own, but that episodes have fewer steps. Its process group, limits and
hash seed, and what `ps` shows of it, are not, and code that was edited after the start does not run: tests of these
start the programs themselves, as CI does for a whole paper.
"""

import atexit
import contextlib
import importlib
import json
import os
import select
import shlex
import signal
import socket
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

IMPORTED = ("snakemake.cli", "trqam.__main__", "trqam.operations.screen", "trqam.report.build", "trqam.training.blocks")
IMPORTED += ("ogbench", "seaborn")
ALONE = "rollouts"  # chooses what renders before it imports MuJoCo
STEPS = 10  # of an episode
PROGRAMS = ".forks"  # in the folder of the copy


@contextlib.contextmanager
def forking(folder: Path) -> Iterator[None]:
    """In which the two programs are in a folder for PATH, ``folder``/`PROGRAMS`, and run the copy's code."""
    here, place = Path(__file__), folder / PROGRAMS
    place.mkdir()
    at = place / "socket"
    for name in ("python", "snakemake"):
        words = shlex.join([sys.executable, "-SI", str(here), name, str(at)])
        (place / name).write_text(f'#!/bin/sh\nexec {words} "$@"\n')
        (place / name).chmod(0o755)
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    server = subprocess.Popen([sys.executable, here, "serve", at], cwd=folder, **pipes)
    try:
        assert server.stdout.readline(), "the process to fork from did not start; its stderr says why"
        yield
    finally:
        server.communicate()


def serve(at: str) -> None:
    """Answers requests, each in a fork, until whoever started it closes its standard input, or ends."""
    sys.path[0] = os.getcwd()
    with socket.socket(socket.AF_UNIX) as server:
        os.chdir(Path(at).parent)  # a socket's path may have a hundred letters
        server.bind(Path(at).name)
        os.chdir(sys.path[0])
        server.listen(64)
        for name in IMPORTED:
            importlib.import_module(name)
        importlib.import_module("tests.helpers.episodes").shortened(STEPS).start()
        print("listening", flush=True)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody waits for the forks
        while sys.stdin not in select.select([server, sys.stdin], [], [])[0]:
            connection, _ = server.accept()
            if os.fork() == 0:
                server.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                connection.sendall(bytes([_answer(connection)]))
                os._exit(0)
            connection.close()


def _answer(connection: socket.socket) -> int:
    """In a fork: runs what is asked for with the asker's streams, folder and variables; the exit code."""
    from snakemake import cli

    from trqam import __main__ as command_line
    from trqam.config import installed

    _, streams, _, _ = socket.recv_fds(connection, 1, 3)
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    for number, name in enumerate(("stdin", "stdout", "stderr")):  # those that the server has know another file
        buffering, mode = 1 if name == "stderr" else -1, "w" if number else "r"
        setattr(sys, name, open(number, mode, buffering, closefd=False))  # noqa: SIM115 (stays)
    with connection.makefile() as file:
        program, words, folder, variables = json.loads(file.readline())
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    installed.settle()
    sys.argv = [program, *words]
    try:
        (cli if program == "snakemake" else command_line).main()
    except SystemExit as ended:
        if isinstance(ended.code, str):
            print(ended.code, file=sys.stderr)
        return ended.code & 255 if isinstance(ended.code, int) else int(ended.code is not None)
    except BaseException:
        traceback.print_exc()
        return 1
    finally:
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
    return 0


def ask(program: str, at: str, words: list[str]) -> int:
    """One request, made by a program on PATH: its exit code."""
    if program == "python":
        if words[:2] != ["-m", "trqam"] or ALONE in words:
            os.execv(sys.executable, [sys.executable, *words])
        program, words = "trqam", words[2:]
    request = json.dumps([program, words, os.getcwd(), dict(os.environ)])
    with socket.socket(socket.AF_UNIX) as connection:
        os.chdir(Path(at).parent)
        connection.connect(Path(at).name)
        socket.send_fds(connection, [b"."], [0, 1, 2])
        connection.sendall(f"{request}\n".encode())
        return (connection.recv(1) or b"\x89")[0]  # killed


if __name__ == "__main__":
    how, at, *words = sys.argv[1:]
    if how == "serve":
        serve(at)
    sys.exit(ask(how, at, words))
