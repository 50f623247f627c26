"""Importing published curves: every layout and spelling of the release format, and its trap."""

import os
import pickle
import re
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.helpers import fake_results
from trqam import __main__ as command_line
from trqam.config import load as configuration
from trqam.config.errors import UserError
from trqam.config.load import tasks_of
from trqam.config.reading import read_json, sha256
from trqam.experiment import provenance
from trqam.experiment.files import write_json
from trqam.report import latex, tables
from trqam.report.collected import Collected, read_reported
from trqam.report.imported import COLUMNS, load, protocols
from trqam.report.importing import described, import_curves
from trqam.report.selection import PAPER
from trqam.report.statistics import round_half_up
from trqam.report.tables import imported as imported_table

CUBE = "cube-triple-play"


@pytest.fixture(scope="module")
def config():
    return configuration.load("config/config.yaml")


@pytest.fixture
def imported(config, tmp_path):
    """Writes ``curves`` as a pickle and imports it: the record and the table."""

    def run(curves, name="authors", **options):
        path = tmp_path / "curves.pkl"
        path.write_bytes(pickle.dumps(curves))
        record = import_curves(config, path, name, folder=tmp_path / "imported", **options)
        return record, load(tmp_path / "imported")

    return run


def curve(rows=30, seeds=12, highest=100.0, seed=0):
    """Whole numbers up to and including ``highest``."""
    values = np.random.default_rng(seed).integers(0, 101, (rows, seeds)) * highest / 100
    values[0, 0] = highest
    return values


@pytest.mark.parametrize(("rows", "seeds", "first"), [(30, 12, 50_000), (31, 8, 0)])
def test_layouts_of_the_format(imported, rows, seeds, first):
    values = curve(rows, seeds)
    record, table = imported({(CUBE, "TRQAM"): values})
    assert list(table) == [*COLUMNS, "protocol"]
    assert record["steps"] == {"every": 50_000, "offline": 1_000_000}
    assert record["grids"] == {str(rows): [first, 1_500_000]}
    assert record["shapes"] == {f"{rows} x {seeds}": 1}
    found = table.pivot_table(index="total_step", columns="seed", values="success")
    np.testing.assert_allclose(100 * found.to_numpy(), values, rtol=0, atol=1e-12)
    assert list(found.index) == list(range(first, 1_500_001, 50_000))
    ends = table.groupby("stage").step.agg(["min", "max"])
    assert ends.loc["offline"].tolist() == [first, 1_000_000]
    assert ends.loc["online"].tolist() == [50_000, 500_000]
    assert (table.total_step == table.step + 1_000_000 * (table.stage == "online")).all()
    assert set(table.status) == {"OK"}
    assert set(table.source) == {"authors"}


def test_a_method_of_another_grid_is_left_out_by_name(imported):
    """As the authors' release has it: of 1,037 arrays 61, all of one method, have ten rows."""
    tasks = [*tasks_of(CUBE), CUBE, "all"]
    curves = {(task, method): curve(seeds=4) for task in tasks for method in ("QAM", "TRQAM")}
    curves |= {(task, "RLPD"): curve(10, 4) for task in tasks}
    curves |= {(CUBE, "MEAN"): np.zeros(30), (CUBE, "SQAM"): curve(31, 8), (CUBE, "FQL"): curve(30, 3)}
    curves |= {("scene", "FQL"): curve(30, 2), ("scene", "DSRL"): curve(29, 2), ("scene-play", "MEAN"): curve()}
    record, table = imported(curves)
    assert set(table.method) == {"qam", "trqam", "sqam"}
    assert list(record["left_out"]) == ["RLPD", "MEAN", "FQL", "DSRL"]
    lines = [line for line in described(record) if line.startswith("left out: ")]
    assert lines[0].startswith("left out: 'RLPD': 10 rows (evaluations), where the format has 30 or 31; put curves")
    assert "shape (30,)" in lines[1]
    assert "2 seeds where the method has 3" in lines[2]
    assert record["grids"] == {"30": [50_000, 1_500_000], "31": [0, 1_500_000]}
    assert table[table.method == "sqam"].total_step.min() == 0
    assert table[table.method == "qam"].total_step.min() == 50_000
    assert "steps 0 to 1500000 or 50000 to 1500000" in described(record)[1]


