"""Results of different code, versions, data or configurations: refused in one line, or accepted and marked."""

import shutil

import pandas
import pytest

from tests.helpers.fake_results import collected, full_config, manifests
from tests.training.test_stop import At
from tests.training.test_training import POINT
from trqam.__main__ import main
from trqam.config import parameters
from trqam.config.errors import Stopped, UserError
from trqam.config.reading import read_json, seal, sha256
from trqam.experiment import provenance, run, verdict
from trqam.experiment.files import write_json
from trqam.experiment.run import cell_of, pretraining_cell
from trqam.report import html
from trqam.report.captions import captions
from trqam.report.collect import collect
from trqam.report.collected import Collected
from trqam.report.facts import facts
from trqam.report.latex import escape
from trqam.report.tables import make
from trqam.training import trainer
from trqam.training.blocks import pretrain, train

CLONED = "behaviour_cloning"


@pytest.fixture
def trained(load):
    """Two seeds of the cheapest method, and the configuration."""
    config = load(tasks=[POINT], methods=[CLONED])
    pretrain(config, config.run(POINT, CLONED).domain)
    train(config, POINT, CLONED, "offline", [0, 1])
    return config


def manifest(config, seed):
    return cell_of(config, POINT, CLONED, seed).path / "offline.json"


def edit(path, drop=(), **changes):
    """The manifest with other values, or without the keys to ``drop``, under a right seal."""
    content = {key: value for key, value in (read_json(path) | changes).items() if key not in ("seal", *drop)}
    write_json(path, {**content, "seal": seal(content)})


@pytest.mark.parametrize(
    ("key", "change", "value"),
    [
        ("code", {"code": "0123"}, "0123"),
        ("versions.torch", {"versions": {"torch": "1"}}, "1"),
        ("data_sha256", {"data_sha256": "0" * 64}, "0" * 16),
        ("base_sha256", {"base_sha256": "0" * 64}, "0" * 16),
    ],
)
def test_what_made_the_seeds_must_be_the_same(key, change, value, trained, tmp_path):
    edit(manifest(trained, 1), **change)
    fix = rf"`python -m trqam --config .* clean {POINT} {CLONED} --seed N`.* collect --mixed`.*mixed=true"
    differs = rf"seed0/offline.json: {key}: trained under \S+, .*seed1/offline.json has {value};"
    with pytest.raises(UserError, match=f"{differs}.*{fix}"):
        collect(trained, tmp_path / "paper")
    assert not (tmp_path / "paper").exists()


def test_the_versions_of_pretraining_count(trained, tmp_path):
    path = pretraining_cell(trained, trained.run(POINT, CLONED).domain).path / "pretrain.json"
    edit(path, versions=read_json(path)["versions"] | {"numpy": "1"}, code="another agent's, as always")
    with pytest.raises(
        UserError, match=r"versions.numpy: trained under .*pretrain.json has 1; .*clean pointmaze-medium-navigate`"
    ):
        collect(trained, tmp_path / "paper")


def test_a_policy_of_other_data_is_cloned_anew(trained, tmp_path):
    """Where the runs do not name their data: only the policy's and the card differ."""
    for seed in (0, 1):
        edit(manifest(trained, seed), drop=["data_sha256"])
    domain = trained.run(POINT, CLONED).domain
    edit(pretraining_cell(trained, domain).path / "pretrain.json", data_sha256="0" * 64)
    with pytest.raises(UserError, match=rf"pretrain.json: data_sha256: .*card.json has .* clean {domain}`"):
        collect(trained, tmp_path / "paper")


def test_manifests_name_the_data_and_the_cloned_policy(trained):
    domain = trained.run(POINT, CLONED).domain
    pretraining = pretraining_cell(trained, domain).path
    sums = read_json(trained.data_directory(domain) / "card.json")["sha256"]
    wanted = {"data_sha256": seal(sums), "base_sha256": sha256(pretraining / "base.safetensors")}
    for path in (pretraining / "pretrain.json", manifest(trained, 0), manifest(trained, 1)):
        assert {key: read_json(path)[key] for key in wanted} == wanted


