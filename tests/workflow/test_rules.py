"""Minutes of the jobs that Snakemake ran."""

import base64
import json

from benchmarks import rules


def test_a_job_counts_once_however_many_outputs_it_has(tmp_path):
    def note(output, rule, job, start, end):
        path = tmp_path / ".snakemake/metadata" / base64.urlsafe_b64encode(output.encode()).decode()
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"rule": rule, "job_hash": job, "starttime": start, "endtime": end}))

    for seed, begin in ((0, 0.0), (1, 0.5)):
        note(f"results/small/task/trqam/seed{seed}/offline.csv", "offline_seeds_0to1", 1, begin, 120.0)
    note("results/small/task/trqam/seed0/online.csv", "online_seeds_0to1", 2, 120.0, 150.0)
    note("results/small/paper/tables/success.tex", "table_success", 3, 150.0, 153.0)
    note("results/small/paper/tables/claims.tex", "table_claims", 4, 151.0, 154.0)
    assert rules.jobs(tmp_path) == {
        "offline: trqam": [(0.0, 120.0)], "online: trqam": [(120.0, 150.0)], "tables": [(150.0, 153.0), (151.0, 154.0)],
    }  # fmt: skip
    lines = [
        [cell.strip() for cell in line.split("|")[1:-1]] for line in rules.table([tmp_path, tmp_path]).splitlines()
    ]
    assert lines[2:5] == [["offline: trqam"] + ["2.0"] * 2, ["online: trqam"] + ["0.5"] * 2, ["tables"] + ["0.1"] * 2]
    assert [line[1] for line in lines[5:]] == ["**2.6**", "**2.6**"]
