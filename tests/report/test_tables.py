"""What the tables say, above all where something is missing, diverged, tied or not ours."""

import msgspec
import pandas as pd
import pytest

from tests.helpers.fake_results import collected, full_config, small_config
from tests.helpers.fake_results import metrics as fake_metrics
from trqam.config.errors import UserError
from trqam.report import tables
from trqam.report.collected import read_reported
from trqam.report.selection import TABLES


def success(config, metrics, every_task=False):
    return tables.make("success_tasks" if every_task else "success", collected(config, metrics))


def with_success(config, values):
    """Metrics whose every evaluation of a method is ``values[method]``."""
    metrics = fake_metrics(config)
    evaluated = metrics.success.notna()
    metrics.loc[evaluated, "success"] = metrics.method.map(values)[evaluated]
    return metrics


def row(table, block, label):
    return next(row for row in table.blocks[block][1] if row.label == label)


def test_best_is_marked_with_its_ties():
    config = small_config()
    table = success(config, with_success(config, {"behaviour_cloning": 0.1, "qam": 0.504, "trqam": 0.5}))
    entries = row(table, 0, "pointmaze-medium").entries
    assert [entry.text for entry in entries] == ["10 ± 0", "50 ± 0", "50 ± 0"]
    assert [entry.best for entry in entries] == [False, True, True]


def test_nothing_is_best_among_equals():
    config = small_config()
    table = success(config, with_success(config, {"behaviour_cloning": 0.0, "qam": 0.0, "trqam": 0.0}))
    assert not any(entry.best for _, rows in table.blocks for row in rows for entry in row.entries)
    assert "Bold" not in " ".join(table.notes)


def test_marks_say_what_a_number_is_not():
    config = small_config()
    metrics = fake_metrics(config)
    metrics.loc[(metrics.method == "qam") & (metrics.seed == 1), "status"] = "DIVERGED"
    metrics = metrics[~((metrics.method == "trqam") & (metrics.seed == 2) & (metrics.stage == "online"))]
    table = success(config, metrics)
    offline, online = (row(table, block, "pointmaze-medium").entries for block in (0, 1))
    assert [entry.marks for entry in offline] == [("‡",), ("†1",), ()]
    assert [entry.marks for entry in online] == [(), ("†1",), ("n=2",)]
    assert online[0].text == "--"
    notes = " ".join(table.notes)
    assert all(text in notes for text in ("evaluation spread", "diverged", "n=k", "--: no result"))


def test_one_seed_has_no_spread():
    config = small_config(seeds=1)
    table = success(config, fake_metrics(config))
    assert not any("±" in entry.text for _, rows in table.blocks for row in rows for entry in row.entries)
    assert "±" not in table.notes[0]
    assert "‡" not in " ".join(table.notes)


def test_published_numbers_stand_only_beside_domains_of_the_paper():
    config = small_config(tasks=["scene-play", "pointmaze-medium-navigate"])
    table = success(config, fake_metrics(config))
    offline = table.blocks[0][1]
    assert [row.label for row in offline] == ["scene", "published", "pointmaze-medium", "all"]
    assert [entry.text for entry in offline[1].entries] == ["--", "64 ± 4", "79 ± 1"]
    assert "published" not in [row.label for row in table.blocks[1][1]]  # nothing is published for the online stage


def test_a_domain_that_the_paper_lacks_gets_no_published_row():
    config = small_config(tasks=["scene-play"])
    scene = msgspec.structs.replace(config.domains["scene-play"], in_paper=False)
    config = msgspec.structs.replace(config, domains={**config.domains, "scene-play": scene})
    assert [row.label for row in success(config, fake_metrics(config)).blocks[0][1]] == ["scene"]


def test_all_is_the_mean_of_printed_means():
    config = small_config(tasks=["scene-play", "cube-double-play"], methods=["trqam"])
    metrics = with_success(config, {"trqam": 0.104})
    metrics.loc[metrics.success.notna() & (metrics.domain == "cube-double-play"), "success"] = 0.114
    assert row(success(config, metrics), 0, "all").entries[0].text == "11"  # of 10 and 11, not of 10.4 and 11.4


def test_single_tasks_are_listed_when_the_scale_lists_them():
    labels = [row.label for row in success(small_config(), fake_metrics(small_config())).blocks[0][1]]
    assert labels == ["pointmaze-medium", "pointmaze-medium task 2", "pointmaze-medium task 1"]
    config = small_config(tasks=["scene-play"])
    assert len(success(config, fake_metrics(config)).blocks[0][1]) == 2
    assert len(success(config, fake_metrics(config), every_task=True).blocks[0][1]) == 5


