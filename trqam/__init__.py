"""Trust Region Q Adjoint Matching (TRQAM, arXiv 2605.27079), replicated."""

__version__ = "0.1.0"