def test_given_steps_are_those_of_most_arrays(imported):
    curves = {(task, "QAM"): curve(16, 2) for task in tasks_of(CUBE)} | {(CUBE, "RLPD"): curve(10, 2)}
    record, table = imported(curves, first=0, every=100_000)
    assert set(table.method) == {"qam"}
    assert sorted(set(table.total_step)) == list(range(0, 1_500_001, 100_000))
    assert table[table.stage == "offline"].step.max() == 1_000_000
    assert record["left_out"]["RLPD"].startswith("10 rows (evaluations), where most arrays have 16; ")
    for wrong in ({"every": 0}, {"first": -1}):
        with pytest.raises(UserError, match="--every must be positive"):
            imported({(CUBE, "TRQAM"): curve()}, force=True, **wrong)


@pytest.mark.parametrize(("highest", "unit"), [(100.0, "per cent"), (1.0, "a fraction"), (1.6, "per cent")])
def test_the_unit_is_found_and_said(imported, highest, unit):
    values = curve(highest=highest)
    record, table = imported({(CUBE, "TRQAM"): values, (CUBE, "QAM"): 0 * values})
    assert record["unit"] == unit
    assert f"read as {unit}" in described(record)[1]
    scale = 100 if unit == "per cent" else 1
    assert table.success.max() == pytest.approx(highest / scale)
    assert table[table.method == "qam"].success.eq(0).all()


FRACTIONS, PER_CENT = np.linspace(0.05, 0.8, 60).reshape(30, 2), np.linspace(5, 80, 60).reshape(30, 2)
TASKS = tasks_of(CUBE)


@pytest.mark.parametrize(
    "curves",
    [
        {(CUBE, "QAM"): PER_CENT, (CUBE, "TRQAM"): FRACTIONS},
        {(CUBE, "QAM"): PER_CENT.astype(int), (CUBE, "TRQAM"): FRACTIONS},
        {(CUBE, "QAM"): PER_CENT, ("scene-play", "QAM"): FRACTIONS},
        {(CUBE, "QAM"): PER_CENT, ("all", "QAM"): FRACTIONS},
        {**{(task, "QAM"): PER_CENT for task in TASKS[:4]}, (TASKS[4], "QAM"): FRACTIONS},
        {**{(task, "QAM"): FRACTIONS for task in TASKS}, (CUBE, "QAM"): PER_CENT},
    ],
)
def test_two_units_in_a_file_are_refused(imported, curves):
    with pytest.raises(
        UserError, match=r"is in per cent, up to 80, and .* seems to be a fraction, up to 0.8; multiply that one by 100"
    ):
        imported(curves)
    imported({key: 100 * values if values is FRACTIONS else values for key, values in curves.items()})


def test_a_weak_method_in_per_cent_is_one(imported):
    """Two per cent in one evaluation of one task of five are 0.4 of the domain."""
    weak = np.zeros((30, 2))
    weak[7, 1] = 2
    curves = {(task, "QAM"): 0 * weak for task in TASKS} | {(TASKS[0], "QAM"): weak, (CUBE, "QAM"): weak / 5}
    curves |= {("all", "QAM"): weak / 20, (CUBE, "TRQAM"): PER_CENT}
    record, table = imported(curves)
    assert record["unit"] == "per cent"
    assert table[(table.domain == CUBE) & (table.task == "") & (table.method == "qam")].success.max() == 0.004
    with pytest.raises(UserError, match="seems to be a fraction"):
        imported({(CUBE, "QAM"): weak / 5, (CUBE, "TRQAM"): PER_CENT}, name="b")
    record, table = imported({(CUBE, "QAM"): weak / 5, (CUBE, "TRQAM"): PER_CENT}, name="b", unit="per-cent")
    assert table[(table.source == "b") & (table.method == "qam")].success.max() == 0.004


