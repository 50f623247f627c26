"""Pages of a PDF as a reader sees them: how much of each is blank."""

import shutil
import subprocess
from pathlib import Path

import numpy as np
from PIL import Image

RASTERISER = "pdftoppm"  # of poppler
MARGIN, HEIGHT = 1.2, 11.0  # inches; main.tex sets the former
GAP = 0.04  # of the text's height: more than the space around a heading
found = shutil.which(RASTERISER) is not None


def blank(pdf: Path, folder: Path) -> list[float]:
    """The share of each page's text height that lies in gaps; pictures of the pages go to ``folder``."""
    subprocess.run([RASTERISER, "-r", "50", "-gray", pdf, folder / "page"], check=True)
    return [_blank(np.asarray(Image.open(page))) for page in sorted(folder.glob("page*.pgm"))]


def _blank(page: np.ndarray) -> float:
    first, last = (round(len(page) * at / HEIGHT) for at in (MARGIN, HEIGHT - MARGIN))
    inked = np.flatnonzero((page[first:last] < 230).any(axis=1))
    gaps = np.diff([-1, *inked, last - first]) / (last - first)
    return float(gaps[gaps > GAP].sum())
