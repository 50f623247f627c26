"""One address to one file, over HTTP: resumed by byte range, patient, never half a file taken for a whole one.

Bytes gather in ``NAME.part``; ``NAME.part.json`` beside it says which address they came from, the version that the
server gave (ETag or Last-Modified) and how many bytes there should be. What was received survives a kill, and the next
request asks for the rest only. If the file changed on the server meanwhile, or the server ignores ranges, the part
starts again from nothing; a mixture of two versions, of a server that heeds ranges alone, is found by its sum. RFC
9110, sections 13 and 14, is the reference.

requests follows redirects and urllib3 asks again where there is no answer, or one that says later; a transfer that
breaks off is ours to go on with. Nothing is sent but the request: no cookies and no credentials, ``~/.netrc`` included.
Proxies are taken from the environment, as usual.
"""

import os
import re
import sys
import time
from contextlib import suppress
from http.cookiejar import DefaultCookiePolicy
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import msgspec
import requests
import urllib3

from trqam.config.errors import UserError
from trqam.config.strict import read_record, shown
from trqam.data.verified import watch
from trqam.experiment.files import write_json, writing

MAGIC = {".npz": b"PK\x03\x04", ".hdf5": b"\x89HDF"}  # how a file begins; an npz file is a zip file
BLOCK = 1 << 20  # bytes asked of the socket at once
HEADWAY = 1 << 20  # bytes that make an interrupted attempt count as progress, not as a failure
ATTEMPTS = 5  # in a row without headway, before an address is given up
BACK_OFF = 1.0  # seconds before an attempt, doubled before each further one; urllib3 makes its second one at once
LONGEST_WAIT = 300  # seconds, even if Retry-After asks for more
TIMEOUT = (20.0, 60.0)  # seconds to connect; without a single byte
# What the environment says of connections: named where there is none, for it may be what is wrong.
SETTINGS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Refused(Exception):
    """This address does not give the file, and asking again would not help; another mirror may."""


class Interrupted(Exception):
    """The transfer broke off; asking again may help."""


class Origin(msgspec.Struct, frozen=True):
    """Where the bytes of a part came from; ``bytes`` is the size of the whole file, None if the server kept silent."""

    url: str
    version: str | None = None
    bytes: Annotated[int, msgspec.Meta(ge=0)] | None = None


class Patience(urllib3.Retry):
    """As urllib3 has it, but not in silence, and a Retry-After that says nothing is none."""

    def get_retry_after(self, response: urllib3.BaseHTTPResponse) -> float | None:
        """Seconds that the server asks for."""
        with suppress(urllib3.exceptions.InvalidHeader):
            return super().get_retry_after(response)
        return None

    def sleep(self, response: urllib3.BaseHTTPResponse | None = None) -> None:
        """Before the same is asked again."""
        say(f"{f'HTTP {response.status}' if response else 'no answer'}; asking again, in some minutes at the latest")
        super().sleep(response)


class Session(requests.Session):
    """Patient and without credentials; a redirect may leave plain HTTP for HTTPS and never the other way."""

    def __init__(self) -> None:
        super().__init__()
        self.max_redirects = 5
        self.auth = lambda request: request  # does nothing, and keeps requests from looking up ~/.netrc
        self.headers.update({"User-Agent": "trqam", "Accept-Encoding": "identity"})
        self.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        patience = Patience(
            ATTEMPTS - 1,
            other=1,  # of what is wrong with TLS, where waiting changes nothing
            status_forcelist=(408, 429, *range(500, 600)),
            raise_on_status=False,
            backoff_factor=BACK_OFF,
            backoff_max=LONGEST_WAIT,
            retry_after_max=LONGEST_WAIT,
        )
        for scheme in ("http://", "https://"):
            self.mount(scheme, requests.adapters.HTTPAdapter(max_retries=patience))

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Called before each redirect is followed."""
        target = prepared_request.url or ""
        if urlsplit(target).scheme not in ("https", urlsplit(response.url).scheme):
            raise Refused(f"redirects to {shown(target)}, which is not HTTPS")


def say(line: str) -> None:
    """One line to whoever watches."""
    print(line, file=sys.stderr, flush=True)


def notes_of(part: Path) -> Path:
    """The file that describes a part."""
    return part.with_name(f"{part.name}.json")


def origin_of(part: Path) -> Origin | None:
    """Where the bytes in ``part`` came from; None if there are none, or nothing (legible) is known of them."""
    if not part.is_file() or not notes_of(part).is_file():
        return None
    try:
        return msgspec.convert(read_record(notes_of(part), Origin, "delete it"), Origin)
    except UserError:
        return None


def set_aside(path: Path) -> Path:
    """Give what may be somebody's file another name, which nothing has; returns it."""
    stem = path.name.removesuffix(".part")
    names = (path.with_name(f"{stem}.wrong{number}") for number in ("", *range(2, 10_000)))
    aside = next(name for name in names if not os.path.lexists(name))
    with writing(path):
        os.rename(path, aside)
    return aside