def test_whole_and_single_precision_numbers_are_the_decimals_that_were_meant(imported):
    values = curve(seeds=2)
    record, table = imported({(CUBE, "QAM"): values.astype("i2"), (CUBE, "TRQAM"): values})
    assert record["unit"] == "per cent"
    one, other = (table[table.method == name].success.to_numpy() for name in ("qam", "trqam"))
    np.testing.assert_array_equal(one, other)
    _, table = imported({(CUBE, "QAM"): np.ones((30, 2), int)}, name="b", unit="per-cent")
    assert table[table.source == "b"].success.eq(0.01).all()
    _, table = imported({(CUBE, "QAM"): np.full((30, 1), 0.445, "f4")}, name="c")
    assert set(table[table.source == "c"].success) == {0.445}
    with pytest.raises(UserError, match="5 is no success as a fraction"):
        imported({(CUBE, "QAM"): np.full((30, 2), 5.0)}, name="d", unit="fraction")


def test_nan_is_not_evaluated_and_stays_so(imported):
    values = curve()
    values[5, 6] = np.nan
    record, table = imported({(CUBE, "TRQAM"): values})
    lost = table[table.success.isna()]
    assert lost[["seed", "total_step"]].to_numpy().tolist() == [[6, 300_000]]
    assert record["not_evaluated"] == 1
    assert "values that are nan, and count as not evaluated: 1" in described(record)[-1]
    record, table = imported({(CUBE, "TRQAM"): np.full((30, 2), np.nan)}, force=True)
    assert len(table) == 60
    assert table.success.isna().all()


def test_names_become_the_configuration_s(imported):
    values = curve(seeds=2)
    spelt = {
        "cube-triple-play-singletask-task2-v0": ("cube-triple-play-singletask-task2-v0", CUBE),
        "cube-triple-play-singletask-task3": ("cube-triple-play-singletask-task3-v0", CUBE),
        "cube-triple task 4": ("cube-triple-play-singletask-task4-v0", CUBE),
        CUBE: ("", CUBE),
        "cube-double": ("", "cube-double-play"),
        "Scene": ("", "scene-play"),
        "puzzle-3x3-play-v0": ("", "puzzle-3x3-play"),
        "all": ("", "all"),
        "antsoccer-arena-navigate": ("", "antsoccer-arena-navigate"),
        "antsoccer-arena-navigate-singletask-task1-v0": (
            "antsoccer-arena-navigate-singletask-task1-v0",
            "antsoccer-arena-navigate",
        ),
        "cube-triple-play-singletask-v0": ("cube-triple-play-singletask-v0", CUBE),  # OGBench's default task
    }
    record, table = imported({(name, "QAM"): values for name in spelt})
    pairs = table[["task", "domain"]].drop_duplicates()
    assert [tuple(row) for row in pairs.to_numpy()] == list(spelt.values())
    unknown = [name for name in spelt if name.startswith("antsoccer") or name.endswith("singletask-v0")]
    assert record["unknown"] == unknown
    assert any("kept as they stand: 'antsoccer-arena-navigate'" in line for line in described(record))


def test_methods_become_the_configuration_s(imported):
    labels = {"FQL": "fql", "CGQL-L": "cgql_l", "QAM-E": "qam_e", "BAM, Basic": "BAM, Basic"}
    record, table = imported({(CUBE, label): curve(seeds=2) for label in labels})
    assert list(dict.fromkeys(table.method)) == list(labels.values())
    assert record["unknown"] == ["BAM, Basic"]
    assert record["methods"] == labels


@pytest.mark.parametrize(
    "key",
    [("QAM", TASKS[0]), ("QAM", CUBE), ("TRQAM", "all"), ("new", "cube-triple"), ("QAM", "x-singletask-task1-v0")],
)
def test_swapped_keys_are_refused(imported, key):
    for others in ({}, {(CUBE, "TRQAM"): curve()}):
        with pytest.raises(UserError, match=r"no such task; the keys look swapped: give \(task or domain, method\)"):
            imported({**others, key: curve()})
    imported({("elsewhere", "QAM"): curve(), (CUBE, "new"): curve(), ("elsewhere", "new"): curve()})


