"""The configuration: strict, mergeable, and its mistakes told in one line."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from trqam import config
from trqam.errors import UserError

SCALES = ["config/config.yaml", "config/paper.yaml", "config/cell.yaml", "tests/tiny.yaml"]
TASK = "pointmaze-medium-navigate-singletask-task2-v0"


@pytest.mark.parametrize("path", SCALES)
def test_every_scale_is_valid_and_has_the_same_keys(path):
    loaded = config.load(path)
    assert set(yaml.safe_load(Path(path).read_text())) == set(config.Scale.__struct_fields__)
    for task in loaded.tasks:
        for method in loaded.scale.methods:
            assert loaded.run(task, method).domain == config.domain_of(task)


def test_scale_files_hold_scalars_and_lists_only():
    """Snakemake merges --configfile into the default deeply: a mapping of `small` would leak into `paper`."""
    for path in SCALES:
        for key, value in yaml.safe_load(Path(path).read_text()).items():
            assert not isinstance(value, dict), (path, key)


def test_the_paper_grid_is_the_protocol():
    loaded = config.load("config/paper.yaml")
    assert len(loaded.tasks) == 50
    assert len(loaded.task_domains) == 10
    run = loaded.run("cube-triple-play-singletask-task1-v0", "trqam")
    assert (run.horizon, run.hidden_width, run.hidden_layers, run.actor_layer_norm) == (5, 1024, 4, True)
    assert run.parameters["kl_budget"] == 0.5
    assert (run.pretrain_steps, run.offline_steps, run.online_steps) == (300_000, 1_000_000, 500_000)
    qam = loaded.run("antmaze-large-navigate-singletask-task1-v0", "qam")
    assert qam.parameters["inverse_temperature"] == 10.0


def test_a_stage_is_not_invalidated_by_what_it_does_not_read():
    before = config.load("tests/tiny.yaml")
    after = config.load("tests/tiny.yaml", {"online_steps": 40, "checkpoint_interval": 10, "seeds": 5})
    runs = before.run(TASK, "trqam"), after.run(TASK, "trqam")
    assert runs[0].digest("pretrain") == runs[1].digest("pretrain")
    assert runs[0].digest("offline") == runs[1].digest("offline")
    assert runs[0].digest("online") != runs[1].digest("online")
    faster = config.load("tests/tiny.yaml", {"learning_rate": 0.01}).run(TASK, "trqam")
    assert {faster.digest(s) for s in config.STAGES}.isdisjoint(runs[0].digest(s) for s in config.STAGES)


def test_a_budget_of_the_method_beats_the_domains(tmp_path):
    methods = yaml.safe_load(Path("config/methods.yaml").read_text())
    methods["trqam"]["parameters"]["kl_budget"] = 2.5
    path = tmp_path / "methods.yaml"
    path.write_text(yaml.safe_dump(methods))
    assert config.load("tests/tiny.yaml").run(TASK, "trqam").parameters["kl_budget"] == 0.3
    loaded = config.load("tests/tiny.yaml", {"methods_file": str(path)})
    assert loaded.run(TASK, "trqam").parameters["kl_budget"] == 2.5


def edited(tmp_path, pattern, replacement, source="tests/tiny.yaml"):
    text = Path(source).read_text()
    changed = re.sub(pattern, replacement, text, count=1, flags=re.MULTILINE)
    assert changed != text
    path = tmp_path / Path(source).name
    path.write_text(changed)
    return path


MISTAKES = {
    "typo": (r"^batch_size:", "batchsize:", "batchsize"),
    "wrong type": (r"^batch_size: 16", "batch_size: many", "batch_size"),
    "number in quotation marks": (
        r"^learning_rate: 0.001",
        "learning_rate: '3e-4'",
        "write 0.0003, without quotation marks",
    ),
    "octal": (r"^seeds: 2", "seeds: 010", "octal"),
    "doubled key": (r"^seeds: 2", "seeds: 2\nseeds: 3", "seeds is given twice"),
    "missing key": (r"^seeds: 2\n", "", "seeds: missing"),
    "out of range": (r"^batch_size: 16", "batch_size: 0", "batch_size"),
    "not a number": (r"^learning_rate: 0.001", "learning_rate: .nan", "not a finite number"),
    "infinite": (r"^learning_rate: 0.001", "learning_rate: .inf", "not a finite number"),
    "unknown task": ("cube-single-play-singletask-task1-v0", "cube-single-play-singletask-task9-v0", "task9"),
    "unknown domain": ("cube-single-play-singletask-task1-v0", "cube-simple-play", "cube-simple-play"),
    "unknown method": (r"\[behaviour_cloning", "[awac", "awac"),
    "steps and interval": (r"^offline_steps: 20", "offline_steps: 21", "multiple of eval_interval"),
    "not YAML": (r"^seeds: 2", "seeds: [2", "not valid YAML"),
    "path trick": (r"^scale: tiny", "scale: ../elsewhere", "scale"),
    "YAML tag": (r"^seeds: 2", "seeds: !!python/object/apply:os.system ['touch canary']", "not valid YAML"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_line_with_file_key_and_fix(name, tmp_path, monkeypatch):
    pattern, replacement, expected = MISTAKES[name]
    path = edited(tmp_path, pattern, replacement)
    with pytest.raises(UserError) as caught:
        config.load(path)
    message = str(caught.value)
    assert str(path) in message
    assert expected in message
    assert "\n" not in message
    assert not Path("canary").exists()


METHOD_MISTAKES = {
    "unknown parameter": ("inverse_temperature: 1.0 ", "inverse_temprature: 1.0 ", "inverse_temprature: unknown key"),
    "wrong type": ("dual_rate: 0.01", "dual_rate: slow", "dual_rate"),
    "unknown agent": ("agent: qam", "agent: quam", "trqam/agents/quam.py"),
    "unknown domain": ("scene-play: {", "scene-plays: {", "scene-plays"),
    "colour": ('"#0072b2"', "blue", "colour"),
}


@pytest.mark.parametrize("name", METHOD_MISTAKES)
def test_a_mistake_in_the_method_table(name, tmp_path):
    pattern, replacement, expected = METHOD_MISTAKES[name]
    path = edited(tmp_path, re.escape(pattern), replacement, "config/methods.yaml")
    with pytest.raises(UserError, match=re.escape(expected)) as caught:
        config.load("tests/tiny.yaml", {"methods_file": str(path)})
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--config", "nowhere.yaml", "collect"], "nowhere.yaml"),
        (["--set", "seeds", "collect"], "write such as seeds=5"),
        (["--set", "seeds=[", "collect"], "--set seeds: line 1: not valid YAML"),
        (["--set", "seeds=010", "collect"], "010 would be octal"),
        (["train", "pointmaze", "trqam", "--stage", "offline"], "pointmaze"),
        (["train", TASK, "trqam", "--stage", "sideways"], "sideways"),
        (["traine"], "traine"),
    ],
)
def test_the_command_line_says_it_in_one_line(arguments, expected):
    found = subprocess.run([sys.executable, "-m", "trqam", *arguments], capture_output=True, text=True)
    assert found.returncode == 2
    assert found.stdout == ""
    assert found.stderr.count("\n") == 1
    assert expected in found.stderr


def test_reading_the_configuration_does_not_import_torch():
    code = "import sys; from trqam import config; config.load('config/paper.yaml'); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_conda_users_get_the_same_pins():
    conda = yaml.safe_load(Path("environment.yml").read_text())["dependencies"][-1]["pip"]
    pinned = [line for line in Path("requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert conda == pinned
    assert all(re.fullmatch(r"[A-Za-z0-9-]+==[0-9.]+", line) for line in pinned)


def test_the_online_stage_may_have_another_budget(tmp_path):
    path = edited(tmp_path, "label: pointmaze-medium, (.*\n.*)kl_budget_online: null",
                  r"label: pointmaze-medium, \1kl_budget_online: 7.0", "config/domains.yaml")  # fmt: skip
    loaded = config.load("tests/tiny.yaml", {"domains_file": str(path), "budgets": [0.5], "ablation_tasks": [TASK]})
    run = loaded.run(TASK, "trqam")
    assert run.at("offline").parameters["kl_budget"] == loaded.domains["pointmaze-medium-navigate"].kl_budget
    assert run.at("online").parameters["kl_budget"] == 7.0
    assert "kl_budget_online" not in run.resolved("offline")
    swept = loaded.run(TASK, "trqam_budget_0.5")  # the sweep's own budget holds in both stages
    assert swept.at("online").parameters["kl_budget"] == 0.5
    assert loaded.run(TASK, "qam").at("online") == loaded.run(TASK, "qam")


# Merging: scale, then domain, then method and its override, whatever the values.

BUDGETS = st.floats(0.01, 100)


@settings(max_examples=10, deadline=None)
@given(width=st.none() | st.integers(1, 512), domain=BUDGETS, method=st.none() | BUDGETS, override=st.none() | BUDGETS)
def test_the_most_special_value_wins(tmp_path_factory, width, domain, method, override):
    folder = tmp_path_factory.mktemp("tables")
    paths = {}
    for name in ("domains", "methods"):
        table = yaml.safe_load(Path(f"config/{name}.yaml").read_text())
        if name == "domains":
            table["pointmaze-medium-navigate"] |= {"kl_budget": domain, "hidden_width": 48}
        else:
            table["trqam"]["parameters"] |= {} if method is None else {"kl_budget": method}
            more = {} if override is None else {"pointmaze-medium-navigate": {"kl_budget": override}}
            table["trqam"]["domains"] = table["trqam"]["domains"] | more
        paths[f"{name}_file"] = str(folder / f"{name}.yaml")
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(table))
    run = config.load("tests/tiny.yaml", {"hidden_width": width, **paths}).run(TASK, "trqam")
    assert run.hidden_width == (width or 48)
    assert run.parameters["kl_budget"] == next(v for v in (override, method, domain) if v is not None)


KEYS = st.sampled_from(["batch_size", "seeds", "offline_steps", "critics", "eval_episodes"])
VALUES = st.none() | st.booleans() | st.integers(-3, 60) | st.text(max_size=5) | st.lists(st.integers())


@settings(max_examples=15, deadline=None)
@given(st.dictionaries(KEYS, VALUES))
def test_a_change_is_taken_as_it_is_or_refused_in_one_line(changes):
    try:
        loaded, message = config.load("tests/tiny.yaml", changes), "; "
    except UserError as error:
        loaded, message = None, str(error)
    assert message.isprintable()
    assert "; " in message
    assert loaded is None or {key: getattr(loaded.scale, key) for key in changes} == changes
