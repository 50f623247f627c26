"""What a process inherits and libraries would stumble over: environment variables and standard streams, made fit.

Free of imports beyond the standard library, because `settle` must come before those libraries.
"""

import os
import re
import sys

# One thread a process: two on a busy two-core machine are many times slower, and Snakemake counts a process as a core.
THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


def settle() -> None:
    """Variables that are judged when a library is imported get values that it takes; closed streams lead nowhere."""
    for variable in THREADS:
        if not re.fullmatch(r"[1-9][0-9]{0,2}", os.environ.get(variable, "")):
            os.environ[variable] = "1"
    os.environ["MPLBACKEND"] = "Agg"  # a notebook's is unknown to the matplotlib of another environment
    for variable in [*os.environ]:
        if re.fullmatch("TORCH_LOGS|TQDM_.*|TRQAM_RENDERER", variable):  # unknown words in them end the import
            del os.environ[variable]
    _streams()


def _streams() -> None:
    """Standard streams that are closed are opened to nothing: a file opened later would take the number of one, and
    what a library prints would be written into it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free
        if getattr(sys, name) is None:
            setattr(sys, name, open(number, "w" if number else "r", closefd=False))  # noqa: SIM115 (stays)
        elif number and hasattr(getattr(sys, name), "reconfigure"):
            getattr(sys, name).reconfigure(errors="backslashreplace")  # a path with an umlaut where ASCII is asked for