def test_misspelt_names_are_kept_with_the_names_that_were_meant(imported):
    meant = {
        "cube-triple-paly-singletask-task2-v0": "cube-triple-play-singletask-task2-v0",
        "cube-tripel-play": "cube-triple-play",
        "antmaze-larg-navigate": "antmaze-large-navigate",
    }
    others = ("puzzle-4x5-play", "antsoccer-arena-navigate", "cube-triple-play-singletask-task7-v0")
    curves = {(name, "QAM"): curve() for name in (*meant, *others)}
    curves |= {("scene", method): curve() for method in ("TRQMA", "QAM-F", "BAM")}
    record, _ = imported(curves)
    assert record["meant"] == {**meant, "TRQMA": "TRQAM"}
    assert set(record["unknown"]) == {*meant, *others, "TRQMA", "QAM-F", "BAM"}
    warned = [line for line in described(record) if line.startswith("warning: ")]
    assert len(warned) == 4
    assert "'cube-tripel-play': unknown to the configuration; did you mean cube-triple-play? if so, mend" in warned[1]


@pytest.mark.parametrize(
    ("names", "fix"),
    [
        (["cube-doubel-play", "all"], "did you mean cube-double-play?"),
        ([f"cube-trilpe-play-singletask-task{n}-v0" for n in (1, 2)], f"did you mean {TASKS[0]} or {TASKS[1]}?"),
        (["hopper"], "give OGBench's names, such as "),
    ],
)
def test_a_file_of_no_known_task_is_refused_with_the_names_that_were_meant(imported, names, fix):
    with pytest.raises(UserError, match=re.escape(f"'{names[0]}': no task or domain of the file is known; {fix}")):
        imported({(name, "QAM"): curve() for name in names})
    with pytest.raises(UserError, match="'BAM': no task or domain of the file is known; the keys look swapped"):
        imported({("BAM", "cube-doubel-play"): curve()})


def test_the_protocol_is_kept_and_an_older_table_has_none(imported, tmp_path):
    record, table = imported({(CUBE, "QAM"): curve(seeds=1)}, protocol="sparse rewards, 12 seeds")
    assert set(table.protocol) == {"sparse rewards, 12 seeds"}
    assert "protocol: sparse rewards, 12 seeds" in described(record)
    path = tmp_path / "imported" / "authors.json"
    write_json(path, {key: value for key, value in record.items() if key != "protocol"})
    older = load(path.parent)
    assert protocols(older) == {"authors": "protocol not stated"}
    path.unlink()
    pd.testing.assert_frame_equal(load(path.parent), older)
    assert "protocol not stated; say with --protocol" in "\n".join(described({**record, "protocol": ""}))
    for wrong in ("two\nlines", "x" * 201):
        with pytest.raises(UserError, match=r"--protocol .*: not a line; use up to 200 printable characters"):
            imported({(CUBE, "QAM"): curve()}, protocol=wrong, force=True)


def test_what_reads_stored_curves_reads_no_pickle():
    assert "trqam/report/imported.py" in (drawn := provenance.files("trqam.report.figures.curves"))
    assert not {f"trqam/report/{name}.py" for name in ("unpickle", "importing", "naming")} & set(drawn)


def test_many_unknown_names_cost_no_time(imported):
    curves = {(f"{number:04d}" + "cube-triple-play" * 5, f"m{number}"): np.zeros((30, 1)) for number in range(2000)}
    began = time.process_time()
    imported(curves | {(CUBE, "QAM"): curve()})
    assert time.process_time() - began < 20


def test_two_names_of_the_same_are_refused(imported):
    for one, other in (((CUBE, "TRQAM"), ("cube-triple", "TRQAM")), ((CUBE, "QAM-E"), (CUBE, "qam_e"))):
        with pytest.raises(UserError, match=rf"\('{other[0]}', '{other[1]}'\) and .* mean the same; remove one"):
            imported({one: curve(), other: curve()})


