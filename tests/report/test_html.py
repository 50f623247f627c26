"""The page: whole, escaped, and in a real browser sorted, enlarged, filtered and unfolded as a reader would."""

import json
import re
import shutil
from itertools import pairwise

import msgspec
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tests.helpers import browser, fake_results
from trqam.config.errors import UserError
from trqam.experiment.files import write_json
from trqam.report import html
from trqam.report.claims.judge import VERDICTS
from trqam.report.selection import figure_names
from trqam.report.tables import Row

HOSTILE = r"a_b & 50% <b>bold</b></script><script>throw 'up'</script>"
TASKS = ["scene-play", "cube-double-play", "antmaze-large-navigate", "pointmaze-medium-navigate"]
STRIP = "scene-play-singletask-task1-v0"
WIDTH, HEIGHT = 900, 700  # of a picture
LOST = {"task": STRIP, "method": "trqam", "seed": 1, "stage": "online"}


@pytest.fixture(scope="module")
def collected():
    """Four domains, a baseline on the first alone, a hostile label, a run that diverged, every run's own manifest."""
    config = fake_results.small_config(tasks=TASKS, baselines=["fql"], baseline_tasks=TASKS[:1], seeds=2)
    hostile = msgspec.structs.replace(config.methods["behaviour_cloning"], label=HOSTILE)
    config = msgspec.structs.replace(config, methods={**config.methods, "behaviour_cloning": hostile})
    metrics = fake_results.metrics(config)
    runs = fake_results.runs(metrics)
    runs["digest"] = [config.run(row.task, row.method).digest(row.stage) for row in runs.itertuples()]
    runs["wall_time_s"] = [61.5 * (number + 1) for number in runs.index]
    runs.loc[(runs[list(LOST)] == list(LOST.values())).all(axis=1), "status"] = "DIVERGED"
    resolved = {
        config.run(task, method).digest(stage): config.run(task, method).resolved(stage)
        for task, method in config.cells
        for stage in config.stages(method)
    }
    manifests = {**fake_results.manifests(), "configurations": resolved}
    return fake_results.collected(config, metrics, runs=runs, manifests=manifests)


@pytest.fixture(scope="module")
def page(collected, tmp_path_factory):
    """The page of invented results, whose figures are grey."""
    folder = tmp_path_factory.mktemp("page")
    for name in ("figures", "rollouts"):
        (folder / name).mkdir()
    for name in ("toy", *figure_names(collected.config), "theory"):
        Image.new("L", (WIDTH, HEIGHT), 200).save(folder / "figures" / f"{name}.png")
    Image.new("L", (WIDTH, HEIGHT), 100).save(folder / "rollouts" / f"{STRIP}.png")
    for task, rendered in ((STRIP, True), ("cube-double-play-singletask-task1-v0", False)):
        record = {
            "task": task,
            "rendered": rendered,
            "caption": f"Caption of {task}.",
            "text": "TRQAM: success after 9 steps",
        }
        write_json(folder / "rollouts" / f"{task}.json", record)
    for name, text in (("theory", "What the theory says."), ("toy", "The idea.")):
        (folder / f"{name}.txt").write_text(text)
    html.render(collected, folder, folder / "report.html")
    return folder / "report.html"


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    if browser.find() is None:
        pytest.skip(f"no browser on PATH, of {', '.join(browser.NAMES)}")
    with browser.Browser(tmp_path_factory.mktemp("browser")) as opened:
        yield opened


@pytest.fixture
def opened(chromium, page):
    """The page, freshly loaded in a window of a desk."""
    chromium.size(1280, 900)
    chromium.open(page)
    yield chromium
    assert chromium.errors == []


def texts(opened, selector):
    return opened.run(f"[...document.querySelectorAll({json.dumps(selector)})].map(e => e.textContent.trim())")


