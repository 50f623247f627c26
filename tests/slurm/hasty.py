"""snakemake that asks SLURM every three seconds: its executor waits ten seconds longer after each answer without news.

Nothing else of it differs; the snakemakes inside jobs are the ordinary ones.
"""

import sys

from snakemake.cli import main
from snakemake_executor_plugin_slurm import Executor

Executor.next_seconds_between_status_checks = property(lambda executor: 3, lambda executor, seconds: None)

if __name__ == "__main__":
    sys.exit(main())