@pytest.mark.parametrize(
    ("curves", "match"),
    [
        ({}, "holds no curve"),
        ({(CUBE, "QAM"): np.zeros((30, 0))}, r"shape \(30, 0\)"),
        ({(CUBE, "QAM"): np.zeros((10, 2)), (CUBE, "FQL"): np.zeros((9, 2))}, "10 rows .*, where the format has 30"),
        ({(CUBE, "QAM"): np.zeros((30, 2)), ("all", "QAM"): np.zeros((30, 3))}, "3 seeds where the method has 2"),
        ({(CUBE, ""): np.zeros((30, 2))}, "not a name"),
        ({(CUBE, "\ud800"): np.zeros((30, 2))}, "not a name"),
        ({(CUBE, "QAM"): np.zeros((30, 100_000))}, "more than 2000000 numbers"),
    ],
)
def test_other_content_is_one_line(imported, tmp_path, curves, match):
    with pytest.raises(UserError, match=match) as error:
        imported(curves)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "imported").exists()


def test_a_name_keeps_its_file(imported, tmp_path):
    imported({(CUBE, "QAM"): curve()})
    table = tmp_path / "imported" / "authors.csv"
    before = table.read_bytes()
    imported({(CUBE, "QAM"): curve()})  # the same file again
    assert table.read_bytes() == before
    with pytest.raises(UserError, match=r"authors\.csv: holds the curves of another file; .* or add --force"):
        imported({(CUBE, "QAM"): curve(seed=1)})
    assert table.read_bytes() == before
    record, _ = imported({(CUBE, "QAM"): curve(seed=1)}, force=True)
    assert table.read_bytes() != before
    assert read_json(tmp_path / "imported" / "authors.json") == record
    assert record["sha256"] == sha256(tmp_path / "curves.pkl")
    assert sorted(path.name for path in (tmp_path / "imported").iterdir()) == ["authors.csv", "authors.json"]


def test_what_no_import_wrote_is_not_replaced(imported, tmp_path):
    folder = tmp_path / "imported"
    folder.mkdir()
    table, record = folder / "authors.csv", folder / "authors.json"

    def refused(match):
        before = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
        for force in (False, True):
            with pytest.raises(UserError, match=match):
                imported({(CUBE, "QAM"): curve()}, force=force)
        assert {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()} == before

    table.write_text("my,own\n1,2\n")
    refused(r"authors\.csv: exists and is no table of an import; choose another name, or delete it")
    table.unlink()
    for text in ('{"mine": 1}', "notes", '{"source": "others", "sha256": "0"}'):
        record.write_text(text)
        refused(r"authors\.json: exists and is no record of its import; choose another name, or delete it")
    record.unlink()
    for path in (table, record):
        path.mkdir()
        refused(rf"{path.name}: exists and is no (record of its|table of an) import; choose another name")
        path.rmdir()
        path.symlink_to("nowhere")
        refused(rf"{path.name}: exists and is no")
        path.unlink()
    imported({(CUBE, "QAM"): curve()})
    table.write_text(table.read_text().replace(",OK,1.0,", ",OK,0.5,", 1))  # somebody's change
    with pytest.raises(UserError, match="add --force"):
        imported({(CUBE, "QAM"): curve()})
    imported({(CUBE, "QAM"): curve()}, force=True)


def test_a_full_disk_is_named_and_keeps_what_is_there(imported, tmp_path, small_files):
    imported({(CUBE, "QAM"): curve()})
    table = tmp_path / "imported" / "authors.csv"
    before = table.read_bytes()
    with (
        small_files(3000),
        pytest.raises(UserError, match=r"authors\.csv: cannot be written \(File too large\); make room"),
    ):
        imported({(CUBE, "QAM"): curve(seeds=2, seed=1)}, force=True)
    assert table.read_bytes() == before


