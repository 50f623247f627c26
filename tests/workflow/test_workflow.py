"""Snakemake for real: the tiny scale end to end, what an edit replans, and blocks of seeds."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from importlib.util import find_spec

import pandas
import pytest

from tests.conftest import ROOT
from tests.helpers.forks import PROGRAMS, forking
from tests.helpers.illustrations import shorten
from tests.helpers.project import ENVIRONMENT, copy_of_the_project
from tests.helpers.toy import add_toy
from trqam.__main__ import parsed
from trqam.config.command_line import from_command
from trqam.config.load import load
from trqam.experiment.lock import standing
from trqam.experiment.run import Cell, locked
from trqam.report.selection import TABLES, figure_module, figure_names, table_module

POINT = "pointmaze-medium-navigate-singletask-task2-v0"
CORES = str(min(2, len(os.sched_getaffinity(0))))


def snakemake(folder, *arguments, code=0, **variables):
    """Runs snakemake in ``folder``, as a fork where there are such; with environment ``variables``; its output."""
    path = os.pathsep.join([str(folder / PROGRAMS), ENVIRONMENT["PATH"]])
    command, environment = ["snakemake", "--cores", CORES, *arguments], {**os.environ, "PATH": path, **variables}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    output = done.stdout + done.stderr
    assert (done.returncode == 0) == (code == 0), output[-4000:]
    return output


def planned(output):
    """Rule names and counts of a dry run's table."""
    table = re.search(r"^job +count\n[- ]+\n(.*?)^total", output, re.MULTILINE | re.DOTALL)
    return {name: int(count) for name, count in re.findall(r"^(\S+) +(\d+)$", table[1], re.MULTILINE)} if table else {}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The tiny scale, run once to its paper."""
    folder = shorten(copy_of_the_project(tmp_path_factory.mktemp("project")))
    with forking(folder):
        (folder / "screen").write_text(snakemake(folder, "paper", "--configfile", "tests/tiny.yaml"))
        yield folder


def test_the_paper_and_everything_beside_it(finished):
    paper = finished / "results/tiny/paper"
    assert (paper / "paper.pdf").read_bytes().startswith(b"%PDF-")
    assert "<table" in (paper / "report.html").read_text()
    assert {p.suffix for p in (paper / "figures").iterdir()} == {".pdf", ".png"}
    metrics = pandas.read_csv(paper / "metrics.csv")
    loaded = load(ROOT / "tests/tiny.yaml")
    assert set(metrics["task"]) == set(loaded.tasks)
    runs = metrics[metrics["method"] != "behaviour_cloning"].groupby(["task", "method", "stage"])
    assert len(runs) == 2 * 2 * 2
    for _, rows in runs:
        assert set(rows["seed"]) == {0, 1}
        assert rows.dropna(subset="success")["step"].max() == 20
    trqam = metrics.query("method == 'trqam' and step == 20")
    assert (trqam["path_kl"] > 0).all()
    assert trqam["multiplier"].nunique() > 1


def test_snakemakes_own_report_shows_page_verdicts_figures_tables_and_results_with_captions(finished):
    snakemake(finished, "paper", "--report", "shown.html", "--configfile", "tests/tiny.yaml")
    paper, shown = finished / "results/tiny/paper", (finished / "shown.html").read_text()
    entry = r'"results/tiny/paper/([^"]+)": \{"name": [^{]*\{[^}]*\}, [^{}]*"caption": "<p>\w'
    captioned = set(re.findall(entry, shown))
    results = {"paper.pdf", "report.html", "claims.json", "metrics.csv", "runs.csv", "per_task.csv"}
    results |= {"per_task.json", "curves.csv", "compute.csv"}
    drawn = {str(path.relative_to(paper)) for path in [*paper.glob("figures/*.pdf"), *paper.glob("tables/*.tex")]}
    assert len(drawn) > 10
    assert captioned >= results | drawn


def test_a_manifest_says_where_the_numbers_come_from(finished):
    manifest = json.loads((finished / f"results/tiny/{POINT}/trqam/seed0/online.json").read_text())
    run = load(ROOT / "tests/tiny.yaml").run(POINT, "trqam")
    assert manifest["configuration"] == run.resolved("online")
    assert manifest["digest"] == run.digest("online")
    assert manifest["versions"].keys() >= {"torch", "mujoco", "ogbench", "gymnasium", "numpy", "python"}
    assert manifest.keys() >= {"git_commit", "hardware", "command", "seed", "status", "seconds"}


def ending(finished):
    paper = "results/tiny/paper"
    summary = json.loads((finished / paper / "claims.json").read_text())["summary"]
    return [f"trqam: {summary}", f"trqam: the paper: {paper}/paper.pdf", f"trqam: the page:  {paper}/report.html"]


def test_the_screen_says_what_is_done_and_what_came_of_it(finished):
    shown = (finished / "screen").read_text()
    said = [line for line in shown.splitlines() if line.startswith("trqam: ")]
    total = re.match(rf"trqam: tests/tiny.yaml: (\d+) jobs on {CORES} cores? \(", said[0])[1]
    assert "the paper to results/tiny/paper/paper.pdf and results/tiny/paper/report.html" in said[1]
    done = [line for line in said if re.match(rf"trqam: \d+ of {total} jobs done: ", line)]
    assert len(done) == int(total)
    assert any(f"done: offline/{POINT}_trqam_seeds0to1, " in line for line in done)
    assert any(re.search(r"; about .* left, until \d\d:\d\d$", line) for line in said)
    assert said[-3:] == ending(finished)
    for flood in ("localrule", "jobid:", "Select jobs", "Finished job", "reason:"):
        assert flood not in shown
    logs = [path.read_text() for path in (finished / ".snakemake/log").glob("*.log")]  # of other tests' commands, too
    assert any("localrule pdf:" in log for log in logs)


def test_a_second_run_says_that_everything_is_there(finished):
    lines = snakemake(finished, "paper", "--configfile", "tests/tiny.yaml").splitlines()
    assert lines[-4:] == ["trqam: everything that was asked for is there", *ending(finished)]


@pytest.mark.parametrize("options", [["--summary"], ["--touch", "--quiet", "all", "--"]])
def test_what_only_looks_is_left_as_it_is(finished, options):
    assert "trqam: " not in snakemake(finished, "--configfile=tests/tiny.yaml", *options, "paper")


def test_what_failed_and_its_last_words_come_last(finished):
    path, pdf = finished / "paper/main.tex", finished / "results/tiny/paper/paper.pdf"
    content = path.read_text()
    path.write_text(content.replace("\\begin{document}", "\\nonsense"))
    lines = snakemake(finished, "paper", "--configfile", "tests/tiny.yaml", code=1).splitlines()
    path.write_text(content)
    first = next(number for number, line in enumerate(lines) if "failed; its log" in line)
    assert lines[first] == "trqam: pdf failed; its log, results/tiny/logs/pdf.log, ends with"
    assert lines[first + 1].startswith("trqam:   trqam: error: ")
    assert "0 of 2 jobs done; nothing is lost: the same command goes on from here" in lines[first + 2]
    snakemake(finished, "paper", "--configfile", "tests/tiny.yaml")
    assert pdf.is_file()


def test_elsewhere_is_refused_in_one_line(finished, tmp_path):
    for options in (["--directory", tmp_path], ["--snakefile", finished / "workflow/Snakefile"]):
        where = finished if "--directory" in options else tmp_path
        output = snakemake(where, "paper", "--configfile", ROOT / "tests/tiny.yaml", *options, code=2)
        (line,) = (line for line in output.splitlines() if "error" in line)
        assert line.startswith(f"trqam: error: {tmp_path}: not the project's folder; run in {finished}, ")
        assert not list(tmp_path.glob("[!.]*"))


EDITED = {  # with what is to be drawn; the report's modules one by one: below
    "trqam/report/figures/profiles.py": {"figure_profiles", "facts", "pdf", "html", "paper"},
    "trqam/maths/sde.py trqam/training/blocks.py": {"theory_figure", "toy_figure", "pdf", "html", "paper"},
    "paper/main.tex": {"pdf", "paper"},
    "paper/context.csv": {"table_others", "pdf", "html", "paper"},
    "paper/templates/facts.tex.j2": {"facts", "pdf", "paper"},
    "paper/templates/captions.txt.j2": {"facts", "pdf", "html", "paper"},
    "paper/templates/theory.txt.j2": {"theory_figure", "pdf", "html", "paper"},
    "paper/templates/toy.txt.j2": {"toy_figure", "pdf", "html", "paper"},
    "paper/templates/facts.txt.j2": {"facts", "pdf", "html", "paper"},
    "config/methods.yaml": None,
}


def jobs_after_an_edit(folder, *edited):
    """What Snakemake plans after a changed content: it sees through a mere touch of a small file."""
    before = {folder / name: (folder / name).read_text() for name in edited}
    for path, content in before.items():
        path.write_text(content + ("\n% edited\n" if path.suffix == ".tex" else "\n# edited\n"))
    output = snakemake(folder, "paper", "--configfile", "tests/tiny.yaml", "-n")
    for path, content in before.items():
        path.write_text(content)
    assert "trqam: " not in output  # it only looks
    return planned(output).keys()


@pytest.mark.parametrize("edited", EDITED)
def test_an_edit_redraws_what_it_touches_and_never_retrains(finished, edited):
    jobs = jobs_after_an_edit(finished, *edited.split())
    if EDITED[edited] is not None:
        assert jobs == EDITED[edited]
    assert not [name for name in jobs if name.startswith(("offline", "online", "pretrain", "dataset", "collect"))]


LOADED = """
import importlib, json, sys
def ours(): return sorted(name for name in sys.modules if name.partition(".")[0] == "trqam")
loaded = {}
for part, modules in json.loads(sys.argv[1]).items():
    for name in ours(): del sys.modules[name]
    for module in modules: importlib.import_module(module)
    loaded[part] = ours()