def test_page_is_self_contained_and_escaped(page, collected):
    text = page.read_text()
    assert "http" not in text
    assert not re.search(r"""(src|href)=["'](?!data:|#)""", text)
    assert (
        text.count("data:image/png;base64,") == len(figure_names(collected.config)) + 3
    )  # the idea, the theory and one strip
    assert "<b>bold" not in text
    assert "a_b &amp; 50%" in text
    assert "is not at the paper&#39;s scale" in text
    assert "No method was tuned" in text
    assert "start from one cloned policy" in text
    assert "PyTorch 2.13.0" in text
    assert "Data generated here, not OGBench's release" in text
    assert "Of our choosing: greatest distance below the budget: 20 %; " in text
    assert "as the paper&#39;s Table 1 computes it" in text
    assert ">Ours<" not in text
    numbered = re.findall(r'<figure id="(.*?)">.*?<b>Figure (\d+)\.</b>', text, re.DOTALL)
    assert numbered == [(name, str(n)) for n, name in enumerate(("toy", "theory", *figure_names(collected.config)), 1)]


def test_a_caption_that_is_missing_or_no_text_is_one_line(page, collected, tmp_path):
    folder = shutil.copytree(page.parent, tmp_path / "page")
    (folder / "theory.txt").write_bytes(b"\xff")
    with pytest.raises(UserError, match=r"theory\.txt: damaged; delete it and run `trqam render theory`"):
        html.render(collected, folder, folder / "report.html")
    (folder / "toy.txt").unlink()
    with pytest.raises(UserError, match=r"toy\.txt: .*; run `trqam render toy`"):
        html.render(collected, folder, folder / "report.html")


def test_rows_that_belong_together_move_together():
    rows = [Row(kind, kind, ()) for kind in ("domain", "published", "task", "task", "domain", "all", "published")]
    assert [[row.kind for row in unit] for unit in html.units(rows)] == [
        ["domain", "published", "task", "task"], ["domain"], ["all", "published"],
    ]  # fmt: skip
    assert [len(unit) for unit in html.units([Row("a", "task", ()), Row("b", "task", ())])] == [1, 1]


plain = st.one_of(st.none(), st.booleans(), st.integers(-2, 2), st.floats(0, 1), st.sampled_from(["", "a", "1"]))


@given(st.lists(st.dictionaries(st.sampled_from("abc"), plain)))
def test_packing_loses_nothing(records):
    packed = json.loads(json.dumps(html.packed(records)))
    unpacked = [
        {key: column["values"][column["at"][i]] for key, column in packed["columns"].items() if column["at"][i] >= 0}
        for i in range(packed["length"])
    ]
    assert [json.dumps(record, sort_keys=True) for record in unpacked] == [
        json.dumps(record, sort_keys=True) for record in records
    ]


def test_thousands_of_runs_stay_small():
    """As many as the paper's grid has, each cell with a configuration of its own."""
    config = fake_results.paper_config()
    cells = [(task, method, stage) for task, method in config.cells for stage in config.stages(method)]
    cells = pd.DataFrame(cells, columns=["task", "method", "stage"])
    cells["digest"] = [f"{number:016x}" for number in cells.index]
    frame = cells.merge(pd.DataFrame({"seed": range(config.scale.seeds)}), how="cross")
    runs = fake_results.runs(frame).assign(digest=frame.digest, wall_time_s=frame.index * 1.7)
    shared = config.run(config.tasks[0], "trqam").resolved("online")
    resolved = {row.digest: {**shared, "task": row.task, "method": row.method} for row in cells.itertuples()}
    manifests = {**fake_results.manifests(), "configurations": resolved}
    found = html.run_list(fake_results.collected(config, frame, runs=runs, manifests=manifests))
    assert found["runs"]["length"] > 6000
    assert len(json.dumps(found)) < 1_000_000


def test_page_opens_alone_with_the_claims_first(opened, page):
    assert {url for url in opened.requests if not url.startswith("data:")} == {page.resolve().as_uri()}
    assert opened.run("document.querySelector('main h2').textContent") == "Claims and verdicts"
    verdicts = texts(opened, "#claims td.badge")
    assert len(verdicts) == 9
    assert set(verdicts) <= set(VERDICTS)
    tally = {text.split(" ", 1)[1]: int(text.split()[0]) for text in texts(opened, ".tally li")}
    assert tally == {verdict: verdicts.count(verdict) for verdict in VERDICTS}
    assert opened.run("typeof bold") == "undefined"
    assert HOSTILE in texts(opened, "table.success th button")