def test_only_tables_of_imports_are_read(imported, tmp_path):
    assert list(load(tmp_path / "none")) == [*COLUMNS, "protocol"]
    _, expected = imported({(CUBE, "QAM"): curve()})
    folder = tmp_path / "imported"
    for name in (".DS_Store", "._authors.csv", "authors.csv~", "authors.csv.bak", "authors (copy).csv", "notes.txt"):
        (folder / name).write_text("x")
    (folder / "folder.csv").mkdir()
    os.mkfifo(folder / "pipe.csv")
    for name in ("nowhere", "loop.csv", "/dev/zero"):
        (folder / f"{Path(name).stem}.csv").symlink_to(name)
    pd.testing.assert_frame_equal(load(folder), expected)
    (folder / "authors.sync-conflict.csv").write_bytes((folder / "authors.csv").read_bytes())
    with pytest.raises(UserError, match=r"sync-conflict\.csv: source: holds the curves of 'authors', not of its name"):
        load(folder)


@pytest.mark.parametrize("name", ["a/b", "", ".hidden", "a\nb", "x" * 65, "-x"])
def test_a_source_s_name_is_a_plain_file_name(imported, name):
    with pytest.raises(UserError, match="not a name"):
        imported({(CUBE, "QAM"): curve()}, name=name)


def frame(curves, config, tmp_path, name="authors", **options):
    """``curves`` imported, as the report sees them."""
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "curves.pkl"
    path.write_bytes(pickle.dumps(curves))
    import_curves(config, path, name, folder=tmp_path / "imported", **options)
    return load(tmp_path / "imported")


def with_statistics(mean, std, seeds=12):
    """``seeds`` values between 0 and 100 of exactly this mean and sample standard deviation: one is far off."""
    spread = np.eye(seeds)[0] - 1 / seeds
    return mean + std * spread / spread.std(ddof=1) * (1 if mean < 50 else -1)


def rebuilt(config, curves):
    """The table, as {(block, domain, method): text}."""
    table = imported_table.table(fake_results.collected(config, imported=curves))
    families = [family for family, size in table.groups for _ in range(size)]
    domains = [f"{family}-{head}".removeprefix("-") for family, head in zip(families, table.methods, strict=True)]
    texts = {}
    for number, (_, rows) in enumerate(table.blocks):
        for row in rows:
            texts |= {(number, d, row.label): entry.text for d, entry in zip(domains, row.entries, strict=True)}
    return table, texts


def test_the_published_table_is_rebuilt_from_curves_that_have_its_statistics(config, tmp_path):
    reported = read_reported()
    curves = {}
    for row in reported[reported.domain != "all"].itertuples():
        values = np.random.default_rng(0).uniform(0, 100, (30, 12))
        inwards = 0.4 if row.mean < 50 else -0.4  # 1 ± 5 of 12 seeds would need a negative success
        values[19] = with_statistics(row.mean + inwards, max(row.std - 0.4, 0))  # at step 1 000 000
        curves[row.domain, row.method] = values
    _, texts = rebuilt(config, frame(curves, config, tmp_path))
    for row in reported.itertuples():
        label = config.domains[row.domain].label if row.domain in config.domains else row.domain
        printed = round_half_up(row.mean) + ("" if pd.isna(row.std) else f" ± {round_half_up(row.std)}")
        assert texts[0, label, row.method] == printed
    assert len(reported) > 80


def test_permuted_seeds_of_tasks_do_not_touch_a_domain_s_spread(config, tmp_path):
    rng = np.random.default_rng(0)
    tasks = {task: rng.uniform(0, 100, (30, 12)) for task in tasks_of(CUBE)}
    whole = sum(tasks.values()) / 5
    shuffled = {(task, "TRQAM"): values[:, rng.permutation(12)] for task, values in tasks.items()}
    text = f"{round_half_up(whole[19].mean())} ± {round_half_up(whole[19].std(ddof=1))}"
    by_seed = sum(shuffled.values()) / 5
    assert round_half_up(by_seed[19].std(ddof=1)) != round_half_up(whole[19].std(ddof=1)), "the trap is not set"
    _, texts = rebuilt(config, frame({**shuffled, (CUBE, "TRQAM"): whole}, config, tmp_path))
    assert texts[0, "cube-triple", "TRQAM"] == text
    alone, texts = rebuilt(config, frame(shuffled, config, tmp_path / "tasks"))
    assert texts[0, "cube-triple", "TRQAM"] == round_half_up(whole[19].mean())
    assert alone.blocks[0][1][0].entries[0].marks == ("*",)
    assert "seeds of different tasks cannot be matched" in alone.notes
    assert not any(word in alone.notes for word in ("all:", "Bold", "n=k", "--"))  # nothing that it lacks