def test_no_metrics_at_all_is_no_result():
    config = small_config()
    table = success(config, fake_metrics(config).iloc[:0])
    assert {entry.text for _, rows in table.blocks for row in rows for entry in row.entries} == {"--"}


def test_what_runs_on_some_tasks_has_no_entry_elsewhere():
    config = full_config()
    table = success(config, fake_metrics(config))
    assert [group for group, _ in table.groups] == [
        "Pretraining", "Backprop", "Guidance", "Post-processing", "Adjoint matching", "Trust region",
        "Beyond the paper",
    ]  # fmt: skip
    assert table.methods[-1] == "SQAM§"
    domain, ran, lacks = table.blocks[0][1]
    baselines = [table.methods.index(label) for label in ("FQL", "QAM-E", "SQAM§")]
    assert {domain.entries[i].text for i in baselines} == {lacks.entries[i].text for i in baselines} == {"--"}
    assert all(ran.entries[i].value is not None for i in baselines)
    notes = " ".join(table.notes)
    assert "FQL, CGQL-L, DSRL, IFQL, QAM-E and SQAM run on task 2 of pointmaze-medium alone" in notes
    assert "SQAM is beyond the paper; its published numbers are from arXiv 2610.10437" in notes
    assert "beyond the paper" not in " ".join(success(small_config(), fake_metrics(small_config())).notes)


def test_best_is_marked_among_those_present():
    config = full_config()
    values = {method: 0.1 for method in config.compared} | {"qam": 0.3, "fql": 0.9}
    domain, ran, _ = success(config, with_success(config, values)).blocks[0][1]
    labels = success(config, fake_metrics(config)).methods
    assert [labels[i] for i, entry in enumerate(domain.entries) if entry.best] == ["QAM"]
    assert [labels[i] for i, entry in enumerate(ran.entries) if entry.best] == ["FQL"]


def test_what_others_report_stands_by_protocol_and_unranked(tmp_path):
    results = collected(small_config())
    made = tables.make("context", results)
    heads = [place for place, row in enumerate(made.rows) if len(row) == 1]
    groups = [made.rows[first + 1 : last] for first, last in zip(heads, [*heads[1:], None], strict=True)]
    found = [{(row[0], row[3]): row[1] for row in group} for group in groups]
    everywhere = "50 tasks, offline"
    assert [group.get(("QAM", everywhere)) for group in found] == ["44", "35", None]
    assert found[1][("SQAM", everywhere)] == "75"  # of paper/reported.csv, where it stands once
    assert found[2][("QAM", "humanoidmaze-medium task 1, offline")] == "27.5 ± 26"
    assert "never ranked together" in made.caption
    assert "missing is not zero" in made.caption
    tables.render("context", results, tmp_path / "context.tex")
    text = (tmp_path / "context.tex").read_text()
    assert text.count(r"\multicolumn{5}{l}{\textbf{") == len(heads) == 3
    assert text.count(r"\textbf") == 3  # of the heads: no number is marked


def test_every_table_renders_and_labels_stay_text(tmp_path):
    config = small_config()
    method = msgspec.structs.replace(config.methods["qam"], label=r"a_b & 50% \input{x}")
    config = msgspec.structs.replace(config, methods={**config.methods, "qam": method})
    for name in TABLES:
        tables.render(name, collected(config), tmp_path / f"{name}.tex")
    text = (tmp_path / "success.tex").read_text()
    assert r"a\_b\\\&\\50\%\\\textbackslash{}input\{x\}" in text  # a heading has a word a line
    assert r"\input{" not in text


def test_mistakes_are_one_line(tmp_path):
    config = small_config()
    with pytest.raises(UserError, match="unknown table 'sucess'; use one of success"):
        tables.render("sucess", collected(config), tmp_path / "x.tex")
    with pytest.raises(UserError, match=r"none\.csv: cannot be read"):
        read_reported(tmp_path / "none.csv")
    pd.DataFrame({"domain": []}).to_csv(tmp_path / "less.csv")
    with pytest.raises(UserError, match="column missing"):
        read_reported(tmp_path / "less.csv")


def test_every_table_of_results_says_that_its_data_are_generated():
    for source, said in (("generated", True), ("official", False)):
        config = small_config(data_source=source)
        found = collected(config)
        captions = [tables.make(name, found).caption for name in ("claims", "aggregates", "improvement")]
        for text in [*captions, " ".join(success(config, found.metrics).notes)]:
            assert ("Data: generated here, not OGBench's release." in text) == said
