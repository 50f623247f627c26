"""The configuration: strict, mergeable, and its mistakes told in one line."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.conftest import ROOT
from trqam.__main__ import parsed
from trqam.config import command_line, load
from trqam.config.errors import UserError
from trqam.config.reading import parse_yaml
from trqam.config.wording import methods_without_tasks, task_label, tasks_label

SCALES = [f"config/{name}.yaml" for name in ("config", "overnight", "beyond", "paper", "cell", "robomimic")]
SCALES += ["tests/tiny.yaml"]
TASK = "pointmaze-medium-navigate-singletask-task2-v0"


@pytest.mark.parametrize("path", SCALES)
def test_every_scale_is_valid_and_has_the_same_keys(path):
    loaded = load.load(path)
    assert set(yaml.safe_load(Path(path).read_text())) == set(load.Scale.__struct_fields__)
    for task in loaded.tasks:
        for method in loaded.scale.methods:
            assert loaded.run(task, method).domain == load.domain_of(task)


def test_scale_files_hold_scalars_and_lists_only():
    """Snakemake merges --configfile into the default deeply: a mapping of `small` would leak into `paper`."""
    for path in SCALES:
        for key, value in yaml.safe_load(Path(path).read_text()).items():
            assert not isinstance(value, dict), (path, key)


def test_the_paper_grid_is_the_protocol():
    loaded = load.load("config/paper.yaml")
    assert len(loaded.tasks) == 50
    assert len(loaded.task_domains) == 10
    run = loaded.run("cube-triple-play-singletask-task1-v0", "trqam")
    assert (run.horizon, run.hidden_width, run.hidden_layers, run.actor_layer_norm) == (5, 1024, 4, True)
    assert run.parameters["kl_budget"] == 0.5
    assert (run.pretrain_steps, run.offline_steps, run.online_steps) == (300_000, 1_000_000, 500_000)
    budgets = {domain: loaded.domains[domain].kl_budget for domain in loaded.task_domains}
    assert {budget for domain, budget in budgets.items() if domain != "puzzle-4x4-play"} == {0.5}
    assert budgets["puzzle-4x4-play"] == 4.0
    assert [d for d in budgets if "kl_budget" not in loaded.domains[d].assumed] == ["cube-triple-play"]
    assert {loaded.run(*cell).sampling for cell in loaded.cells} == {"shards"}
    qam = loaded.run("antmaze-large-navigate-singletask-task1-v0", "qam")
    assert qam.parameters["inverse_temperature"] == 10.0


def test_a_domain_of_robomimic_is_one_task_of_its_name():
    loaded = load.load("config/robomimic.yaml")
    assert loaded.tasks == loaded.task_domains == ["lift-mh", "can-mh", "square-mh"]
    budgets = [loaded.run(task, "trqam").parameters["kl_budget"] for task in loaded.tasks]
    assert budgets == [0.1, 0.1, 0.5]
    assert {loaded.run(*cell).normalise_observations for cell in loaded.cells} == {"range"}
    assert task_label(loaded, "can-mh") == "Robomimic can"
    everywhere = ["lift-mh", *load.tasks_of("scene-play"), "cube-double-play-singletask-task2-v0"]
    assert tasks_label(loaded, everywhere) == "all tasks of scene; Robomimic lift; task 2 of cube-double"


def test_a_stage_is_not_invalidated_by_what_it_does_not_read():
    before = load.load("tests/tiny.yaml")
    after = load.load("tests/tiny.yaml", {"online_steps": 40, "checkpoint_interval": 10, "seeds": 5})
    runs = before.run(TASK, "trqam"), after.run(TASK, "trqam")
    assert runs[0].digest("pretrain") == runs[1].digest("pretrain")
    assert runs[0].digest("offline") == runs[1].digest("offline")
    assert runs[0].digest("online") != runs[1].digest("online")
    faster = load.load("tests/tiny.yaml", {"learning_rate": 0.01}).run(TASK, "trqam")
    assert {faster.digest(s) for s in load.STAGES}.isdisjoint(runs[0].digest(s) for s in load.STAGES)


def edited(tmp_path, pattern, replacement, source="tests/tiny.yaml"):
    text = Path(source).read_text()
    changed = re.sub(pattern, replacement, text, count=1, flags=re.MULTILINE)
    assert changed != text
    path = tmp_path / Path(source).name
    path.write_text(changed)
    return path


def test_reading_the_configuration_does_not_import_torch():
    code = "import sys; from trqam.config import load; load.load('config/paper.yaml'); print('torch' in sys.modules)"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout == "False\n"


def test_conda_users_get_the_same_pins():
    conda = yaml.safe_load(Path("environment.yml").read_text())["dependencies"][-1]["pip"]
    pinned = [line for line in Path("requirements.txt").read_text().splitlines() if not line.startswith("#")]
    assert conda == pinned
    assert all(re.fullmatch(r"[A-Za-z0-9-]+==[0-9.]+", line) for line in pinned)


def test_sweeps_vary_one_thing_and_hold_the_methods_own_setting():
    lists = {"budgets": [4.0], "inverse_temperatures": [0.3, 30.0], "reward_scales": [10.0]}
    loaded = load.load("tests/tiny.yaml", {**lists, "ablation_tasks": [TASK]})
    assert [*loaded.sweeps] == [
        "trqam_budget_4", "qam_temperature_0.3", "qam_temperature_30", "trqam_rewards_10", "qam_rewards_10"
    ]  # fmt: skip
    for name, (key, method, value) in loaded.sweeps.items():
        varied = {"budgets": "kl_budget", "inverse_temperatures": "inverse_temperature"}.get(key)
        own, like = loaded.run(TASK, name), loaded.run(TASK, method)
        assert own.reward_scale == (1.0 if varied else value)
        assert own.parameters == ({**like.parameters, varied: value} if varied else like.parameters)
        assert ("reward_scale" in own.resolved("offline")) == (key == "reward_scales")
        assert own.resolved("pretrain") == like.resolved("pretrain")
    assert loaded.swept("budgets", "trqam") == {0.3: "trqam", 4.0: "trqam_budget_4"}
    again = load.load("tests/tiny.yaml", {**lists, "budgets": [4.0, 0.3], "ablation_tasks": [TASK]})
    assert (again.sweeps, again.cells) == (loaded.sweeps, loaded.cells)  # the method's own run is not trained twice
    alone = load.load("tests/tiny.yaml", {"methods": ["qam"], "budgets": [0.3], "ablation_tasks": [TASK]})
    assert alone.swept("budgets", "trqam") == {0.3: "trqam_budget_0.3"}
    assert loaded.swept("reward_scales", "qam") == {1.0: "qam", 10.0: "qam_rewards_10"}
    assert load.load("tests/tiny.yaml").swept("budgets", "trqam") == {}
    with pytest.raises(UserError, match=r"budgets: '4' is listed twice; remove one"):
        load.load("tests/tiny.yaml", {"budgets": [4.0, 4.0]})


def test_methods_that_no_task_runs_are_told():
    loaded = load.load("tests/tiny.yaml", {"ablations": ["constant_lambda"], "budgets": [1.0], "baselines": ["fql"]})
    assert methods_without_tasks(loaded) == [
        "tests/tiny.yaml: baseline_tasks: lists no task, so 1 method of this scale will not run: FQL",
        "tests/tiny.yaml: ablation_tasks: lists no task, so 2 methods of this scale will not run: "
        "TRQAM, constant lambda; TRQAM, budget 1",
    ]
    for path in SCALES:
        assert methods_without_tasks(load.load(path)) == []


def test_a_method_may_name_what_clones_for_it():
    domains = list(load.load("tests/tiny.yaml").task_domains)
    assert load.load("tests/tiny.yaml").pretrainings == domains
    loaded = load.load("tests/tiny.yaml", {"ablations": ["trqam_diffusion"], "ablation_tasks": [TASK]})
    usual, other = loaded.run(TASK, "trqam"), loaded.run(TASK, "trqam_diffusion")
    assert loaded.pretrainings == [*domains, other.cloned]
    assert (usual.cloned, other.cloned) == (usual.domain, f"{usual.domain}+diffusion_cloning")
    for run in (usual, other):
        cloning = loaded.pretraining(run.cloned)
        assert (cloning.method, cloning.agent) == (run.cloned_by, run.cloned_by)
        assert cloning.cloned == run.cloned
        assert cloning.resolved("pretrain") == run.resolved("pretrain")
    for stage in load.STAGES:  # what was recorded before there was a choice stays valid
        assert "cloned_by" not in usual.resolved(stage)
        assert other.resolved(stage)["cloned_by"] == "diffusion_cloning"
    with pytest.raises(UserError, match=rf"no method of this scale begins from '{usual.domain}\+qam'; "):
        loaded.pretraining(f"{usual.domain}+qam")
    with pytest.raises(UserError, match="no task of 'scene-play' is listed"):
        loaded.pretraining("scene-play+diffusion_cloning")


def test_a_variant_keeps_what_its_method_sets_by_domain_but_for_what_is_swept(tmp_path):
    table = yaml.safe_load(Path("config/methods.yaml").read_text())
    table["trqam"]["domains"] = {"pointmaze-medium-navigate": {"kl_budget": 9.0, "dual_rate": 0.25}}
    (tmp_path / "methods.yaml").write_text(yaml.safe_dump(table))
    changes = {"methods_file": str(tmp_path / "methods.yaml"), "budgets": [0.5], "ablation_tasks": [TASK]}
    run = load.load("tests/tiny.yaml", changes).run(TASK, "trqam_budget_0.5")
    assert (run.parameters["kl_budget"], run.parameters["dual_rate"]) == (0.5, 0.25)


def test_the_online_stage_may_have_another_budget(tmp_path):
    path = edited(tmp_path, "label: pointmaze-medium, (.*\n.*)kl_budget_online: null",
                  r"label: pointmaze-medium, \1kl_budget_online: 7.0", "config/domains.yaml")  # fmt: skip
    loaded = load.load("tests/tiny.yaml", {"domains_file": str(path), "budgets": [0.5], "ablation_tasks": [TASK]})
    run = loaded.run(TASK, "trqam")
    assert run.at("offline").parameters["kl_budget"] == loaded.domains["pointmaze-medium-navigate"].kl_budget
    assert run.at("online").parameters["kl_budget"] == 7.0
    assert "kl_budget_online" not in run.resolved("offline")
    swept = loaded.run(TASK, "trqam_budget_0.5")  # the sweep's own budget holds in both stages
    assert swept.at("online").parameters["kl_budget"] == 0.5
    both = {"ablation_stages": ["offline", "online"], "budgets": [0.3], "ablation_tasks": [TASK]}
    listed = load.load("tests/tiny.yaml", {"domains_file": str(path), **both})
    assert listed.swept("budgets", "trqam") == {0.3: "trqam_budget_0.3"}  # which the method's own online stage has not
    assert loaded.run(TASK, "qam").at("online") == loaded.run(TASK, "qam")


# Merging: scale, then domain, then method and its override, whatever the values.

BUDGETS = st.floats(0.01, 100)


@settings(max_examples=10)
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
    run = load.load("tests/tiny.yaml", {"hidden_width": width, **paths}).run(TASK, "trqam")
    assert run.hidden_width == (width or 48)
    assert run.parameters["kl_budget"] == next(v for v in (override, method, domain) if v is not None)


KEYS = st.sampled_from(["batch_size", "seeds", "offline_steps", "critics", "eval_episodes"])
VALUES = st.none() | st.booleans() | st.integers(-3, 60) | st.text(max_size=5) | st.lists(st.integers())


@settings(max_examples=15)
@given(st.dictionaries(KEYS, VALUES))
def test_a_change_is_taken_as_it_is_or_refused_in_one_line(changes):
    try:
        loaded, message = load.load("tests/tiny.yaml", changes), "; "
    except UserError as error:
        loaded, message = None, str(error)
    assert message.isprintable()
    assert "; " in message
    assert loaded is None or {key: getattr(loaded.scale, key) for key in changes} == changes


NUMBERS = {
    "5e-5": 5e-5, "5e-05": 5e-5, "5E-5": 5e-5, "1e-3": 1e-3, ".5": 0.5, "5.": 5.0, "+1.0": 1.0, "1_0.5": 10.5,
    "1e16": 1e16, "1e6": 1_000_000, "1E+6": 1_000_000, "2.5e3": 2500, "1_000": 1000, "0x1F": 31, "0b101": 5, "0o17": 15,
    "-3": -3, "0": 0,
}  # fmt: skip


@pytest.mark.parametrize("text", NUMBERS)
def test_whatever_yaml_or_python_reads_as_a_number_is_one(text):
    found = parse_yaml(text, "here")
    assert (found, type(found)) == (NUMBERS[text], type(NUMBERS[text]))


@given(st.floats(allow_nan=False, allow_infinity=False) | st.integers())
def test_a_number_as_python_prints_it_is_read_again(number):
    for text in (repr(number), json.dumps(number), f"{number:.20e}"):
        assert parse_yaml(text, "here") == (float(text) if "e" in text else number)


@pytest.mark.parametrize("text", ["010", "-010", "08", "0_1", "1:30", "1:30.5", ".nan", "-.inf", "1e400"])
def test_what_two_readers_would_take_for_different_numbers_is_refused(text):
    with pytest.raises(UserError, match=r"^here: line 1: not valid YAML"):
        parse_yaml(text, "here")


def test_a_hint_works_when_it_is_typed(tmp_path):
    for key, text in {"learning_rate": "5e-5", "batch_size": "1e1", "target_rate": "1e-07"}.items():
        with pytest.raises(UserError) as caught:
            load.load("tests/tiny.yaml", {key: text})
        hint = re.search(r"write (\S+), without quotation marks", str(caught.value))[1]
        assert getattr(command_line.from_command("tests/tiny.yaml", [f"{key}={hint}"]).scale, key) == float(text)


# Snakemake's command line: what it is given, what jobs are given, and what they read.

GIVEN = {
    "chosen": ["", "as the authors'", "Tuned: no. # 1\nTwo", "007"],
    "scale": ["small2", "2024", "007", "1e5", "null", "true"],
    "domains_file": ["config/domains.yaml"],
    "methods_file": ["config/methods.yaml"],
    "data_dir": ["data/a b", "data/ü€😀", "/data #2", "2024", "it's", 'a"b', "%s&x", "a: b", "-x", "\x7f"],
    "tasks": [f"[{TASK}]", f"['{TASK}', cube-single-play]", f"- {TASK}\n"],
    "methods": ["[trqam]", "[behaviour_cloning, 'qam']", '["trqam", "qam"]'],
    "baselines": ["[]", "[fql, ifql]"],
    "baseline_tasks": ["[]", f"[{TASK}]"],
    "ablations": ["[]", "[constant_lambda]"],
    "budgets": ["[]", "[0.5, 1]", "[1e-05]", "[1e-5, .5]"],
    "inverse_temperatures": ["[]", "[0.03, 30]"],
    "reward_scales": ["[]", "[0.1, 10]"],
    "ablation_tasks": ["[]", f"[{TASK}]"],
    "ablation_stages": ["[]", "[offline, online]"],
    "ablation_eval_interval": ["5", "1e1"],
    "seeds": ["5", "1_000", "0x10", "1e1"],
    "mixed": ["true", "True", "false", "False"],
    "transitions": ["1000000", "1e6"],
    "learning_rate": ["0.00005", "5e-5", "1e-3", "1", "1e-30"],
    "target_rate": ["1", "0.005", "1e-07"],
    "hidden_width": ["null", "", "~", "32"],
}
ALIKE = {
    "seeds_per_job": "1", "replicas": "2", "keep": "policy", "device": "cuda", "step": "eager",
    "data_source": "official",
    "data_seed": "7", "sampling": "shards", "pretrain_steps": "100", "offline_steps": "40", "online_steps": "1e2",
    "online_start": "5", "batch_size": "64", "flow_steps": "10", "critics": "10", "hidden_layers": "3",
    "eval_interval": "20", "eval_episodes": "2", "eval_environments": "3", "env_workers": "2", "log_interval": "1",
    "checkpoint_interval": "20",
}  # fmt: skip


@pytest.mark.parametrize("key", load.Scale.__struct_fields__)
def test_every_key_can_be_given_to_snakemake_and_comes_to_its_jobs_as_it_was(key):
    before = load.load("tests/tiny.yaml")
    given = GIVEN.get(key) or [ALIKE[key]]
    for text in given:
        loaded, options = command_line.from_snakemake(["tests/tiny.yaml"], [f"{key}={text}"])
        arguments = parsed([*shlex.split(shlex.join(options)), "collect"])
        assert shlex.join(options).isascii()
        job = command_line.from_command(arguments.config, arguments.set)
        assert job.scale == loaded.scale == command_line.from_command("tests/tiny.yaml", [f"{key}={text}"]).scale
        assert kinds(job) == kinds(loaded)
        others = [name for name in load.Scale.__struct_fields__ if name != key]
        assert all(getattr(job.scale, name) == getattr(before.scale, name) for name in others)
    assert key.endswith("_file") or any(
        getattr(command_line.from_snakemake(["tests/tiny.yaml"], [f"{key}={text}"])[0].scale, key)
        != getattr(before.scale, key)
        for text in given
    )


def kinds(loaded):
    return [type(getattr(loaded.scale, name)) for name in load.Scale.__struct_fields__]


@pytest.mark.parametrize(
    ("entry", "expected"),
    [
        ("seeds=010", "--config seeds: line 1: not valid YAML (010 would be octal)"),
        ("mixed=maybe", "--config mixed: found 'maybe'; write true or false"),
        ("offline_steps=21", "--config offline_steps: found 21; write a multiple of eval_interval (10)"),
        ("online_start=20", "--config online_start: no update in"),
        ("tasks=[nowhere]", "--config tasks: unknown domain of 'nowhere-singletask-task1-v0'; "),
        ("sedes=3", "--config sedes=3: not a key of the scale file and its value; "),
        ("pessimism=0.9", "--config pessimism: a key of domains.yaml, not of the scale file; "),
        ("dual_rate=0.9", "--config dual_rate: a key of methods.yaml, not of the scale file; "),
        ("data_dir=$HOME/x", "--config data_dir: found '$HOME/x', and variables are not replaced; "),
        ("data_dir=a{b}", "--config data_dir: 'a{b}' has braces, wildcards to Snakemake; "),
    ],
)
def test_a_mistake_on_snakemakes_command_line_is_not_blamed_on_the_file(entry, expected):
    with pytest.raises(UserError) as caught:
        command_line.from_snakemake(["tests/tiny.yaml"], [entry])
    assert str(caught.value).startswith(expected)


def test_of_several_files_the_last_counts_and_each_is_blamed_for_its_own(tmp_path, monkeypatch):
    first, second = tmp_path / "first.yaml", tmp_path / "second.yaml"
    first.write_text("seeds: 4\nlearning_rate: 5e-5\n")
    second.write_text("seeds: 5\n")
    loaded, options = command_line.from_snakemake([first, second], [])
    assert (loaded.scale.seeds, loaded.scale.learning_rate, loaded.scale.scale) == (5, 5e-5, "small")
    arguments = parsed([*options, "collect"])
    assert command_line.from_command(arguments.config, arguments.set).scale == loaded.scale
    monkeypatch.chdir(tmp_path)  # where no default is
    with pytest.raises(UserError, match=r"second.yaml: data_source: missing; "):
        command_line.from_snakemake([second], [])
    monkeypatch.chdir(ROOT)
    first.write_text("learning_rate: fast\n")
    with pytest.raises(UserError, match=r"first.yaml: learning_rate: found 'fast'"):
        command_line.from_snakemake([first, second], [])


def test_a_home_folder_is_meant_by_a_tilde(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "methods.yaml").write_bytes(Path("config/methods.yaml").read_bytes())
    path = edited(tmp_path, "data_dir: data/tiny", "data_dir: ~/ogbench")
    for loaded in (load.load(path), command_line.from_snakemake([path], ["methods_file=~/methods.yaml"])[0]):
        assert loaded.data_directory("scene-play") == tmp_path / "ogbench" / "scene-play"
    assert loaded.scale.methods_file == str(tmp_path / "methods.yaml")