def discard(part: Path) -> None:
    """Forget a part; the notes go last, since a part without notes is not trusted."""
    with writing(part):
        part.unlink(missing_ok=True)
        notes_of(part).unlink(missing_ok=True)


def download(session: Session, url: str, part: Path, expected: int | None) -> None:
    """Bring ``part`` to the whole file at ``url``, of ``expected`` bytes if that is known, going on where it stands.

    Raises Refused when the address cannot give it, UserError when the disk cannot take it.
    """
    if os.path.lexists(part) and origin_of(part) is None:  # ours has notes
        say(f"{part}: of unknown origin; moved to {set_aside(part).name}")
    failures, furthest = 0, 0
    while True:
        try:
            return _receive(session, url, part, expected)
        except Interrupted as error:
            reached = _size(part)
            failures = 1 if reached >= furthest + HEADWAY else failures + 1
            furthest = max(furthest, reached)
            if failures >= ATTEMPTS:
                raise Refused(f"{error}, {failures} times in a row") from error
            wait = min(BACK_OFF * 2 ** (failures - 1), LONGEST_WAIT)
            say(f"{part.stem}: {error} at {reached:,} bytes; going on in {wait:.0f} s")
            time.sleep(wait)


def _receive(session: Session, url: str, part: Path, expected: int | None) -> None:
    """One request and what it brings; Interrupted if that is not all."""
    known = origin_of(part)
    origin = known if known and known.url == url else Origin(url)
    offset = _size(part) if origin is known else 0
    if offset and offset == origin.bytes:
        return
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    if offset and origin.version:
        headers["If-Range"] = origin.version  # of another version all is sent
    try:
        response = session.get(url, headers=headers, stream=True, timeout=TIMEOUT)
    except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:  # RequestException is an OSError
        settings = [name for name in (*SETTINGS, *map(str.lower, SETTINGS)) if os.environ.get(name)]
        beside = f", with {', '.join(settings)} set" if settings else ""
        raise Refused(f"no answer ({_said(error)}{beside})") from error
    with response:
        total = _whole_size(response, offset, part)
        if None not in (total, expected) and total != expected:
            raise Refused(f"{total:,} bytes where the file has {expected:,}")
        if response.status_code == 200:
            if offset:
                say(f"{part.stem}: the server sends the whole file again; starting from its beginning")
            discard(part)
            etag, modified = response.headers.get("ETag", "W/"), response.headers.get("Last-Modified")
            origin = Origin(url, modified if etag.startswith("W/") else etag, total)
            write_json(notes_of(part), msgspec.to_builtins(origin))
        total = origin.bytes if total is None else total
        _pour(response, part, total)
    if total is not None and (size := _size(part)) != total:
        raise Interrupted(f"the answer ended {total - size:,} bytes too early")


def _whole_size(response: requests.Response, offset: int, part: Path) -> int | None:
    """Bytes of the whole file, as an answer says that is it (200) or the rest of it from ``offset`` (206)."""
    said = response.headers.get("Content-Length", "")
    if response.status_code == 416:  # the part is longer than the file, or the file went
        discard(part)
        raise Interrupted("HTTP 416, the range is not there; starting again")
    if response.status_code not in (200, 206):
        raise Refused(f"HTTP {response.status_code}")
    if response.status_code == 206:
        said = response.headers.get("Content-Range", "")
        rest = re.fullmatch(rf"bytes {offset}-[0-9]+/([0-9]{{1,18}}|\*)", said)
        if not (rest and offset):
            discard(part)
            raise Interrupted(f"Content-Range {said!r} is not the rest from byte {offset}; starting again")
        said = rest[1]
    return int(said) if re.fullmatch("[0-9]{1,18}", said) else None


def _pour(response: requests.Response, part: Path, total: int | None) -> None:
    """Append the body to ``part`` as it arrives, at constant memory; every byte received is in the file at once."""
    kind = Path(part.stem).suffix
    with writing(part), open(part, "ab") as file, watch(part.stem, total, "B", _size(part)) as progress:
        try:
            while block := response.raw.read1(BLOCK, decode_content=False):
                if file.tell() == 0 and not block.startswith(MAGIC[kind][: len(block)]):
                    said = shown(response.headers.get("Content-Type", "something else"))
                    raise Refused(f"no {kind[1:]} file, but {said}")
                file.write(block)
                file.flush()
                progress.update(len(block))
        except urllib3.exceptions.HTTPError as error:
            raise Interrupted(f"the connection broke ({_said(error)})") from error


def _said(error: BaseException) -> str:
    """What the innermost error says, without objects' addresses and passwords."""
    while True:
        parts = (getattr(error, "reason", None), *error.args, error.__cause__)
        inner = next((part for part in parts if isinstance(part, BaseException)), None)
        if inner is None:
            break
        error = inner
    text = getattr(error, "verify_message", None) or getattr(error, "strerror", None) or str(error)
    text = re.sub(r"//[^/\s]*@", "//", re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?", "", text))
    return shown(text.strip() or type(error).__name__, 160)


def _size(part: Path) -> int:
    return part.stat().st_size if part.is_file() else 0
