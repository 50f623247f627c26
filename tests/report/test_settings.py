"""The settings tables print what trained: each is held against the `Run` that the trainer gets."""

import msgspec
import pytest

from tests.helpers.fake_results import BARE, collected, full_config, metrics, paper_config, small_config
from trqam.config.load import domain_of
from trqam.config.wording import shown
from trqam.report import latex, tables
from trqam.report.latex import SYMBOLS, heading, symbol

NONE = metrics(small_config()).iloc[:0]  # no table of settings looks at results


def made(name, config):
    return tables.make(f"settings_{name}", collected(config, NONE, datasets={}))


@pytest.fixture(scope="module", params=["small", "paper"])
def config(request):
    return full_config() if request.param == "small" else paper_config()


def test_parameters_by_domain_are_those_that_train(config):
    table = made("baselines", config)
    methods = [label for label, columns in table.groups for _ in range(columns)][1:]
    names = {block.label: name for name, block in config.methods.items()}
    rows, seen = {row[0]: row[1:] for row in table.rows}, 0
    for task, method in config.cells:
        texts = rows[config.domains[domain_of(task)].label]
        printed = [text.removesuffix("*") for text, label in zip(texts, methods, strict=True) if names[label] == method]
        keys = dict.fromkeys(key for values in config.methods[method].domains.values() for key in values)
        parameters = config.run(task, method).parameters
        if printed:
            assert printed == [shown(parameters[key]) for key in keys]
            seen += 1
    assert seen >= 7


def test_what_is_not_by_domain_is_in_the_caption():
    caption = made("baselines", full_config()).caption
    assert "CGQL-L: inverse temperature 10, exponent clip 5; DSRL: target entropy a dimension -0.5" in caption
    assert "TRQAM:" not in caption  # the trust region has a table of its own


def test_budgets_are_those_that_train(config):
    table = made("trust_region", config)
    assert table.header[2:] == ("TRQAM", "SQAM", "QAM + external KL", "QAM + external KL (fast)")
    names = {block.label: name for name, block in config.methods.items()}
    rows = {row[0]: dict(zip(table.header[2:], row[2:], strict=True)) for row in table.rows}
    for label in table.header[2:]:
        tasks = [task for task, method in config.cells if method == names[label]]
        for domain in config.task_domains:
            here = [config.run(t, names[label]).parameters["kl_budget"] for t in tasks if domain_of(t) == domain]
            printed = rows[f"KL budget, {config.domains[domain].label}"][label]
            assert printed.removesuffix("*") == (shown(here[0]) if here else "--")


def test_another_budget_online_is_printed():
    config = small_config()
    name = config.task_domains[0]
    domain = msgspec.structs.replace(config.domains[name], kl_budget_online=0.7)
    config = msgspec.structs.replace(config, domains={**config.domains, name: domain})
    assert made("trust_region", config).rows[-1][2] == "0.3, online 0.7"


def test_assumed_values_carry_an_asterisk():
    config = paper_config()
    budgets = {row[0]: row[2] for row in made("trust_region", config).rows}
    assert budgets["KL budget, scene"] == "0.5*"
    assert budgets["KL budget, cube-triple"] == "0.5"
    values = {row[0]: row[1] for row in made("baselines", config).rows}
    assert values["scene"] == "300*"  # inferred
    assert values["cube-triple"] == "30"  # published
    for name in ("trust_region", "baselines"):
        assert "*: assumed" in made(name, config).caption
    assert "*" not in str(made("baselines", full_config()))  # of a domain that is ours nothing is assumed
    starred = {row[0]: row[2:] for row in made("trust_region", full_config()).rows}
    assert starred["dual rate"] == ("0.01", "0.01", "0.01*", "0.3*")  # of the external form the paper says nothing
    assert starred["greatest multiplier"] == ("100", "100", "100*", "100000*")


def test_a_setting_that_changes_a_result_changes_the_table():
    """Whatever key of the scale file the configuration of a run depends on is printed."""
    config = full_config()
    before = made("common", config).rows
    for key, value in vars_of(config.scale).items():
        other = {int: lambda v: v + 1, float: lambda v: v / 2, type(None): lambda v: 48}.get(type(value))
        if other is None or key == "checkpoint_interval":
            continue
        changed = msgspec.structs.replace(config, scale=msgspec.structs.replace(config.scale, **{key: other(value)}))
        digests = [[c.run(*cell).digest("online") for cell in c.cells] for c in (config, changed)]
        assert (digests[0] == digests[1]) or made("common", changed).rows != before, key


def vars_of(struct):
    return {key: getattr(struct, key) for key in struct.__struct_fields__}


def test_a_width_of_the_scale_stands_in_the_domains_place():
    config = small_config(hidden_width=48)
    table = made("domains", config)
    assert "48" in table.rows[0]
    assert "64" not in table.rows[0]


def test_an_ablation_is_told_by_what_it_changes():
    rows = {row[0]: row[1:] for row in made("ablations", full_config(reward_scales=[0.1])).rows}
    assert rows["TRQAM, constant lambda"] == ("as TRQAM, dual rate 0 in place of 0.01", "cloning and offline")
    assert rows["QAM (from scratch)"] == ("as QAM, no behaviour cloning first", "offline")
    assert rows["Budget sweep"][0] == "as TRQAM, with a KL budget of 1 and 3"
    assert rows["Scale of rewards, QAM"][0] == "as QAM, with all rewards multiplied by 0.1"


def test_a_scale_without_ablations_has_no_table_of_them(tmp_path):
    config = small_config(**{**BARE, "methods": ["behaviour_cloning"]})
    for name in ("trust_region", "baselines", "ablations"):
        tables.render(f"settings_{name}", collected(config, NONE), tmp_path / "x.tex")
        assert "table" not in (tmp_path / "x.tex").read_text().replace("= empty", "")


def test_symbols_are_latex_in_the_paper_and_markup_on_the_page():
    assert symbol("multiplier_min") == r"$\lambda_{\mathrm{min}}$"
    assert symbol("multiplier_min").__html__() == "<i>λ</i><sub>min</sub>"
    assert symbol("multiplier_scale").__html__() == "<i>λ</i><sub>eff</sub>/<i>λ</i>"
    assert heading("discount") == r"\shortstack[r]{discount\\$\gamma$}"
    assert heading("discount").__html__() == "discount <i>γ</i>"
    assert heading("x", "a_b <i>").__html__() == "a_b &lt;i&gt;"
    assert heading("x", "a_b") == r"\shortstack[r]{a\_b}"
    assert symbol("seeds") == ""
    assert all(symbol(key).isascii() for key in SYMBOLS)  # LaTeX knows every letter
    assert latex.escape(symbol("kl_budget")) == r"$\varepsilon$"