def test_the_file_s_own_all_is_what_the_table_prints(config, tmp_path):
    flat = np.ones((30, 4))
    curves = {(task, "QAM-F"): 0.55 * flat for task in tasks_of(CUBE)}
    curves |= {(CUBE, "QAM-F"): 0.55 * flat, ("all", "QAM-F"): 0.454 * flat}
    table, texts = rebuilt(config, frame(curves, config, tmp_path / "one"))
    assert texts[0, "cube-triple", "QAM-F"] == "55 ± 0"
    assert texts[0, "all", "QAM-F"] == texts[1, "all", "QAM-F"] == "45"
    assert "all: the file's own curve of everything." in table.notes
    alone = {("all", "QAM"): 0.455 * flat, ("all", "TRQAM"): 0.5 * flat}  # no domain at all
    table, texts = rebuilt(config, frame(alone, config, tmp_path / "alone"))
    assert (texts[0, "all", "QAM"], texts[0, "all", "TRQAM"]) == ("46", "50")
    assert table.blocks[0][0] == "authors, offline at step 1\u00a0000\u00a0000 (n = 4)"


def test_all_with_another_list_of_methods_says_which_is_which(config, tmp_path):
    flat = np.ones((30, 4))
    lost = 0.5 * flat
    lost[19, 2] = np.nan
    curves = {(domain, method): 0.6 * flat for domain in (CUBE, "scene") for method in ("QAM", "TRQAM")}
    curves |= {("all", "TRQAM"): lost, ("all", "BAM"): 0.3 * flat}
    table, texts = rebuilt(config, frame(curves, config, tmp_path))
    assert table.methods[-1] == "all"
    assert [row.label for row in table.blocks[0][1]] == ["QAM", "TRQAM", "BAM"]
    column = [row.entries[-1] for row in table.blocks[0][1]]
    assert [(entry.text, entry.marks) for entry in column] == [("60", ("†",)), ("50", ("n=3",)), ("30", ())]
    assert texts[0, "scene", "BAM"] == "--"
    note = "all: the file's own curve of everything; †: the mean of the printed means, for the file has none."
    assert note in table.notes


def test_a_domain_that_lacks_a_task_has_no_mean(config, tmp_path):
    some = {(task, "TRQAM"): curve() for task in tasks_of(CUBE)[:4]}
    _, texts = rebuilt(config, frame(some, config, tmp_path))
    assert texts[0, "cube-triple", "TRQAM"] == "--"


def test_the_table_reads_the_last_evaluation_of_each_stage_as_it_was(config, tmp_path):
    values = np.full((31, 8), 10.0)
    values[19:22] = [[20], [44.5], [90]]  # at 950 000, 1 000 000 and 1 050 000
    values[29:] = [[70], [44.4]]
    values[30, 3] = np.nan
    curves = {("cube-double", "TRQAM"): values, ("cube-double", "BAM"): values / 2, ("scene", "TRQAM"): values}
    curves["scene", "BAM"] = np.full((31, 8), np.nan)
    table, texts = rebuilt(config, frame(curves, config, tmp_path))
    assert [title for title, _ in table.blocks] == [
        "authors, offline at step 1\u00a0000\u00a0000 (n = 8)",
        "authors, online at step 500\u00a0000 (n = 8)",
    ]
    assert [row.label for row in table.blocks[1][1]] == ["TRQAM", "BAM"]
    assert table.groups == (("", 1), ("cube", 1), ("", 1))
    assert table.methods == ("scene", "double", "all")
    assert texts[0, "cube-double", "TRQAM"] == "45 ± 0"
    assert texts[0, "cube-double", "BAM"] == "22 ± 0"
    assert texts[1, "cube-double", "TRQAM"] == "44 ± 0"
    assert texts[0, "scene", "BAM"] == texts[0, "all", "BAM"] == "--"
    assert texts[0, "all", "TRQAM"] == "45"
    online = table.blocks[1][1]
    assert online[0].entries[1].marks == ("n=7",)


