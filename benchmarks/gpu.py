"""A GPU in nine minutes: is it right, how fast is it, does it learn? On a machine that needs only PyTorch and NumPy.

    python -m benchmarks.gpu [--budget 520] [--out gpu.json]        on a GPU, from the root of this repository
    python -m benchmarks.gpu --quick                                anywhere: tiny sizes, seconds

First correctness (captured equal to eager, packed to separate, the device's random numbers and batches to the CPU's),
then timing of TRQAM's update (sizes, replicas, eager, captured and compiled, float32, tf32 and bf16, beside the rate of
large products in the same precision), then a short training from cloning to fine-tuning on data whose answer is known,
then profiles of an update. What the budget has no time for is skipped and named. The short table comes last; the JSON
is saved after every part, so that nothing is lost if the machine is.
"""

import argparse
import gc
import json
import os
import platform
import statistics
import sys
import time
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

from benchmarks import bare

MISSING = bare.install()  # before anything asks for a package that is missing

import torch  # noqa: E402

from benchmarks.gpu_cases import Bench, Stack  # noqa: E402
from benchmarks.gpu_checks import checks, training  # noqa: E402
from benchmarks.gpu_table import PRECISIONS, Row, described, table  # noqa: E402
from trqam.experiment.files import write_json  # noqa: E402
from trqam.networks.capture import WARM_UP  # noqa: E402
from trqam.networks.replicas import device_of  # noqa: E402
from trqam.operations.bench.cases import Products, use_precision  # noqa: E402
from trqam.training.profiling import Profile  # noqa: E402

BUDGET = 520.0  # seconds, of which the last part is given these
FOR_TRAINING = 60.0
COMPILING = 180.0  # seconds that a compilation may take
REPLICAS, FEW = (1, 2, 4, 8, 16, 32), (1, 16)
SECONDS, TURNS = 0.6, 3  # of a case, in so many turns

Case = tuple[str, int, str, str]  # size, replicas, mode, precision


class Session:
    """One run of the script: its clock, and all that it has found."""

    def __init__(self, device: torch.device, quick: bool, budget: float, out: Path):
        self.device, self.quick, self.out = device, quick, out
        self.bench = Bench(device)
        self._began, self._budget = time.monotonic(), budget
        self.found: dict[str, Any] = {"machine": machine(device), "checks": [], "rows": [], "products": {}}
        self.found |= {"training": {}, "profile": [], "skipped": []}

    @property
    def left(self) -> float:
        """Seconds of the budget."""
        return self._budget - (time.monotonic() - self._began)

    def say(self, line: str) -> None:
        """Progress, on stderr."""
        print(f"[{time.monotonic() - self._began:5.0f} s] {line}", file=sys.stderr, flush=True)

    def skip(self, what: str, why: str) -> None:
        """Remembers what was not done."""
        self.say(f"skipped {what}: {why}")
        self.found["skipped"].append(f"{what}: {why}")

    def save(self) -> None:
        """All so far."""
        write_json(self.out, self.found | {"seconds": time.monotonic() - self._began})


def machine(device: torch.device) -> dict[str, Any]:
    """Hardware and versions."""
    told = {"python": platform.python_version(), "torch": torch.__version__, "device": device.type}
    told |= {"cuda": torch.version.cuda, "stand_ins": MISSING, "host_cores": os.cpu_count()}
    if device.type == "cuda":
        properties = torch.cuda.get_device_properties(device)
        told |= {"name": properties.name, "memory_gb": round(properties.total_memory / 1e9, 1)}
        told |= {"capability": list(torch.cuda.get_device_capability(device))}
    return told


def wait(device: torch.device) -> None:
    """Until the device has done what it was told."""
    if device.type == "cuda":
        torch.cuda.synchronize()


def correctness(session: Session) -> None:
    """See `benchmarks.gpu_checks`; one that fails is a result, too."""
    use_precision("float32")
    size, updates = ("tiny", 10) if session.quick else ("small", 100)
    try:
        for check in checks(session.bench, size, updates, "captured"):
            verdict = "ok" if check.passed else "FAILED"
            session.say(f"{verdict}: {check.name}: {check.found:.2g} (at most {check.limit:g})")
            session.found["checks"].append({**check._asdict(), "passed": check.passed})
    except RuntimeError as error:
        session.found["checks"].append({"name": "not finished", "passed": False, "error": reason(error)})
        session.say(f"FAILED: {reason(error)}")
    session.save()


def reason(error: Exception) -> str:
    """Its first line."""
    return f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:200]


def timing(session: Session) -> None:
    """All cases, the most important first, while there is time."""
    for precision in supported(session.device):
        products = Products(session.device.type, precision)
        turn = products(0.2 if session.quick else 1.0)
        session.found["products"][precision] = turn.units / turn.wall
        session.say(f"products in {precision}: {turn.units / turn.wall / 1e12:.3g} TFLOP/s")
    slowest = 1.0
    for case in cases(session):
        needed = COMPILING if case[2] == "compiled" else 4 * slowest
        if session.left - FOR_TRAINING < needed:
            session.skip(" ".join(map(str, case)), "no time")
            continue
        began = time.monotonic()
        try:
            session.found["rows"].append(measure(session, case))
        except RuntimeError as error:  # out of memory, or not supported
            session.skip(" ".join(map(str, case)), reason(error))
        if case[2] != "compiled":
            slowest = max(slowest, time.monotonic() - began)
        session.save()


