"""The paper's scale is every setting of every judged run, as it was committed; a departure in any file is named."""

import msgspec
import pytest

from tests.helpers import fake_results
from tests.report.test_claims import falling, frame, judged, published, two_tasks, whole_paper
from trqam.config.load import domain_of
from trqam.report import facts, protocol
from trqam.report.claims import statements
from trqam.report.claims.judge import NOT_RUN, REPRODUCED
from trqam.report.record import asked_for
from trqam.report.selection import PAPER

STATED = statements.load()
RECORD = statements.paper_scale()


def test_the_record_is_of_the_files_that_are_here():
    again = 'python -c "from trqam.report import protocol; protocol.write()"'
    assert protocol.read(PAPER / "protocol.json") == protocol.committed(), f"if that is meant: {again}"


def test_the_record_has_every_setting_of_every_cell():
    config = whole_paper()
    for task, method in config.cells:
        if method in (*config.compared, *config.scale.ablations) and method != "sqam":
            assert RECORD.settings(domain_of(task), method) == protocol.settings(config, task, method)


def domains(name=None, **changes):
    """The paper's configuration with other values in all domains, or in one."""
    config = fake_results.paper_config(methods=["qam", "trqam"])
    names = [name] if name else config.task_domains
    changed = {key: msgspec.structs.replace(config.domains[key], **changes) for key in names}
    return msgspec.structs.replace(config, domains={**config.domains, **changed})


def method(name, **changes):
    config = fake_results.paper_config(methods=["qam", "trqam"])
    block = msgspec.structs.replace(config.methods[name], **changes)
    return msgspec.structs.replace(config, methods={**config.methods, name: block})


def scale(**changes):
    return fake_results.paper_config(**{"methods": ["qam", "trqam"], **changes})


CRIPPLED = {"domains": {}, "parameters": {"distillation": 0.0}}


@pytest.mark.parametrize(
    ("departing", "named"),
    [
        (lambda: scale(eval_episodes=1), "eval episodes 1 instead of 50."),
        (lambda: scale(sampling="uniform"), "sampling uniform instead of shards."),
        (lambda: scale(data_source="generated"), "data source generated instead of official."),
        (lambda: domains(discount=0.5), "discount 0.5 instead of 0.995 on "),
        (lambda: domains("scene-play", discount=0.5), "discount 0.5 instead of 0.995 on scene."),
        (lambda: domains("scene-play", horizon=2), "horizon 2 instead of 5 on scene."),
        (lambda: domains("scene-play", kl_budget=1.0), "KL budget 1 instead of the assumed 0.5 of TRQAM on scene."),
        (lambda: domains("cube-triple-play", kl_budget=77.0), "KL budget 77 instead of 0.5 of TRQAM on cube-triple."),
        (lambda: method("fql", **CRIPPLED), "distillation 0 instead of 1 of FQL on puzzle-4x4"),
        (lambda: method("dsrl", stages=["offline"]), "stages offline instead of pretrain, offline and online of DSRL."),
    ],
)
def test_a_departure_anywhere_is_named_and_the_claim_is_not_run(departing, named):
    config = departing()
    found = judged("headline", config, frame(config, published()))
    assert found.verdict == NOT_RUN
    assert "Not the paper's scale: " in found.reason
    assert named in found.reason
    assert named.partition(" of ")[0].rstrip(".") in protocol.notice(config, RECORD, STATED.paper_scale.beside)


def test_another_obstacle_does_not_hide_that_the_scale_is_another():
    config = scale(baselines=["fql"], eval_episodes=1, batch_size=1, critics=3)
    reason = judged("headline", config, frame(config, published())).reason
    assert "did not run through the offline stage. Not the paper's scale: eval episodes 1 instead of 50, " in reason
    assert reason.endswith(" and other settings.")


def test_what_decides_no_result_is_no_departure():
    other = {"eval_environments": 5, "env_workers": 0, "log_interval": 1000, "checkpoint_interval": 50000}
    other |= {"transitions": 7, "data_seed": 3, "device": "cpu", "data_dir": "elsewhere", "seeds_per_job": 1}
    config = scale(**other, scale="mine")
    found = judged("headline", config, frame(config, published()))
    assert found.verdict == REPRODUCED
    assert "Assumed, not published: 9 of 10 KL budgets." in found.reason
    told = protocol.notice(scale(sampling="uniform", data_source="generated"), RECORD, STATED.paper_scale.beside)
    assert "sampling" not in told  # one shard


