"""What the tables say, above all where something is missing, diverged, tied or not ours."""

import re

import msgspec
import pandas as pd
import pytest

from tests.helpers.fake_results import TASK, collected, full_config, paper_config, small_config
from tests.helpers.fake_results import metrics as fake_metrics
from trqam.config.errors import UserError
from trqam.report import tables
from trqam.report.collected import read_reported
from trqam.report.selection import TABLES
from trqam.report.tables import compute


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
    assert "Bold" not in table.notes


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
    notes = table.notes
    assert all(text in notes for text in ("evaluation spread", "diverged", "n=k", "--: no result"))


def test_one_seed_has_no_spread():
    config = small_config(seeds=1)
    table = success(config, fake_metrics(config))
    assert not any("±" in entry.text for _, rows in table.blocks for row in rows for entry in row.entries)
    assert "±" not in table.notes
    assert "‡" not in table.notes


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
    notes = table.notes
    assert "FQL, CGQL-L, DSRL, IFQL, QAM-E and SQAM run on task 2 of pointmaze-medium alone" in notes
    assert "SQAM is beyond the paper; its published numbers are from arXiv 2610.10437" in notes
    assert "beyond the paper" not in success(small_config(), fake_metrics(small_config())).notes


def test_best_is_marked_among_those_present():
    config = full_config()
    values = {method: 0.1 for method in config.compared} | {"qam": 0.3, "fql": 0.9}
    domain, ran, _ = success(config, with_success(config, values)).blocks[0][1]
    labels = success(config, fake_metrics(config)).methods
    assert [labels[i] for i, entry in enumerate(domain.entries) if entry.best] == ["QAM"]
    assert [labels[i] for i, entry in enumerate(ran.entries) if entry.best] == ["FQL"]


def rows_of(made, place):
    """Of a place in the first block that has it: by whose the row is, its texts and marks by method."""
    rows = next(rows for _, rows in made.blocks if any(row.label.startswith(place) for row in rows))
    first = next(number for number, row in enumerate(rows) if row.label.startswith(place))
    last = next((n for n, row in enumerate(rows) if n > first and row.kind == "domain"), len(rows))
    labels = [rows[first].label.removeprefix(f"{place}: "), *(row.label for row in rows[first + 1 : last])]
    cells = [
        {m: (e.text, *e.marks) for m, e in zip(made.methods, row.entries, strict=bool(row.entries))}
        for row in rows[first:last]
    ]
    return dict(zip(labels, cells, strict=True))


def test_reported_reproduced_and_re_run_stand_apart_with_the_reason_of_what_is_missing():
    made = tables.make("others", collected(small_config(tasks=["scene-play", TASK])))
    scene, everything, alone = (rows_of(made, place) for place in ("scene", "all 50 tasks", "cube-triple task 2"))
    assert list(scene) == ["this run", "the paper prints", "others: -- (nobody, as far as we know)"]
    assert re.fullmatch(r"\d+ ± \d+", scene["this run"]["TRQAM"][0])
    assert scene["this run"]["FQL"] == ("--", "h")
    assert scene["the paper prints"]["TRQAM"] == ("79 ± 1",)
    assert scene["the paper prints"]["Behaviour cloning"] == ("--", "r")
    assert everything["the paper prints"]["SQAM"] == ("75",)
    assert [everything[f"others, {letter}"]["QAM"] for letter in "AB"] == [("--", "o"), ("44",)]
    assert alone["others, C"]["QAM"] == ("12.5 ± 8.6",)
    assert set(alone["the paper prints"].values()) == {("--", "r")}
    task = rows_of(made, "pointmaze-medium task 2")
    assert list(task) == ["this run", "the paper prints: -- (not reported); others: -- (nobody, as far as we know)"]
    assert not any(entry.best for _, rows in made.blocks for row in rows for entry in row.entries)
    notes = made.notes
    for text in ("The paper prints: TRQAM's protocol", "Others, B: QAM's protocol", "r: not reported", "n = 4"):
        assert text in notes


def test_all_of_the_papers_tasks_are_one_place_and_a_run_that_is_missing_is_not_finished():
    config = paper_config(seeds=2)
    metrics = fake_metrics(config)
    gone = (metrics.method == "qam") & (metrics.domain == "scene-play") & (metrics.stage == "offline")
    results = collected(config, metrics[~gone])
    made, success_table = tables.make("others", results), tables.make("success", results)
    ours = rows_of(made, "all 50 tasks")["this run"]
    printed = [entry.text for entry in row(success_table, 0, "all").entries]
    assert [ours[label.rstrip("§")][0] for label in success_table.methods] == printed
    assert ours["QAM"] == rows_of(made, "scene")["this run"]["QAM"] == ("--", "f")
    absent = [row.label for title, rows in made.blocks for row in rows if title.startswith("Not run here")]
    assert all(label.startswith(("Robomimic", "others")) for label in absent)


def test_imported_curves_are_others_under_their_own_protocol():
    about = {"method": "trqam", "stage": "offline", "status": "OK", "source": "authors", "protocol": "sparse rewards"}
    rows = [
        {
            **about,
            "task": task,
            "domain": "scene-play",
            "seed": seed,
            "step": step,
            "total_step": step,
            "success": value,
        }
        for task in ("", TASK.replace("pointmaze-medium-navigate", "scene-play"))
        for seed, ends in enumerate(((0.1, 0.4), (0.1, 0.6)))
        for step, value in zip((50, 100), ends, strict=True)
    ]
    made = tables.make("others", collected(small_config(tasks=["scene-play"]), imported=pd.DataFrame(rows)))
    assert rows_of(made, "scene")["others, E"]["TRQAM"] == ("50 ± 14",)
    assert "Others, E: protocol: sparse rewards; imported curves, authors." in made.notes


def test_hours_are_counted_once_and_by_stage(tmp_path):
    config = small_config(seeds=2)
    results = collected(config)
    assert compute.core_hours(results).core_hours.sum() == pytest.approx(len(results.runs) * 61.5 / 3600)
    results.manifests["pretrained"] = {"pointmaze-medium-navigate": 7200.0}
    made = {row[0]: row[1:] for row in tables.make("compute", results).rows}
    assert made["Behaviour cloning"] == ("5", "2.000", "0.068", "--", "2.068")  # 4 evaluations of one cloned policy
    assert made["TRQAM"] == ("8", "--", "0.068", "0.068", "0.137")
    assert made["all"] == ("21", "2.000", "0.205", "0.137", "2.342")
    many = tables.make("compute", collected(small_config(seeds=2, env_workers=4, device="auto")))
    assert dict((row[0], row[2]) for row in many.rows)["TRQAM"] == "--"
    said = "counts as 4 cores, by env_workers of today's configuration, that of cloning as 1, and a GPU where there is"
    assert said in many.caption
    assert next(row[3] for row in many.rows if row[0] == "TRQAM") == "0.273"
    compute.write(results, tmp_path / "compute.csv")
    lines = (tmp_path / "compute.csv").read_text().splitlines()
    assert lines[:2] == ["method,stage,runs,core_hours", "behaviour_cloning,pretrain,1,2"]


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
        for text in [*captions, success(config, found.metrics).notes]:
            assert ("Data: generated here, not OGBench's release." in text) == said
