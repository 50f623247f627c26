"""What `benchmarks.gpu` prints: a line a case, and the targets beside what was found."""

from typing import Any

PRECISIONS = ("tf32", "float32", "bf16")  # the first that was measured is what the targets are judged in

Row = dict[str, Any]


def described(row: Row) -> str:
    """One line of the table."""
    memory = "" if row["peak_gb"] is None else f"{row['peak_gb']:6.2f} GB"
    return (
        f"{row['size']:5} R={row['replicas']:<2} {row['mode']:8} {row['precision']:7} {row['ms']:9.3f} ms "
        f"{row['replica_updates_s']:9.1f} replica-updates/s {row['flops_s'] / 1e12:7.3f} TFLOP/s "
        f"{row['of_products']:6.1%} of products {memory}"
    )


def targets(found: dict[str, Any]) -> list[str]:
    """What is asked for, what was found, and whether that is enough."""
    rows = {(r["size"], r["replicas"], r["mode"], r["precision"]): r for r in found["rows"]}
    best = next((p for p in PRECISIONS if p in found["products"]), "float32")

    def speed(size: str, replicas: int, mode: str) -> float:
        row = rows.get((size, replicas, mode, best))
        return row["replica_updates_s"] if row else float("nan")

    paper = rows.get(("paper", 16, "captured", best), {"of_products": float("nan")})["of_products"]
    wanted = [(f"paper, R=16, captured, {best}: share of the rate of products", paper, 0.3)]
    gain = speed("small", 16, "captured") / speed("small", 1, "captured")
    wanted.append((f"small, captured, {best}: replica-updates/s, R=16 by R=1", gain, 8))
    for size in ("small", "paper"):
        gain = speed(size, 1, "captured") / speed(size, 1, "eager")
        wanted.append((f"{size}, R=1, {best}: captured by eager", gain, 3))
    lines = []
    for name, value, least in wanted:
        verdict = "not measured" if value != value else "met" if value >= least else "NOT MET"
        lines.append(f"{verdict:12} {name}: {value:.3g} (target {least:g})")
    return lines


def table(found: dict[str, Any]) -> list[str]:
    """The short table."""
    told = found["machine"]
    lines = ["", f"{told.get('name', told['device'])}, PyTorch {told['torch']}, CUDA {told['cuda']}"]
    passed = sum(check["passed"] for check in found["checks"])
    lines.append(f"checks: {passed} of {len(found['checks'])} passed")
    lines += [f"  FAILED {check['name']}" for check in found["checks"] if not check["passed"]]
    order = ("size", "precision", "mode", "replicas")
    lines += [described(row) for row in sorted(found["rows"], key=lambda row: [row[key] for key in order])]
    lines += targets(found)
    if trained := found["training"]:
        rewards = f"{trained['cloned_reward']:.4f} cloned, {trained['tuned_reward_worst']:.4f} at worst tuned"
        verdict = "learnt" if trained["learnt"] else "NOT LEARNT"
        kl = f"path KL {trained['path_kl']:.3g} of {trained['kl_budget']:g}"
        lines.append(f"training: reward {rewards} ({verdict}); {kl}; {trained['seconds']:.0f} s")
    lines += [f"skipped: {len(found['skipped'])} (see the JSON)"] * bool(found["skipped"])
    return lines