SUCCESS = "table.success"
NUMBER = re.compile(r"-?\d+")


def heading(column):
    return f"{SUCCESS} thead tr:last-child th:nth-child({column + 1})"


def offline(opened, column):
    """(class, label, text in ``column``) of each row of the first block."""
    rows = opened.run(f"""[...document.querySelector("{SUCCESS}").tBodies].flatMap(body => [...body.rows])
        .map(row => [row.className, row.cells[0].textContent, row.cells[{column}]?.textContent ?? ""])""")
    first, second = (number for number, row in enumerate(rows) if row[0] == "block")
    return rows[first + 1 : second]


def domains(rows):
    return [row for row in rows if row[0] == "domain"]


def values(rows):
    return [int(NUMBER.match(row[2]).group()) for row in rows if row[2] != "--"]


@pytest.mark.parametrize("press", ["click", "Enter", " "])
def test_header_sorts_by_number_and_keeps_published_rows_with_their_domain(opened, press):
    trqam = texts(opened, f"{SUCCESS} thead tr:last-child th").index("TRQAM")

    def sort(way):
        if press == "click":
            opened.click(f"{heading(trqam)} button")
        else:
            opened.run(f"document.querySelector('{heading(trqam)} button').focus()")
            opened.press(press)
        assert opened.run(f"document.querySelector('{heading(trqam)}').getAttribute('aria-sort')") == way
        return offline(opened, trqam)

    before = offline(opened, trqam)
    rising, falling, again = sort("ascending"), sort("descending"), sort(None)
    assert values(domains(rising)) == sorted(values(domains(before)))
    assert values(domains(falling)) == sorted(values(domains(before)), reverse=True)
    assert again == before
    assert domains(rising) != domains(before), "an order that shows nothing"
    published = {row[1]: after for row, after in pairwise(before) if after[0] == "published"}
    assert len(published) == 3
    for order in (rising, falling):
        follows = {row[1]: after for row, after in pairwise(order) if after[0] == "published"}
        assert follows == published
        assert order[-1][0] == "all"


def test_what_is_missing_sorts_last_either_way(opened):
    fql = texts(opened, f"{SUCCESS} thead tr:last-child th").index("FQL")
    for _ in range(2):
        opened.click(f"{heading(fql)} button")
        assert [row[2] == "--" for row in domains(offline(opened, fql))] == [False, True, True, True]


def test_a_plain_table_sorts_and_its_sum_stays_last(opened):
    before = texts(opened, "#compute tbody td:nth-child(2)")
    opened.click("#compute thead th:nth-child(2) button")
    found = texts(opened, "#compute tbody td:nth-child(2)")
    assert values([("", "", text) for text in found[:-1]]) == sorted(values([("", "", text) for text in before[:-1]]))
    assert found[-1] == before[-1]
    assert texts(opened, "#compute tbody td:first-child")[-1] == "all"


def test_whose_numbers_there_are_has_a_section_whose_rows_stay_with_their_place(opened):
    def rows():
        return [text.split(":")[0] for text in texts(opened, "#others tbody td:first-child")]

    before = rows()
    at = before.index("scene")
    assert before[at + 1 : at + 3] == ["the paper prints", "others"]
    opened.click("#others thead tr:last-child th:nth-child(3) button")
    assert rows() != before, "an order that shows nothing"
    at = rows().index("scene")
    assert rows()[at + 1 : at + 3] == ["the paper prints", "others"]


def test_single_tasks_sort_by_themselves(opened):
    table = f"{SUCCESS}:has(tr.task)"
    opened.click(f"{table} thead tr:last-child th:last-child button")
    found = texts(opened, f"{table} tr.task td:last-child")
    assert len(found) == 40  # twenty tasks, twice
    assert values([("", "", text) for text in found[:20]]) == sorted(values([("", "", text) for text in found[:20]]))


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("45 ± 12", 45), ("--", None), ("", None), ("1\u00a0000\u00a0000", 1e6), ("0.5*", 0.5), ("-3", -3),
        ("1e-05", 1e-5), ("puzzle-3x3", "puzzle-3x3"), ("3x3", "3x3"), ("87†1", 87), ("21 points [18, 24]", 21),
    ],
)  # fmt: skip
def test_a_cell_sorts_by_the_number_that_it_starts_with(opened, text, key):
    assert opened.run(f"key({json.dumps(text)})") == key


