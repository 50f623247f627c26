"""What the workflow says on the screen while it works, and at its end; the real one is in tests/workflow."""

import logging
from dataclasses import replace
from types import SimpleNamespace

import pytest

from trqam.config.errors import UserError
from trqam.experiment.survey import DONE, WAITING
from trqam.experiment.survey import survey as real_survey
from trqam.operations import screen


@pytest.fixture
def followed(load):
    """A screen of the tiny scale, on two cores, before anything is done."""
    config = load()
    standings = list(real_survey(config))
    jobs = [
        SimpleNamespace(
            rule=SimpleNamespace(name=f"{s.stage}_seeds"), wildcards=[s.run.task, s.run.method],
            output=[str(s.cell.path / f"{s.stage}.json")],
        )
        for s in standings
    ]  # fmt: skip
    jobs.append(SimpleNamespace(rule=SimpleNamespace(name="paper"), wildcards=[], output=[]))
    workflow = SimpleNamespace(
        dag=SimpleNamespace(jobs=jobs, needrun_jobs=lambda: iter(jobs)),
        output_settings=SimpleNamespace(verbose=False, printshellcmds=False),
        cores=2, local_exec=True, dryrun=False, is_main_process=True,
    )  # fmt: skip
    made = screen.Screen(workflow, config)
    made.over.set()  # the watcher ends at once
    yield made
    screen.logger.handlers.clear()


def surveyed(monkeypatch, config, **changes):
    """Lets the screen see the tiny scale's runs, with what ``changes`` says of some stages."""

    def standings(_):
        for standing in real_survey(config):
            changed = changes.get(standing.stage, {}) if standing.total else {}  # cloned policies are only evaluated
            yield replace(standing, **changed)

    monkeypatch.setattr(screen, "survey", standings)


def test_how_long_it_takes_comes_from_the_first_speeds(followed, monkeypatch):
    followed.begin()
    config = followed.config
    surveyed(monkeypatch, config)
    assert followed.left() is None
    surveyed(monkeypatch, config, pretrain={"state": DONE, "step": 20, "pace": 0.1})
    assert followed.left() is None  # cloning's speed says nothing of fine-tuning's
    changes = {
        "pretrain": {"state": DONE, "step": 20, "pace": 0.1},
        "offline": {"state": WAITING, "step": 10, "pace": 1.0},
    }
    surveyed(monkeypatch, config, **changes)
    without = {"offline": changes["offline"]}  # methods that start from scratch train before cloning
    surveyed(monkeypatch, config, **without)
    assert followed.left() is not None
    surveyed(monkeypatch, config, **changes)
    stages = [standing.stage for standing in real_survey(config) if standing.total]
    offline, online = stages.count("offline"), stages.count("online")
    training = offline * (10 + screen.START) + online * (20 + screen.START)
    others = (followed.total - offline - online) * screen.OTHER
    assert followed.left() == pytest.approx((training + others) / 2)


@pytest.mark.parametrize("wildcards", [["lift-mh", "trqam"], ["can-mh"], ["square-mh+diffusion_cloning"]])
def test_a_package_that_a_job_needs_is_missed_before_any_begins(followed, monkeypatch, caplog, wildcards):
    caplog.set_level(logging.INFO, logger=screen.logger.name)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    job = SimpleNamespace(rule=SimpleNamespace(name="dataset"), wildcards=wildcards, output=[])
    followed.workflow.dag.needrun_jobs = lambda: iter([job])
    with pytest.raises(UserError, match=r"package robosuite: missing, and tasks of Robomimic need it; pip install"):
        followed.begin()
    assert not caplog.records


def test_methods_that_will_not_run_are_told_at_the_beginning(followed, load, caplog):
    caplog.set_level(logging.INFO, logger=screen.logger.name)
    followed.config = load(ablations=["constant_lambda"])
    followed.begin()
    assert any("1 method of this scale will not run: TRQAM, constant lambda" in line for line in caplog.messages)


def test_a_survey_that_fails_costs_a_line_and_not_the_run(followed, monkeypatch):
    followed.begin()

    def fail(_):
        raise UserError("results/tiny/x.json: damaged")

    monkeypatch.setattr(screen, "survey", fail)
    assert followed.left() is None


def record(event, **values):
    made = logging.makeLogRecord({"msg": "", "event": event, **values})
    return made


def test_jobs_are_called_by_their_logs_and_failures_come_last(followed, caplog, tmp_path):
    caplog.set_level(logging.INFO, logger=screen.logger.name)
    followed.begin()
    log = tmp_path / "logs/offline/a_b_seeds0to1.log"
    log.parent.mkdir(parents=True)
    log.write_text("step 1\nstep 2\nstep 3\ntrqam: error: the disk is full\n")
    for number in (1, 2):
        followed.emit(record(screen.LogEvent.JOB_INFO, jobid=number, rule_name="offline", log=[str(log)]))
    followed.emit(record(screen.LogEvent.JOB_ERROR, jobid=1, rule_name="offline", log=[str(log)]))
    followed.emit(record(screen.LogEvent.JOB_ERROR, jobid=2, rule_name="offline", log=[str(log)]))
    followed.emit(record(screen.LogEvent.JOB_INFO, jobid=2, rule_name="offline", log=[str(log)]))  # tried again
    followed.emit(record(screen.LogEvent.JOB_FINISHED, job_id=2))
    caplog.clear()
    followed.end(well=False)
    lines = [entry.getMessage() for entry in caplog.records]
    assert lines == [
        f"trqam: offline/a_b_seeds0to1 failed; its log, {log}, ends with",
        "trqam:   step 2",
        "trqam:   step 3",
        "trqam:   trqam: error: the disk is full",
        f"trqam: 1 of {followed.total} jobs done; nothing is lost: the same command goes on from here",
    ]


def test_a_fault_of_the_screen_ends_nothing(followed, capsys):
    followed.emit(record(screen.LogEvent.JOB_INFO, jobid=1))  # no log, no rule
    assert "AttributeError" in capsys.readouterr().err


def test_verdicts_that_cannot_be_read_are_one_line(followed, caplog):
    caplog.set_level(logging.INFO, logger=screen.logger.name)
    (followed.paper / "claims.json").parent.mkdir(parents=True)
    (followed.paper / "claims.json").write_text("[]")
    followed.end(well=True)
    first, *paths = [entry.getMessage() for entry in caplog.records]
    assert first.startswith(f"trqam: {followed.paper}/claims.json: ")
    assert paths == [f"trqam: the paper: {followed.paper}/paper.pdf", f"trqam: the page:  {followed.paper}/report.html"]
