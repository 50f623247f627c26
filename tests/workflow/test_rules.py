"""Minutes of the jobs that Snakemake ran."""

from benchmarks import rules


def test_minutes_are_summed_by_kind_of_job(tmp_path):
    def note(name, seconds):
        path = tmp_path / "benchmarks" / f"{name}.tsv"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"s\th:m:s\tmax_rss\n{seconds}\t0:00:00\t1.5\n")

    task = "pointmaze-medium-navigate-singletask-task2-v0"
    for name, seconds in (
        (f"offline/{task}_trqam_budget_1_seeds0to1", 90), (f"offline/{task}_trqam_budget_1_seeds2to3", 30),
        (f"online/{task}_qam_seeds0to1", 30), ("table/success", 3), ("table/claims", 3), ("pdf", 6),
    ):  # fmt: skip
        note(name, seconds)
    assert rules.minutes(tmp_path) == {"offline: trqam_budget_1": 2, "online: qam": 0.5, "table": 0.1, "pdf": 0.1}
    lines = [[cell.strip() for cell in line.split("|")[1:-1]] for line in rules.table([tmp_path] * 2).splitlines()]
    assert lines[2:4] == [["offline: trqam_budget_1"] + ["2.0"] * 2, ["online: qam"] + ["0.5"] * 2]
    assert lines[-1] == ["**all jobs**"] + ["**2.7**"] * 2
