"""The paper's symbols beside the names of settings, as LaTeX for the PDF and as markup for the page."""

import re

from markupsafe import Markup, escape

from trqam.config.wording import words
from trqam.report import latex

SYMBOLS = {
    "flow_steps": "K", "target_rate": "τ", "horizon": "H", "discount": "γ", "pessimism": "ρ", "kl_budget": "ε",
    "kl_budget_online": "ε", "initial_multiplier": "λ_0", "multiplier_scale": "λ_eff/λ", "dual_rate": "η",
    "kl_ema_rate": "ρ_ema", "multiplier_min": "λ_min", "multiplier_max": "λ_max", "distillation": "α",
    "expectile": "κ", "samples": "N", "value_penalty": "c",
}  # fmt: skip
GREEK = {
    "α": "\\alpha", "γ": "\\gamma", "ε": "\\varepsilon", "η": "\\eta", "κ": "\\kappa", "λ": "\\lambda", "ρ": "\\rho",
    "τ": "\\tau",
}  # fmt: skip
PART = re.compile(r"([^\W\d_])(?:_(\w+))?")  # a letter and perhaps its subscript


class Symbolic(latex.Latex):
    """Text with a symbol in it: the string is LaTeX, and a template of the page prints ``markup``."""

    def __new__(cls, text: str, markup: str):
        made = super().__new__(cls, text)
        made.markup = markup
        return made

    def __html__(self) -> str:
        return self.markup


def symbol(key: str) -> str:
    """The symbol of a configuration key, or nothing."""
    if key not in SYMBOLS:
        return ""
    return Symbolic(_latex(SYMBOLS[key]), _markup(SYMBOLS[key]))


def heading(key: str, label: str | None = None) -> Symbolic:
    """The key in words and its symbol, for the head of a column: a word a line in LaTeX."""
    text, sign = words(key) if label is None else label, SYMBOLS.get(key)
    lines = [*map(latex.escape, text.split()), *([_latex(sign)] if sign else [])]
    markup = escape(text) + (Markup(" ") + Markup(_markup(sign)) if sign else "")
    return Symbolic("\\shortstack[r]{" + "\\\\".join(lines) + "}", str(markup))


def _latex(sign: str) -> str:
    def part(match: re.Match) -> str:
        letter, below = GREEK.get(match[1], match[1]), match[2]
        return f"{letter}_{{\\mathrm{{{below}}}}}" if below else letter

    return f"${PART.sub(part, sign)}$"


def _markup(sign: str) -> str:
    return PART.sub(lambda match: f"<i>{match[1]}</i>" + (f"<sub>{match[2]}</sub>" if match[2] else ""), sign)
