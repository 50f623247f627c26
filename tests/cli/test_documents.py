"""README and docs: links lead somewhere, and every command that they show is one that the programs would take."""

import re
import shlex

import pytest
from snakemake.cli import get_argument_parser

from tests.conftest import ROOT
from trqam.__main__ import parser

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")), *sorted(ROOT.glob("*/README.md"))]
PLACEHOLDERS = {"N": "1", "HOURS": "24", "[WORD]": "word"}  # where a number is asked for; other capitals are names


def commands(program):
    """(document, words after the program's name) of every command in a block or between backticks."""
    found = set()
    for path in DOCUMENTS:
        text = path.read_text()
        blocks = re.findall(r"^ *```\n(.*?)^ *```$", text, re.MULTILINE | re.DOTALL)
        lines = [*re.findall(r"`([^`\n]+)`", text), *"".join(blocks).splitlines()]
        for line in lines:
            if match := re.search(rf"(?:^|\s){program} +(?!\.\.\.)(\S.*)$", line):
                found.add((path.name, match[1].split(" && ")[0]))
    return sorted(found)


def words(text):
    """Of a command, without its comment."""
    return [PLACEHOLDERS.get(word, word) for word in shlex.split(text, comments=True)]


@pytest.mark.parametrize(("document", "text"), commands("python -m trqam"))
def test_the_command_line_takes_every_command_that_is_shown(document, text):
    if words(text) != ["--help"]:
        parser().parse_args(words(text))


@pytest.mark.parametrize(("document", "text"), commands("snakemake"))
def test_snakemake_takes_every_command_that_is_shown_and_no_option_swallows_the_target(document, text):
    arguments = get_argument_parser().parse_args(words(text))
    targets = {word for word in words(text) if word in ("paper", "theory", "toy") or word.startswith("results/")}
    assert set(arguments.targets) == targets
    for path in arguments.configfile or []:
        assert path.name == "FILE" or (ROOT / path).is_file()


@pytest.mark.parametrize(("document", "text"), commands("make"))
def test_every_target_of_make_that_is_shown_exists(document, text):
    targets = re.findall(r"^([\w./-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for word in words(text):
        assert "=" in word or word in targets


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_leads_to_a_file_and_a_heading(path):
    for link in re.findall(r"\]\(([^)\s]+)\)", path.read_text()):
        if "://" in link:
            continue
        name, _, anchor = link.partition("#")
        target = path.parent / name if name else path
        assert target.exists(), link
        headings = re.findall(r"^#+ +(.+)$", target.read_text(), re.MULTILINE) if anchor else []
        assert not anchor or anchor in [re.sub(r"[^\w -]", "", h.lower()).replace(" ", "-") for h in headings], link