def test_a_source_a_table_with_its_protocol_and_none_without_sources(config, tmp_path):
    curves = {(CUBE, "TRQAM"): curve()}
    frame(curves, config, tmp_path, "b")
    both = frame({("scene", "BAM"): curve()}, config, tmp_path, "a", protocol="sparse & short")
    table, texts = rebuilt(config, both)
    assert [title.split(",")[0] for title, _ in table.blocks] == ["a", "a", "b", "b"]
    assert [[row.label for row in rows] for _, rows in table.blocks] == [["BAM"], ["BAM"], ["TRQAM"], ["TRQAM"]]
    assert (texts[0, "cube-triple", "BAM"], texts[2, "scene", "TRQAM"]) == ("--", "--")
    assert table.notes.startswith("a, protocol: sparse & short. b, protocol not stated. ")
    collected = fake_results.collected(config, imported=both)
    tables.render("imported", collected, tmp_path / "imported.tex")
    assert (tmp_path / "imported.tex").read_text().count("\\begin{table}") == 2
    assert "a, protocol: sparse \\& short." in (tmp_path / "imported.tex").read_text()
    tables.render("imported", fake_results.collected(config), tmp_path / "none.tex")
    assert not (tmp_path / "none.tex").read_text().strip()


def test_sixteen_methods_are_printed_in_seven_points_or_more(config, tmp_path):
    """As wide as success of two digits with a spread of two is."""
    domains = [domain for domain, about in config.domains.items() if about.in_paper]
    methods = [f"METHOD-{number}" for number in range(16)]
    curves = {(domain, method): curve(seeds=6, seed=n) for domain in domains for n, method in enumerate(methods)}
    imported = frame(curves, config, tmp_path)
    tables.render("imported", fake_results.collected(config, imported=imported), tmp_path / "table.tex")
    preamble = (PAPER / "main.tex").read_text().split(r"\begin{document}")[0]
    preamble = re.sub(r"\\input\{.*facts\}", "", preamble)
    fitted = r"\def\fitted#1{\setbox0\hbox{#1}\typeout{\the\wd0, \the\linewidth, \f@size}}"
    text = rf"{preamble}\makeatletter{fitted}\begin{{document}}\input{{table}}\end{{document}}"
    (tmp_path / "main.tex").write_text(text)
    command = [latex.find_pdflatex(), "-interaction=nonstopmode", "main.tex"]
    said = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True).stdout
    width, line, size = map(float, re.search(r"([0-9.]+)pt, ([0-9.]+)pt, (\d+)", said).groups())
    assert size * min(1, line / width) >= 7
    more = frame({(CUBE, f"METHOD-{number}"): curve(seeds=1) for number in range(21)}, config, tmp_path / "more")
    assert [rebuilt(config, curves)[0].together for curves in (imported, more)] == [2, 1]  # stages a page


def test_collected_results_come_with_what_was_imported(config, imported, tmp_path):
    imported({(CUBE, "TRQAM"): curve()})
    fake_results.write(config, tmp_path)
    found = Collected.load(config, tmp_path, tmp_path / "imported")
    assert set(COLUMNS) - {"source"} <= set(found.metrics)
    assert found.imported.task.eq("").all()
    assert found.imported.domain.eq(CUBE).all()


def test_the_command_says_what_it_read(tmp_path, monkeypatch, capsys):
    (tmp_path / "curves.pkl").write_bytes(pickle.dumps({(CUBE, "TRQAM"): curve(), ("elsewhere", "QAM"): curve()}))
    (tmp_path / "config").symlink_to(Path.cwd() / "config")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", ["trqam", "import", "curves.pkl", "--as", "authors"])
    command_line.main()
    printed = capsys.readouterr().out
    counted = "0 tasks, 2 domains, 2 methods; arrays (evaluations x seeds): 2 of 30 x 12"
    assert f"data/imported/authors.csv: {counted}" in printed
    assert "read as per cent" in printed
    assert "kept as they stand: 'elsewhere'" in printed
    assert len(load(tmp_path / "data" / "imported")) == 720