print(json.dumps(loaded))
"""


@pytest.fixture(scope="module")
def inputs(finished):
    """Of each rule, the modules that are its inputs."""
    lines = snakemake(finished, "paper", "--configfile", "tests/tiny.yaml", "--detailed-summary").splitlines()
    rows = [line.split("\t") for line in lines if line.count("\t") == 7]
    return {row[2]: {path for path in row[4].split(",") if path.startswith("trqam/")} for row in rows[1:]}


@pytest.mark.campaign
def test_an_edit_of_any_module_of_the_report_plans_what_it_draws_and_nothing_else(finished, inputs):
    wrong = {}
    for module in sorted(str(path.relative_to(ROOT)) for path in (ROOT / "trqam/report").rglob("*.py")):
        drawn = {rule for rule, modules in inputs.items() if module in modules}
        pictures = {rule for rule in drawn if rule.startswith(("figure_", "theory", "toy"))}
        expected = drawn | ({"html"} if pictures else set())
        expected |= {"pdf"} if pictures or any(rule.startswith(("table_", "facts")) for rule in drawn) else set()
        expected |= {"paper"} if expected else set()
        if (jobs := jobs_after_an_edit(finished, module)) != expected:
            wrong[module] = jobs
    assert wrong == {}


def test_every_module_of_the_report_is_an_input_of_all_that_it_draws_and_of_nothing_else(finished, inputs):
    """The inputs that Snakemake goes by, against what Python loads to draw."""
    loaded = load(ROOT / "tests/tiny.yaml")
    printed = [table_module(name) for name in TABLES]
    modules = {f"figure_{name}": [figure_module(name)] for name in figure_names(loaded)}
    modules |= {f"table_{name}": [table_module(name)] for name in TABLES}
    modules |= {name: [f"trqam.report.{name}"] for name in ("theory_figure", "toy_figure", "facts", "html")}
    modules |= {"claims": ["trqam.report.claims.judge"], "pdf": ["trqam.report.latex"]}
    modules |= {"per_task": ["trqam.report.conventions"], "curves": ["trqam.report.conventions"]}
    modules |= {"compute": ["trqam.report.tables.compute"]}
    modules["html"] += printed

    def name(path):
        return path.removesuffix(".py").replace("/", ".").removesuffix(".__init__")

    command = [sys.executable, "-c", LOADED, json.dumps(modules)]
    done = subprocess.run(command, cwd=finished, capture_output=True, text=True, check=True)
    for part, names in json.loads(done.stdout).items():
        assert set(map(name, inputs[part])) == set(names), part
    trained = [path for part, paths in inputs.items() for path in paths if part not in modules]
    assert {path.rpartition("/")[0] for path in trained} <= {"trqam/operations/rollouts", "trqam/report"}


TINY = ["--configfile", "tests/tiny.yaml"]


def refusal(folder, *arguments):
    """The one line of ours in which snakemake ends before it plans or runs anything."""
    began = time.monotonic()
    output = snakemake(folder, *arguments, code=1)
    lines = [line for line in output.splitlines() if line.startswith("trqam: error:")]
    assert len(lines) == 1, output
    assert "Traceback" not in output
    assert not planned(output)
    assert time.monotonic() - began < 60
    return lines[0]


def test_an_edited_hyper_parameter_stops_the_paper_and_whatever_rests_on_it(finished):
    before = {path: path.read_bytes() for path in (finished / "results/tiny/paper").rglob("*.*") if path.is_file()}
    pattern = (
        r"seed0/o\w+line.json: learning_rate: trained with 0.001, .* says 0.002; restore it, or run `.* --outdated`"
    )
    one = f"results/tiny/{POINT}/trqam/seed0/online.csv"
    for target in ("paper", one, "results/tiny/paper/tables/success.tex"):
        line = refusal(finished, target, *TINY, "--config", "learning_rate=0.002")
        assert re.search(pattern, line)
        assert "--config tests/tiny.yaml --set learning_rate=0.002 clean --outdated" in line
    path = finished / "config/methods.yaml"
    content = path.read_text()
    assert "dual_rate: 0.01" in content
    path.write_text(content.replace("dual_rate: 0.01", "dual_rate: 0.02", 1))
    try:
        two = "trqam/seed0/offline.json: dual_rate: trained with 0.01, the configuration now says 0.02; "
        assert two in refusal(finished, "paper", *TINY)
        qam = f"results/tiny/{POINT}/qam/seed0/online.csv"  # another cell's
        assert "Nothing to be done" in snakemake(finished, qam, *TINY, "-n")
    finally:
        path.write_text(content)
    assert "Nothing to be done" in snakemake(finished, "paper", *TINY, "-n")
    assert before == {path: path.read_bytes() for path in before}


def test_other_seeds_collect_again_and_what_changes_no_number_does_not(finished):
    def jobs(*changes):
        return planned(snakemake(finished, "paper", *TINY, "-n", *(["--config", *changes] if changes else [])))

    assert not jobs("env_workers=1", "device=auto", "checkpoint_interval=10", "seeds_per_job=1")
    for changes in (["seeds=1"], ["methods=[behaviour_cloning,trqam]"]):
        found = jobs(*changes)
        assert {"collect", "facts", "table_success", "pdf"} <= found.keys()
        assert not [name for name in found if name.startswith(("offline", "online", "pretrain", "dataset"))]
    assert not jobs()
    table = "results/tiny/paper/metrics.csv"
    content = (finished / table).read_bytes()
    snakemake(finished, table, *TINY, "--config", "seeds=1")
    assert set(pandas.read_csv(finished / table)["seed"]) == {0}
    assert "collect" in jobs()
    snakemake(finished, table, *TINY)
    assert (finished / table).read_bytes() == content
    assert not jobs()  # nothing that is drawn has changed


def test_a_changed_byte_stops_the_paper_and_a_lost_file_is_published_again(finished):
    cell = finished / f"results/tiny/{POINT}/trqam/seed1"
    path, times = cell / "offline.csv", (cell / "offline.csv").stat()
    content = path.read_bytes()
    path.write_bytes(content.replace(b"OK,0,", b"OK,1,", 1))
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))
    try:
        line = refusal(finished, "paper", *TINY)
        assert f"results/tiny/{POINT}/trqam/seed1/offline.csv: not what was published with offline.json" in line
    finally:
        path.unlink()
    (cell / "online.json").unlink()
    jobs = planned(snakemake(finished, "paper", *TINY, "-n"))
    assert {"offline_seeds_0to1", "online_seeds_0to1"} <= jobs.keys()
    snakemake(finished, "results/tiny/paper/metrics.csv", *TINY)
    assert path.read_bytes() == content
    assert "Nothing to be done" in snakemake(finished, "paper", *TINY, "-n")


def test_what_runs_began_from_trains_nothing_again_by_being_newer(finished):
    for path in (*finished.glob("data/tiny/*/card.json"), *finished.glob("results/tiny/pretrained/*/base.safetensors")):
        os.utime(path)
    assert not planned(snakemake(finished, "paper", *TINY, "-n"))


def test_a_run_that_the_scale_does_not_have_is_said_at_once(finished):
    folder = f"results/tiny/{POINT}"
    line = refusal(finished, f"{folder}/trqam/seed9/offline.csv", *TINY)
    assert "seeds: has 2, from 0 to 1, and no seed 9; write seeds=10 after --config" in line
    assert "'online' is not listed" in refusal(finished, f"{folder}/behaviour_cloning/seed0/online.csv", *TINY)
    assert "methods: 'fql' is not one of" in refusal(finished, f"{folder}/fql/seed0/offline.csv", *TINY)
    other = "results/tiny/cube-single-play-singletask-task1-v0/external_kl/seed0/offline.csv"
    changes = ["ablations=[external_kl]", f"ablation_tasks=[{POINT}]"]
    line = refusal(finished, other, *TINY, "--config", *changes)
    assert "ablation_tasks: 'cube-single-play-singletask-task1-v0' is not listed, so external_kl" in line


def test_dry_runs_of_both_scales_and_of_a_mistake(tmp_path):
    folder = copy_of_the_project(tmp_path)
    assert planned(snakemake(folder, "paper", "-n"))["pretrain"] == 1
    output = snakemake(folder, "paper", "-np", "--configfile", "config/paper.yaml")
    jobs = planned(output)
    assert (jobs["dataset"], jobs["pretrain"]) == (10, 10)
    compared, ablated = 8, 6 + 7  # behaviour cloning and seven methods; ablations and other budgets, on two tasks
    assert jobs["offline_seeds_0to7"] == 50 * compared + 2 * ablated
    assert jobs["online_seeds_0to7"] == 50 * (compared - 1) + 2 * ablated
    commands = [line for line in output.splitlines() if "python -m trqam" in line]
    assert commands
    assert all("--config config/paper.yaml " in line and "--set" not in line for line in commands)
    assert not (folder / ".snakemake/trqam").exists()  # the lock of one that works there
    output = snakemake(folder, "-n", "--config", "batch_size=many", code=2)
    errors = [line for line in output.splitlines() if "error" in line]
    assert errors == ["trqam: error: --config batch_size: found 'many'; write a whole number from 1 to 1,048,576"]
    assert "Traceback" not in output


@pytest.mark.skipif(find_spec("robosuite") is not None, reason="is of where robosuite is missing")
def test_a_missing_package_is_said_before_any_job_begins(tmp_path):
    folder = copy_of_the_project(tmp_path)
    tasks = f"tasks=[{POINT},lift-mh]"
    said = snakemake(folder, "paper", "--configfile", "tests/tiny.yaml", "--config", tasks, code=2)
    assert re.search(r"^trqam: error: package robosuite: missing, and tasks of Robomimic need it; ", said, re.MULTILINE)
    assert "jobs done" not in said
    assert not any((folder / name).exists() for name in ("results/tiny", "data/tiny"))


@pytest.mark.campaign
def test_whatever_snakemake_deletes_the_data_are_there(tmp_path):
    """The declared file is a copy: neither a forced nor a failed job, nor deleting every output, costs the data."""
    folder = copy_of_the_project(tmp_path)
    store = folder / "data/tiny/pointmaze-medium-navigate"
    card = str((store / "card.json").relative_to(folder))
    arguments = [card, "--configfile", "tests/tiny.yaml"]
    snakemake(folder, *arguments)
    before = {path.name: path.read_bytes() for path in store.glob("*.npy")} | {
        "card": (store / "card.json").read_bytes()
    }
    made = {path: path.stat().st_mtime_ns for path in store.glob("*.npy")}

    def untouched():
        after = {path.name: path.read_bytes() for path in store.glob("*.npy")}
        assert after | {"card": (store / "card.json").read_bytes()} == before
        assert {path: path.stat().st_mtime_ns for path in store.glob("*.npy")} == made

    assert "is there already, verified" in snakemake(folder, *arguments, "--forceall")
    untouched()
    snakemake(folder, *arguments, "--forcerun", "dataset")
    untouched()
    snakemake(folder, *arguments, "--delete-all-output")
    assert not (store / "card.json").exists()
    snakemake(folder, *arguments)
    untouched()
    broken = folder / "broken" / "python"
    broken.parent.mkdir()
    for text in ("exit 1", "rm data/tiny/*/card.json; kill -9 $PPID"):
        broken.write_text(f"#!/bin/sh\n{text}\n")
        broken.chmod(0o755)
        path = f"{broken.parent}{os.pathsep}{ENVIRONMENT['PATH']}"
        snakemake(folder, *arguments, "--forceall", code=1, PATH=path)
        assert not (store / "card.json").exists()
        snakemake(folder, *arguments, "--rerun-incomplete")
        untouched()
    assert "Nothing to be done" in snakemake(folder, *arguments, "-n")


def test_snakemakes_command_line_comes_to_the_jobs_as_it_was(finished):
    folder = finished
    given = {
        "mixed": "true", "budgets": "[0.5, 1]", "hidden_width": "null", "learning_rate": "0.00005", "replicas": "auto",
        "tasks": f"[{POINT}]", "ablation_tasks": f"[{POINT}]", "scale": "2024", "seeds": "1_0",
        "data_dir": "~/a b/ü #1",
    }  # fmt: skip
    entries = [f"{key}={value}" for key, value in given.items()]
    target = "results/2024/paper/metrics.csv"
    output = snakemake(folder, target, "-n", "-p", "--configfile", "tests/tiny.yaml", "--config", *entries)
    (command,) = {line.strip() for line in output.splitlines() if " collect " in line and "python -m trqam" in line}
    arguments = parsed(shlex.split(command.partition("python -m trqam ")[2].partition(" 2>&1")[0]))
    job = from_command(folder / arguments.config, arguments.set).scale
    assert job == from_command(folder / "tests/tiny.yaml", entries).scale
    assert (job.mixed, job.budgets, job.hidden_width, job.learning_rate) == (True, [0.5, 1.0], None, 5e-5)
    assert (job.scale, job.seeds) == ("2024", 10)
    assert job.data_dir == os.path.expanduser("~/a b/ü #1")
    output = snakemake(folder, target, "-n", "--configfile", "tests/tiny.yaml", "--config", "seeds=010", code=2)
    assert "trqam: error: --config seeds: line 1: not valid YAML (010 would be octal); mend the syntax" in output


def test_a_user_without_a_name_may_start_it(finished, tmp_path):
    """As in a container: no entry in /etc/passwd, and nothing in the environment."""
    code = "import pwd\ndef getpwuid(number):\n    raise KeyError(number)\npwd.getpwuid = getpwuid"
    (tmp_path / "sitecustomize.py").write_text(code)
    environment = {"PATH": ENVIRONMENT["PATH"], "HOME": str(tmp_path), "PYTHONPATH": str(tmp_path)}
    command = ["snakemake", "--cores", "1", f"data/tiny/{POINT.partition('-singletask')[0]}/card.json"]
    done = subprocess.run(
        [*command, "--configfile", "tests/tiny.yaml"], cwd=finished, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "Nothing to be done" in done.stdout + done.stderr


def started(folder, command):
    """As in a terminal of its own, also where the tests were started without one, which ignores these signals."""

    def heed():
        for number in (signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)

    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen(command, cwd=folder, env=ENVIRONMENT, start_new_session=True, preexec_fn=heed, **pipes)


@pytest.mark.campaign
@pytest.mark.parametrize(("number", "group"), [(signal.SIGKILL, False), (signal.SIGHUP, True)])
def test_a_killed_snakemake_is_followed_by_the_same_command(finished, number, group):
    """kill -9 of it alone, whose training goes on; and the terminal closed, which ends all that it had started."""
    changes = [f"tasks=[{POINT}]", "methods=[trqam]", f"scale=killed{number}", "seeds=1", "offline_steps=60"]
    cell = Cell(finished / f"results/killed{number}" / POINT / "trqam/seed0", 0)
    target = str(cell.path.relative_to(finished) / "offline.csv")
    command = ["snakemake", "--cores", "1", target, "--configfile", "tests/tiny.yaml", "--config", *changes]

    killed = started(finished, command)
    while not cell.lock.exists():
        assert killed.poll() is None
        time.sleep(0.05)
    (os.killpg if group else os.kill)(killed.pid, number)
    killed.communicate()
    assert list((finished / ".snakemake/locks").iterdir())
    given = ["--config", "tests/tiny.yaml", "--set", f"scale=killed{number}", "status"]
    screen = subprocess.run([sys.executable, "-m", "trqam", *given], cwd=finished, capture_output=True, text=True)
    assert "its locks are those of one that was killed; the same" in " ".join(screen.stdout.split())
    while standing(cell.lock)[0] == "held":
        time.sleep(0.05)
    both = [started(finished, command) for _ in range(2)]  # of two at once no more than one gets through
    said = [process.communicate()[0] for process in both]
    done = [process.returncode for process in both]
    assert done.count(0) == 1 or "Nothing to be done" in "".join(said)
    assert sum("left by a Snakemake that was killed; removed" in text for text in said) == 1
    assert (cell.path / "offline.csv").exists()
    assert not (finished / ".snakemake/locks").exists()
    assert not list((finished / ".snakemake/trqam").iterdir())
    assert "Nothing to be done" in snakemake(finished, *command[3:])


def test_an_interrupt_says_how_to_go_on_and_keeps_the_log(finished):
    """Ctrl-C reaches everything that the terminal runs, `tee` too."""
    cell = Cell(finished / "results/interrupted" / POINT / "trqam/seed0", 0)
    changes = [f"tasks=[{POINT}]", "methods=[trqam]", "scale=interrupted", "seeds=1", "offline_steps=3000"]
    target, log = str(cell.path.relative_to(finished) / "offline.csv"), finished / "results/interrupted/logs/offline"
    command = ["snakemake", "--cores", "1", target, "--configfile", "tests/tiny.yaml", "--config", *changes]
    for turn in (1, 2):
        process = started(finished, command)
        # From the second line on, for an interrupt in the midst of an import may be lost in Python's own callbacks.
        while not [path for path in log.glob("*.log") if (text := path.read_text()).count("updates/s") > 1]:
            assert process.poll() is None, process.communicate()[0]
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGINT)
        said, message = process.communicate()[0], "trqam: interrupted; run the same command to go on"
        assert message in said
        (path,) = log.glob("*.log")
        assert path.read_text().startswith(text)
        assert path.with_name(f"{path.name}.all").read_text().count(message) == turn  # Snakemake deletes the other
        path.unlink()


class Blocks:
    """Seeds of one cell, trained through Snakemake in differing blocks."""

    def __init__(self, folder):
        self.folder, self.weights = folder, {}

    def make(self, seeds, per_job, *more, code=0):
        """Asks for the offline metrics of seeds 0 .. seeds - 1; all weights seen before must be untouched."""
        options = [f"tasks=[{POINT}]", "methods=[trqam]", "scale=blocks", f"seeds={max(seeds) + 1}"]
        targets = [str(self.cell(seed).path.relative_to(self.folder) / "offline.csv") for seed in seeds]
        config = ["--config", *options, f"seeds_per_job={per_job}"]
        output = snakemake(self.folder, *targets, "--configfile", "tests/tiny.yaml", *config, *more, code=code)
        for seed, stamp in self.weights.items():
            assert self.stamp(seed) == stamp, f"seed {seed} was trained again"
        if code == 0:
            self.weights |= {seed: self.stamp(seed) for seed in seeds}
            assert all((self.folder / target).exists() for target in targets)
        return output

    def cell(self, seed):
        return Cell(self.folder / "results/blocks" / POINT / "trqam" / f"seed{seed}", seed)

    def stamp(self, seed):
        """When the final weights were written, in nanoseconds."""
        (path,) = self.cell(seed).directory("offline").glob("*.safetensors")
        return path.stat().st_mtime_ns

    def tables(self):
        return {seed: (self.cell(seed).path / "offline.csv").read_bytes() for seed in self.weights}


@pytest.mark.campaign
def test_each_seed_is_trained_exactly_once(finished):
    blocks = Blocks(finished)
    blocks.make([0], per_job=1)
    blocks.make([0, 1, 2, 3], per_job=4)
    blocks.make(range(6), per_job=4)
    blocks.make(range(8), per_job=4)
    assert sorted(blocks.weights) == list(range(8))
    tables = blocks.tables()

    (blocks.cell(2).path / "offline.csv").unlink()  # a lost file, and then the job that would restore it fails
    with locked([blocks.cell(1)]):
        output = blocks.make(range(8), per_job=4, code=1)
    assert "another process is training this run" in output
    blocks.make(range(8), per_job=4)
    assert blocks.tables() == tables

    blocks.make(range(8), 4, "--forcerun", "offline_seeds_0to3")
    assert blocks.tables() == tables
    assert "Nothing to be done" in blocks.make(range(8), 4, "-n")
    assert "Nothing to be done" in blocks.make(range(8), 2, "-n")  # other blocks of a complete grid


def test_a_method_is_one_file_one_class_and_one_block_and_a_task_one_line(tmp_path):
    folder = copy_of_the_project(tmp_path)
    add_toy(folder)
    added = POINT.replace("task2", "task5")
    tasks, methods = f"tasks=[{POINT},{added}]", "methods=[behaviour_cloning,toy]"
    table = "results/tiny/paper/tables/success.tex"
    with forking(folder):
        snakemake(folder, table, "--configfile", "tests/tiny.yaml", "--config", tasks, methods, "seeds=1")
    text = (folder / table).read_text()
    assert "Toyland" in text
    assert "pointmaze-medium task 5" in text