@pytest.mark.parametrize(("key", "than"), [("base_sha256", "pretrain.json"), ("data_sha256", "card.json")])
def test_what_lies_there_today_must_be_what_all_seeds_had(key, than, trained, tmp_path):
    """A policy that was cloned anew, and data that were replaced, after every run had ended."""
    cloned = pretraining_cell(trained, trained.run(POINT, CLONED).domain).path / "pretrain.json"
    older = [manifest(trained, 0), manifest(trained, 1), *([cloned] if key == "data_sha256" else [])]
    for path in older:
        edit(path, **{key: "0" * 64})
    said = (
        rf"offline.json: {key}: trained under 0{{16}}, \S+{than} has [0-9a-f]{{16}};.*clean {POINT} {CLONED} --seed N"
    )
    with pytest.raises(UserError, match=said):
        collect(trained, tmp_path / "paper")
    found = list(verdict.outdated(trained))
    assert {run.cell.path for run in found} == {path.parent for path in older}
    assert {run.reason for run in found} == {f"made by other {key}"}


def test_data_that_changed_under_a_run_are_in_its_record(load, monkeypatch):
    config = load(tasks=[POINT])
    domain = config.run(POINT, "trqam").domain
    with pytest.raises(Stopped):
        pretrain(config, domain, At(7))
    monkeypatch.setattr(trainer, "data_sum", lambda card: "0" * 64)
    pretrain(config, domain)
    record = read_json(pretraining_cell(config, domain).path / "pretrain.json")
    assert [entry["data_sha256"] for entry in record["resumed"]] == ["0" * 64]
    assert verdict.mixture([(manifest(config, 0), record)], []).key == "data_sha256"


def test_commit_and_hardware_are_recorded_and_not_compared(trained, tmp_path, capsys):
    edit(manifest(trained, 1), git_commit="another", hardware={"cpu": "another"})
    collect(trained, tmp_path / "paper")
    assert len(read_json(tmp_path / "paper/manifests.json")["environments"]) == 2
    assert "warning" not in capsys.readouterr().err


def test_older_results_get_one_line(trained, tmp_path, capsys):
    for seed in (0, 1):
        edit(manifest(trained, seed), git_commit=str(seed), drop=["code", "data_sha256", "base_sha256"])
    collect(trained, tmp_path / "paper")
    (line,) = [line for line in capsys.readouterr().err.splitlines() if "warning" in line]
    assert "2 manifests, such as" in line
    assert "code, data_sha256: not recorded" in line


@pytest.mark.parametrize("told", [["--set", "mixed=true", "collect"], ["collect", "--mixed"]])
def test_a_mixture_that_is_accepted_is_marked(told, trained, monkeypatch):
    edit(manifest(trained, 1), code="0123")
    options = ["--config", "tests/tiny.yaml", "--set", f"data_dir={trained.scale.data_dir}"]
    options += ["--set", f"tasks=[{POINT}]", "--set", f"methods=[{CLONED}]"]
    monkeypatch.setattr("sys.argv", ["trqam", *options, *told])
    main()
    folder = trained.results / "paper"
    reasons = set(pandas.read_csv(folder / "runs.csv")["mixed"])
    assert len(reasons) == 1
    assert reasons.pop().startswith("code: ")
    found = Collected.load(trained, folder)
    assert [*found.mixed] == [(POINT, CLONED)]


def test_another_configuration_is_accepted_where_it_leaves_the_steps(trained, load, tmp_path):
    changed = load(tasks=[POINT], methods=[CLONED], learning_rate=0.002)
    with pytest.raises(UserError, match=r"learning_rate: trained with 0.001, the configuration now says 0.002"):
        collect(changed, tmp_path / "paper")
    collect(changed, tmp_path / "paper", mixed=True)
    (cell,) = read_json(tmp_path / "paper/manifests.json")["mixed"]
    assert cell["reason"] == "learning_rate: 0.001 and 0.002 today"
    coarser = load(tasks=[POINT], methods=[CLONED], log_interval=10, checkpoint_interval=10)
    with pytest.raises(UserError, match="log_interval: trained with 5"):
        collect(coarser, tmp_path / "other", mixed=True)