def test_a_verdict_at_the_papers_settings_counts_assumed_budgets_wherever_the_paper_shows_it():
    config = two_tasks()
    found = judged("collapse", config, falling(config, {"qam": 8, "qam_e": 8}))
    assert found.elsewhere
    assert "Assumed, not published: 1 of 2 KL budgets" in found.reason
    other = two_tasks(eval_episodes=10)
    reason = judged("collapse", other, falling(other, {})).reason
    assert "eval episodes 10 instead of 50" in reason
    assert "Assumed" not in reason


def test_the_notice_is_of_the_settings_and_not_of_the_name():
    def said(config):
        nothing = fake_results.metrics(fake_results.small_config()).iloc[:0]
        return facts.scale_notice(fake_results.collected(config, nothing, datasets={}))

    at = "This run has the settings of the paper's scale, published or assumed, on "
    assert said(scale(scale="mine")) == f"{at}all 50 tasks."
    few = {"tasks": ["scene-play"], "baseline_tasks": ["scene-play"], "ablation_tasks": [], "seeds": 5}
    assert said(scale(**few)) == f"{at}5 of its 50 tasks and with 5 seeds in place of 8."
    one = said(scale(eval_episodes=1))
    assert one.startswith(
        "This run, of the scale 'paper', is not at the paper's scale: eval episodes 1 instead of 50. "
    )
    three = said(scale(eval_episodes=1, data_source="generated", batch_size=1))
    assert "and 1 more departure. " in three
    small = said(fake_results.small_config())
    assert "is not at the paper's scale: pointmaze-medium is not among its domains, offline steps 4" in small


def said(config, **parts):
    nothing = fake_results.metrics(fake_results.small_config()).iloc[:0]
    return facts.facts(fake_results.collected(config, nothing, **parts))


def test_versions_are_those_of_the_runs():
    environments = fake_results.manifests()["environments"]
    (one,) = environments.values()
    other = {**one, "versions": {"torch": "2.14.0", "python": "3.11.9", "ogbench": "1.2.1"}}
    both = fake_results.manifests() | {"environments": {"a": one, "b": other}}
    found = said(fake_results.small_config(), manifests=both)
    runs = "Python 3.11.9, PyTorch 2.13.0 and 2.14.0 and OGBench 1.2.1"
    assert found["versions"] == f"{runs}; the data were made or relabelled with MuJoCo 4.0.0 and OGBench 1.2.2"
    assert "not known, and here it is 1.2.1." in found["assumptions"]


@pytest.mark.parametrize(
    ("changes", "printed", "not_printed"),
    [
        ({}, "one file at a time is sampled", "all are sampled alike"),
        ({"sampling": "uniform"}, "all are sampled alike", "one file at a time is sampled"),
        ({}, "dual rate (0.01), KL ema rate (0.1)", "our own choice"),
        ({"ablations": []}, "by domain of QAM, FQL, CGQL-L, DSRL, IFQL and QAM-E are those of QAM's own", "dual rate"),
        ({}, "not made sparser", "generated here"),
        ({"seeds": 2, "seeds_per_job": 2}, "The seeds are 0 to 1;", "0 to 7"),
        ({"seeds": 1, "seeds_per_job": 1}, "The seed is 0;", "The seeds"),
        (
            {},
            "The inverse temperature of QAM + external KL and QAM + external KL (fast) is QAM's, by domain",
            "own choice",
        ),
        ({"ablations": []}, "not made sparser", "external KL"),
    ],
)
def test_assumptions_are_those_of_the_configuration(changes, printed, not_printed):
    found = said(fake_results.paper_config(**changes))["assumptions"]
    assert printed in found
    assert not_printed not in found


def test_how_settings_were_chosen_is_told_where_it_is_said():
    assert said(fake_results.small_config(chosen="By lot."))["chosen"] == "By lot."
    assert not said(fake_results.small_config(chosen=""))["chosen"]
    told = {asked_for(fake_results.small_config(chosen=text)) for text in ("", "By lot.", "By hand.")}
    assert len(told) == 3  # or Snakemake would print the old one