def supported(device: torch.device) -> tuple[str, ...]:
    """tf32 and bf16 came with compute capability 8."""
    return PRECISIONS if device.type == "cuda" and torch.cuda.get_device_capability(device)[0] >= 8 else ("float32",)


def cases(session: Session) -> list[Case]:
    """In the order of what the targets need."""
    if session.quick:
        return [("tiny", replicas, mode, "float32") for mode in ("captured", "eager") for replicas in (1, 2)]
    precisions = supported(session.device)
    first, rest = precisions[0], precisions[1:]
    found = [(size, r, "captured", first) for size in ("paper", "small") for r in REPLICAS]
    found += [(size, 1, "eager", first) for size in ("paper", "small")]
    found += [(size, r, "captured", "float32") for size in ("paper", "small") for r in REPLICAS]
    found += [(size, r, "captured", p) for p in rest for size in ("paper", "small") for r in FEW]
    found += [(size, 1, "eager", p) for p in rest for size in ("paper", "small")]
    found += [(size, r, "eager", first) for size in ("paper", "small") for r in REPLICAS]
    found += [(size, r, "compiled", first) for size in ("small", "paper") for r in FEW]
    return list(dict.fromkeys(found))


def autocast(device: torch.device, precision: str) -> AbstractContextManager:
    """bf16 products; the weights stay float32."""
    return torch.autocast(device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)


def measure(session: Session, case: Case) -> Row:
    """The median of some turns of updates, each waited for at its end only."""
    size, replicas, mode, precision = case
    device = session.device
    use_precision(precision)
    gc.collect()  # a learner and its step refer to each other, so that the last case's memory waits for this
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    stack = session.bench.stack(size, list(range(replicas)), mode)
    with autocast(device, precision):
        for _ in range(WARM_UP + 2):
            stack.update()
        once = turn(stack, device, 1)
        count = max(1, min(2000, int(SECONDS / TURNS / once)))
        seconds = statistics.median(turn(stack, device, count) for _ in range(TURNS))
    rate = stack.flops / seconds
    row = {"size": size, "replicas": replicas, "mode": mode, "precision": precision, "ms": 1e3 * seconds}
    row |= {"updates_s": 1 / seconds, "replica_updates_s": replicas / seconds, "flops_s": rate}
    row |= {"of_products": rate / session.found["products"][precision]}
    row |= {"peak_gb": torch.cuda.max_memory_reserved() / 1e9 if device.type == "cuda" else None}
    session.say(described(row))
    return row


def turn(stack: Stack, device: torch.device, count: int) -> float:
    """Seconds an update."""
    wait(device)
    began = time.perf_counter()
    for _ in range(count):
        stack.update()
    wait(device)
    return (time.perf_counter() - began) / count


def profile(session: Session) -> None:
    """Where an update's time goes on the device, eager and captured."""
    use_precision("tf32")
    size, steps = ("tiny", 5) if session.quick else ("small", 20)
    for mode in ("eager", "captured"):
        if session.left < FOR_TRAINING:
            session.skip(f"profile, {mode}", "no time")
            continue
        stack = session.bench.stack(size, [0], mode)
        for _ in range(WARM_UP + 2):
            stack.update()
        path = session.out.with_name(f"{session.out.stem}-profile-{mode}.json")
        tracing = Profile(path, f"{size}, {mode}", (stack.step + 1, stack.step + steps), session.device)
        for _ in range(steps):
            tracing.begin_step(stack.step + 1)
            stack.update()
        tracing.close()
        session.found["profile"].append(path.with_suffix(".txt").read_text().splitlines())
    session.save()


def learning(session: Session) -> None:
    """Cloning and fine-tuning; the worst seed, too, has to go half of the way that cloning left."""
    if session.left < FOR_TRAINING / 2:
        return session.skip("training", "no time")
    use_precision("float32")
    quick = session.quick
    size, updates, seeds = ("tiny", 30, [0, 1]) if quick else ("training", 3000, [0, 1, 2, 3])
    began = time.monotonic()
    try:
        found = training(session.bench, size, seeds, updates, "captured")
    except RuntimeError as error:
        return session.skip("training", reason(error))
    found |= {"seconds": time.monotonic() - began, "updates": 2 * updates, "seeds": len(seeds)}
    found["learnt"] = found["tuned_reward_worst"] > found["cloned_reward"] / 2  # half the way to 0, which is perfect
    session.found["training"] = found
    session.save()


def main() -> None:
    """See above."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="tiny sizes, on any machine: that it runs through")
    parser.add_argument("--budget", type=float, default=BUDGET, metavar="SECONDS", help="default: %(default)s")
    parser.add_argument("--out", type=Path, default=Path("gpu.json"), metavar="FILE", help="default: %(default)s")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: a GPU if there is one"
    )
    arguments = parser.parse_args()
    device = device_of(arguments.device)
    quick = arguments.quick or device.type == "cpu"
    session = Session(device, quick, arguments.budget, arguments.out)
    session.say(f"{json.dumps(session.found['machine'])}")
    if quick and not arguments.quick:
        session.say("no GPU: tiny sizes, as --quick")
    for part in (correctness, timing, learning):
        part(session)
    print("\n".join(table(session.found)), file=sys.stderr)  # in case tracing breaks the process
    profile(session)
    print("\n".join(table(session.found)))
    print(f"saved as {session.out}")


if __name__ == "__main__":
    main()