def test_a_run_that_went_on_under_other_code_knows(load, monkeypatch):
    config = load(tasks=[POINT])
    domain = config.run(POINT, "trqam").domain
    original = run.environment
    for step, code in ((7, "first"), (12, "second"), (13, "second")):
        monkeypatch.setattr(run, "environment", lambda *of, code=code: original(*of) | {"code": code})
        with pytest.raises(Stopped):
            pretrain(config, domain, At(step))
    pretrain(config, domain)
    record = read_json(pretraining_cell(config, domain).path / "pretrain.json")
    assert (record["code"], [(r["step"], r["code"]) for r in record["resumed"]]) == ("first", [(7, "second")])
    found = verdict.mixture([(manifest(config, 0), record | {"stage": "offline"})], [])
    assert found.reason == "code: first and second"
    assert "trained under first, later in the same run second; train anew" in found.refusal(config, POINT, "trqam")


def test_every_table_of_results_marks_the_cell():
    config = full_config()
    task, reason = config.tasks[0], "versions.torch: 2.13.0 and 2.14.0"
    marked = manifests() | {"mixed": [{"task": task, "method": "trqam", "reason": reason}]}
    plain, mixed = collected(config), collected(config, manifests=marked)
    for name in ("success", "aggregates", "improvement", "claims"):
        assert "¶" not in repr(make(name, plain))
        table = repr(make(name, mixed))
        assert "¶ mixed runs, listed" in table
        assert table.count("¶") > 1 or name == "claims"
    told = facts(mixed)
    assert f"data and configuration: TRQAM on pointmaze-medium task 2 ({reason})." in told["completeness"]
    assert "the configuration that trained" in facts(plain)["settings"]
    assert "today's configuration" in told["settings"]
    rows = {row.label: row for _, block in make("success", mixed).blocks for row in block}
    column = make("success", mixed).methods.index("TRQAM")
    assert "¶" in rows["pointmaze-medium task 2"].entries[column].marks
    assert "¶" not in rows["pointmaze-medium task 1"].entries[column].marks
    for name, caption in captions(mixed).items():
        assert caption.startswith(captions(plain)[name])
        assert "¶ mixed runs, listed" in caption
    labels = html.run_list(mixed)["runs"]["columns"]["methodLabel"]["values"]
    assert {"TRQAM", "TRQAM¶", "QAM"} <= {*labels}
    assert escape("¶") == "\\textparagraph{}"


def test_the_digest_sees_code_and_not_prose(tmp_path, monkeypatch):
    package = tmp_path / "trqam"
    shutil.copytree(provenance.PACKAGE, package, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(provenance, "PACKAGE", package)

    def digests(agents=("trqam", "fql")):
        provenance._tree.cache_clear()
        provenance.code_digest.cache_clear()
        return [provenance.code_digest(agent) for agent in agents]

    def insert(name, text, old, new):
        content = (package / name).read_text()
        assert old in content
        (package / name).write_text(text + content.replace(old, new, 1))

    before = digests()
    insert("maths/flow.py", "# A comment.\n\n", '"""', '"""Otherwise said: ')
    for beside in ("experiment/progress.py", "config/parameters.py"):
        insert(beside, "import os\n", "", "")
    assert digests() == before
    insert("agents/fql.py", "import os\n", "", "")
    assert [a == b for a, b in zip(digests(), before, strict=True)] == [True, False]
    insert("maths/td.py", "import os\n", "", "")
    assert [a == b for a, b in zip(digests(), before, strict=True)] == [False, False]
    changed = digests()
    monkeypatch.setattr(parameters.OF_AGENT["fql"], "policy", "diffusion", raising=False)
    assert [a == b for a, b in zip(digests(), changed, strict=True)] == [True, False]


def test_the_digest_covers_what_makes_numbers():
    found = set(provenance.sources("trqam"))
    wanted = "training.trainer training.blocks training.batches training.learner training.experience networks.replicas"
    wanted += " networks.mlp maths.sde maths.adjoint maths.dual maths.td maths.streams environments.ogbench_tasks"
    wanted += " environments.environment environments.robomimic_tasks environments.pool environments.evaluator"
    assert {f"trqam.{name}" for name in wanted.split()} <= found
    assert {"trqam.agents.trqam", "trqam.agents.base", "trqam.data.dataset"} <= found
    assert "trqam.agents.fql" not in found
    assert all(provenance._path(module) for module in provenance.BESIDE)
