"""Statistics on plain arrays; what they are computed from is in `trqam.report.measures`."""

from decimal import ROUND_HALF_UP, Decimal

import numpy as np


def round_half_up(value: float, digits: int = 0) -> str:
    """``value`` as printed in the paper: 0.5 becomes 1, and -0.5 becomes -1; the nine decimals absorb float noise."""
    exact = Decimal(repr(round(float(value), 9)))
    rounded = exact.quantize(Decimal(1).scaleb(-digits), ROUND_HALF_UP)
    return f"{abs(rounded) if rounded == 0 else rounded:f}"


def mean_and_std(values) -> tuple[float, float]:
    """Mean and sample standard deviation (ddof 1) without the nans; (nan, nan) for none, (mean, nan) for one."""
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    mean = float(values.mean()) if values.size else float("nan")
    return mean, float(values.std(ddof=1)) if values.size > 1 else float("nan")