def test_numbers_sort_as_numbers_and_names_as_names(opened):
    cells = ["10", "-5", "task 10", "9", "--", "0.25", "task 9", "-12"]
    for sign, expected in ((1, [-12, -5, 0.25, 9, 10]), (-1, [10, 9, 0.25, -5, -12])):
        script = f"{json.dumps(cells)}.map(key).filter(k => typeof k != 'string').sort((a, b) => compare(a, b, {sign}))"
        assert opened.run(script) == [*expected, None]
    assert opened.run("compare('task 9', 'task 10', 1)") < 0


def test_a_figure_opens_at_its_own_size_and_closes(opened):
    opened.size(600, 800)
    width = "document.querySelector('#overall_bars img').getBoundingClientRect().width"
    assert opened.run(width) < 600
    opened.click("#overall_bars summary")
    assert opened.run(width) == WIDTH
    assert opened.run("document.documentElement.scrollWidth") == 600
    opened.run("document.querySelector('#overall_bars summary').focus()")
    opened.press("Enter")
    assert opened.run(width) < 600


def test_runs_are_listed_and_sorted_by_time_with_their_manifests(opened, collected):
    total = len(collected.runs)
    assert len(texts(opened, "#run-table tbody tr")) == total
    assert texts(opened, "#run-table td.DIVERGED") == ["DIVERGED"]
    opened.click("#run-table summary")
    for first in (61.5, 61.5 * total):
        opened.click("#run-table th:nth-child(6) button")
        assert texts(opened, "#run-table td:nth-child(6)")[0] == opened.run(f"duration({first})")
        assert texts(opened, "#run-table tr:has(+ tr.opened) td:nth-child(6)") == ["1 min"]


def unfold(opened):
    """Opens the run `LOST`."""
    cells = f"[{', '.join(json.dumps(str(LOST[key])) for key in ('seed', 'stage'))}, 'DIVERGED']"
    opened.run(f"""[...document.querySelectorAll("#run-table tbody")].find(body =>
        [2, 3, 4].every((column, at) => body.rows[0].cells[column].textContent === {cells}[at])).id = "lost" """)
    opened.click("#lost summary")


def test_a_run_unfolds_to_its_manifest_and_its_command(opened, collected):
    unfold(opened)
    (found,) = texts(opened, "#run-table td.details")
    run = collected.config.run(STRIP, "trqam")
    assert run.digest("online") in found
    assert "abcdef1234567890" in found  # the commit
    assert texts(opened, "td.details code.command") == [
        f"snakemake results/small/{STRIP}/trqam/seed1/online.csv",
        f"python -m trqam train {STRIP} trqam --stage online --seeds 0 1",
    ]
    pairs = dict(zip(texts(opened, "td.details dt"), texts(opened, "td.details dd"), strict=True))
    assert pairs["dual rate"] == str(run.parameters["dual_rate"])
    assert pairs["online steps"] == str(run.online_steps)
    assert pairs["torch"] == "2.13.0"
    opened.click("#lost summary")
    assert texts(opened, "#run-table td.details") == []


@pytest.mark.parametrize(
    ("seconds", "text"),
    [("null", "--"), (4.24, "4.2 s"), (59, "59 s"), (61.5, "1 min"), (3599, "1 h 0 min"), (200_000, "2 d 7 h")],
)
def test_time_is_for_people(opened, seconds, text):
    assert opened.run(f"duration({seconds})") == text


def test_rollouts_are_shown_or_said_to_be_missing(opened):
    assert f"Caption of {STRIP}. TRQAM: success after 9 steps." in texts(opened, "#policies figcaption")
    assert texts(opened, "#policies section > p, #policies > p") == [
        "Caption of cube-double-play-singletask-task1-v0. TRQAM: success after 9 steps."
    ]


@pytest.mark.parametrize("width", [400, 800, 1280])
def test_nothing_sticks_out_sideways(opened, width):
    opened.size(width, 800)
    unfold(opened)
    opened.run("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert opened.run("document.documentElement.scrollWidth") == width
