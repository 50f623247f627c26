"""Sentences from templates of paper/templates: plain text, which the paper and the page escape each in its own way.

A template is a file of macros. A line break in it is a space, so that long sentences are wrapped as prose is.
"""

import re
from collections.abc import Callable
from typing import Any

import jinja2

from trqam.config.errors import UserError
from trqam.config.wording import count, enumerated, tasks_label, thousands
from trqam.report.selection import PAPER

ENVIRONMENT = jinja2.Environment(
    loader=jinja2.FileSystemLoader(PAPER / "templates"),
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
ENVIRONMENT.globals |= {f.__name__: f for f in (count, enumerated, tasks_label, thousands)}


def said(template: str, macro: str, *arguments: Any, **known: Any) -> str:
    """What a macro of paper/templates/TEMPLATE.txt.j2 says of ``arguments``, in one line.

    ``known`` are functions and numbers that the template may use. Raises UserError if the template is wrong.
    """
    try:
        made: Callable[..., str] = getattr(ENVIRONMENT.get_template(f"{template}.txt.j2").make_module(known), macro)
        return re.sub("[ \n]+", " ", made(*arguments)).strip(" ")
    except jinja2.TemplateError as error:
        raise UserError(f"paper/templates/{template}.txt.j2: {error}; mend the template") from None
