"""What the names in a file of published curves mean: the configuration's tasks, domains and methods, however spelt.

A name that the configuration does not have is kept as it is, and the known one that it resembles is named.
"""

import difflib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from trqam.config.errors import UserError
from trqam.config.load import Config, domain_of, tasks_of
from trqam.config.strict import shown
from trqam.report.imported import ALL
from trqam.report.unpickle import named

SUGGESTED = 20  # unknown names, at most, for which a known one is looked for
IN_A_LINE = 3  # of them in an error

Key = tuple[str, str]


@dataclass(frozen=True)
class Place:
    """What the first name of a key means: a task of a domain, or without a task a whole domain, or `all`."""

    task: str
    domain: str
    known: bool = True


class Names:
    """Of the ``keys`` (place, method) the ``places``, and the ``methods`` as the configuration's keys or else as they
    are."""

    def __init__(self, keys: Iterable[Key], config: Config):
        self.keys, self.config = list(keys), config
        self.places = {task: self.known.get(plain(task)) or _unknown(task) for task, _ in self.keys}
        self.methods = {method: self._method(method) or method for _, method in self.keys}

    @cached_property
    def known(self) -> dict[str, Place]:
        """What a plain spelling means: OGBench's tasks and domains, with or without `-v0`, our labels, and `all`."""
        known = {ALL: Place("", ALL)}
        for domain, about in self.config.domains.items():
            known |= {plain(spelt): Place("", domain) for spelt in (domain, f"{domain}-v0", about.label)}
            for number, task in enumerate(tasks_of(domain), start=1):
                spellings = (task, task.removesuffix("-v0"), f"{domain}-task{number}", f"{about.label}-task{number}")
                known |= {plain(spelt): Place(task, domain) for spelt in spellings}
        return known

    def _method(self, name: str) -> str | None:
        """The key of the method that has this key or label; None if there is none."""
        methods = self.config.methods.items()
        return next((key for key, about in methods if plain(name) in (plain(key), plain(about.label))), None)

    def check(self, path: str | Path) -> None:
        """A UserError if a key has its method first, or two keys mean the same, or no task or domain is known."""
        seen: dict[tuple[str, str, str], Key] = {}
        for key in self.keys:
            (task, method), place = key, self.places[key[0]]
            turned = plain(method) in self.known or "-singletask" in method or self._method(task)
            if turned and not (place.known or self._method(method)):
                fix = "no such task; the keys look swapped: give (task or domain, method)"
                raise UserError(f"{path}: {named(key)}: {fix}")
            first = seen.setdefault((place.task, place.domain, self.methods[method]), key)
            if first != key:
                raise UserError(f"{path}: {named(key)} and {named(first)} mean the same; remove one")
        parts = [task for task, place in self.places.items() if place.domain != ALL]
        if parts and not any(self.places[task].known for task in parts):
            meant = self._meant(parts[:IN_A_LINE]).values()
            methods_meant = self._meant([*self.methods][:IN_A_LINE]).values()
            fix = f"give OGBench's names, such as {next(iter(self.config.domains))}"
            if meant:
                fix = f"did you mean {' or '.join(meant)}?"
            elif any(plain(close) in self.known for close in methods_meant):
                fix = "the keys look swapped: give (task or domain, method)"
            what = f"'{shown(parts[0], 80)}': no task or domain of the file is known"
            raise UserError(f"{path}: {what}; {fix}")

    @property
    def unknown(self) -> list[str]:
        """The names that the configuration does not have."""
        places = [task for task, place in self.places.items() if not place.known]
        return places + [method for method in self.methods if not self._method(method)]

    @property
    def meant(self) -> dict[str, str]:
        """Of unknown names the known ones that they resemble."""
        return self._meant(self.unknown[:SUGGESTED])

    def _meant(self, unknown: list[str]) -> dict[str, str]:
        """Close, with the same numbers in it; of a method only one of the same letters, as this family's names are all
        close."""
        names = {spelt: place.task or place.domain for spelt, place in self.known.items()}
        labels = {"".join(sorted(plain(about.label))): about.label for about in self.config.methods.values()}
        meant = {}
        for name in unknown:
            alike = [other for other in names if re.findall(r"\d+", other) == re.findall(r"\d+", plain(name))]
            close = [names[other] for other in difflib.get_close_matches(plain(name), alike, 1, 0.8)]
            if label := labels.get("".join(sorted(plain(name)))) or next(iter(close), None):
                meant[name] = label
        return meant


def plain(name: str) -> str:
    """A spelling that does not depend on case and separators."""
    return re.sub(r"[^a-z0-9.]", "", name.lower())


def _unknown(name: str) -> Place:
    return Place(name, domain_of(name), False) if "-singletask" in name else Place("", name, False)
