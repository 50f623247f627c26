"""One address to one file, over HTTP: resumed by byte range, patient, never half a file taken for a whole one.

Bytes gather in ``NAME.part``; ``NAME.part.json`` beside it says which address they came from, the validators (ETag,
Last-Modified) that the server gave and how many bytes there should be. What was received survives a kill, and the next
request asks for the rest only. If the file changed on the server meanwhile, or the server ignores ranges, the part
starts again from nothing. RFC 9110, sections 13 and 14, is the reference.

Nothing is sent but the request: no cookies and no credentials, ``~/.netrc`` included; a redirect may leave plain HTTP
for HTTPS and never the other way. Proxies are taken from the environment, as usual.
"""

import email.utils
import os
import re
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated
from urllib.parse import urljoin, urlsplit

import msgspec
import requests
import urllib3

from trqam.config.errors import UserError
from trqam.config.reading import read_bytes
from trqam.config.strict import shown
from trqam.data.watch import watch
from trqam.experiment.files import write_json, writing

MAGIC = b"PK\x03\x04"  # how a zip file, and so an npz file, begins
BLOCK = 1 << 20  # bytes asked of the socket at once
HEADWAY = 1 << 20  # bytes that make an interrupted attempt count as progress, not as a failure
REDIRECTS = 5
# What the environment says of connections; no address of a mirror helps where it is wrong.
SETTINGS = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


class Refused(Exception):
    """This address does not give the file, and asking again would not help; another mirror may."""


class Interrupted(Exception):
    """The transfer broke off; asking again may help. ``wait``: seconds that the server asked for."""

    def __init__(self, reason: str, wait: float = 0.0):
        super().__init__(reason)
        self.wait = wait


@dataclass(frozen=True)
class Patience:
    """How long to wait for a server; times in seconds."""

    attempts: int = 5  # in a row without headway, before an address is given up
    back_off: float = 1.0  # before the second attempt; doubled before each further one
    cap: float = 300.0  # the longest wait, even if Retry-After asks for more
    connect: float = 20.0
    stall: float = 60.0  # without a single byte
    sleep: Callable[[float], None] = time.sleep


class Origin(msgspec.Struct, frozen=True):
    """Where the bytes of a part came from; ``bytes`` is the size of the whole file, None if the server kept silent."""

    url: str
    etag: str | None
    last_modified: str | None
    bytes: Annotated[int, msgspec.Meta(ge=0)] | None

    def agrees(self, other: "Origin") -> bool:
        """Whether nothing that both know says that these are two versions of the file."""
        known = [(getattr(self, field), getattr(other, field)) for field in ("etag", "last_modified", "bytes")]
        return self.url == other.url and all(a == b for a, b in known if a is not None and b is not None)


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
        return msgspec.json.decode(read_bytes(notes_of(part)), type=Origin)
    except (msgspec.DecodeError, UnicodeDecodeError):
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


def download(url: str, part: Path, expected: int | None, patience: Patience) -> None:
    """Bring ``part`` to the whole file at ``url``, of ``expected`` bytes if that is known, going on where it stands.

    Raises Refused when the address cannot give it, UserError when the disk cannot take it.
    """
    if os.path.lexists(part) and origin_of(part) is None:  # ours has notes
        say(f"{part}: of unknown origin; moved to {set_aside(part).name}")
    failures, furthest = 0, 0
    while True:
        try:
            return _receive(url, part, expected, patience)
        except Interrupted as error:
            reached = part.stat().st_size if part.is_file() else 0
            failures = 1 if reached >= furthest + HEADWAY else failures + 1
            furthest = max(furthest, reached)
            if failures >= patience.attempts:
                raise Refused(f"{error}, {failures} times in a row") from error
            wait = min(max(error.wait, patience.back_off * 2 ** (failures - 1)), patience.cap)
            say(f"{part.stem}: {error} at {reached:,} bytes; going on in {wait:.0f} s")
            patience.sleep(wait)


def _receive(url: str, part: Path, expected: int | None, patience: Patience) -> None:
    """One request and what it brings; Interrupted if that is not all."""
    origin, offset = origin_of(part), 0
    if origin and origin.url == url:
        offset = part.stat().st_size
        if offset == origin.bytes:
            return
    headers = {}
    if offset:
        headers["Range"] = f"bytes={offset}-"
        strong = origin.etag if origin.etag and not origin.etag.startswith("W/") else None
        if validator := strong or origin.last_modified:
            headers["If-Range"] = validator
    with _get(url, headers, patience) as response, _transfer_errors():
        _check_status(response, part)
        total = _whole_size(response, offset, part)
        found = Origin(url, response.headers.get("ETag"), response.headers.get("Last-Modified"), total)
        if None not in (total, expected) and total != expected:
            raise Refused(f"{total:,} bytes where the file has {expected:,}")
        if response.status_code == 200:
            if offset:
                say(f"{part.stem}: the server sends the whole file again; starting from its beginning")
            discard(part)
            write_json(notes_of(part), msgspec.to_builtins(found))
        elif not origin.agrees(found):
            discard(part)
            raise Interrupted("the file changed on the server; starting again")
        elif total is None:
            total = origin.bytes
        _pour(response, part, total)
    size = part.stat().st_size
    if total is not None and size != total:
        raise Interrupted(f"the answer ended {total - size:,} bytes too early")


@contextmanager
def _transfer_errors():
    """Whatever goes wrong on the wire once there is an answer is an interruption."""
    try:
        yield
    except (requests.RequestException, urllib3.exceptions.HTTPError) as error:
        stalled = isinstance(error, requests.Timeout | urllib3.exceptions.TimeoutError)
        raise Interrupted("no byte in time" if stalled else f"the connection broke ({_said(error)})") from error


def _get(url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
    """The response to GET, redirects followed by hand; its body is not read yet."""
    headers = {"User-Agent": "trqam", "Accept-Encoding": "identity", **headers}
    for _ in range(REDIRECTS + 1):
        # An `auth` that does nothing keeps requests from looking up ~/.netrc.
        options = {"headers": headers, "auth": lambda request: request, "timeout": (patience.connect, patience.stall)}
        try:
            response = requests.get(url, stream=True, allow_redirects=False, **options)
        except (OSError, ValueError, urllib3.exceptions.HTTPError) as error:  # RequestException is an OSError
            raise _without_answer(error) from error
        if not response.is_redirect:
            return response
        response.close()
        location = response.headers["Location"]
        try:
            target = urljoin(url, location)
            scheme = urlsplit(target).scheme
        except ValueError:
            raise Refused(f"redirects to {shown(location)!r}, which is no address") from None
        if scheme not in ("https", urlsplit(url).scheme):
            raise Refused(f"redirects to {shown(target)}, which is not HTTPS")
        url = target
    raise Refused(f"more than {REDIRECTS} redirects")


def _without_answer(error: Exception) -> Exception:
    """Why there is no answer: Interrupted if asking again may help, Refused if another mirror may, a UserError if what
    the environment says of connections is wrong."""
    cause, said = _innermost(error), _said(error)
    if isinstance(error, requests.Timeout):
        return Interrupted("no byte in time")
    names = ", ".join(name for name in (*SETTINGS, *map(str.lower, SETTINGS)) if os.environ.get(name))
    # A missing SOCKS package, a proxy that is no address, and certificates that are not there.
    if isinstance(error, requests.exceptions.InvalidSchema | requests.exceptions.InvalidProxyURL) or (
        isinstance(error, OSError) and not isinstance(error, requests.RequestException)
    ):
        fix = "correct or unset what is wrong in the environment"
        return UserError(f"{names or 'the environment'}: no connection can be made ({said}); {fix}")
    if isinstance(error, ValueError | urllib3.exceptions.LocationParseError):
        proxies = [name for name in names.split(", ") if name.upper().endswith("PROXY")]
        places = ", ".join(["the mirror's", "a redirect's", *proxies])
        return Refused(f"no address that can be asked ({places}): {said}")
    passing = ssl.SSLEOFError | ssl.SSLZeroReturnError | ssl.SSLSyscallError
    secured = isinstance(error, requests.exceptions.SSLError) and not isinstance(cause, passing)
    if secured or "Tunnel connection failed: 4" in said:
        return Refused(f"no connection ({said})")
    return Interrupted(f"no connection ({said})")


def _innermost(error: BaseException) -> BaseException:
    """The error that the others were made of."""
    while True:
        parts = (getattr(error, "reason", None), *error.args, error.__cause__)
        inner = next((part for part in parts if isinstance(part, BaseException)), None)
        if inner is None:
            return error
        error = inner


def _said(error: BaseException) -> str:
    """What the innermost error says, without objects' addresses and passwords."""
    cause = _innermost(error)
    text = getattr(cause, "verify_message", None) or getattr(cause, "strerror", None) or str(cause)
    text = re.sub(r"//[^/\s]*@", "//", re.sub(r"<[^<>]* object at 0x[0-9a-f]+>:? ?", "", text))
    return shown(text.strip() or type(cause).__name__, 160)


def _check_status(response: requests.Response, part: Path) -> None:
    """Passes only 200 and 206 with what may be a file."""
    code = response.status_code
    if code in (408, 429) or code >= 500:
        raise Interrupted(f"HTTP {code}", _retry_after(response))
    if code == 416:  # the part is longer than the file, or the file went
        discard(part)
        raise Interrupted("HTTP 416, the range is not there; starting again")
    if code not in (200, 206):
        raise Refused(f"HTTP {code}")
    if "html" in response.headers.get("Content-Type", "").lower():
        raise Refused("an HTML page, not the file")
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Refused("sent compressed, so that its size cannot be checked")


def _retry_after(response: requests.Response) -> float:
    """Seconds that the header asks for: a number, or a date."""
    text = response.headers.get("Retry-After", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, OverflowError):  # absent or illegible
        return 0.0


def _whole_size(response: requests.Response, offset: int, part: Path) -> int | None:
    """Bytes of the whole file by Content-Length (200) or Content-Range (206, which must begin at ``offset``)."""
    if response.status_code == 200:
        return _number(response.headers.get("Content-Length", ""))
    text = response.headers.get("Content-Range", "")
    unit, _, rest = text.partition(" ")
    span, _, total = rest.partition("/")
    first = span.partition("-")[0]
    if unit != "bytes" or not offset or first != str(offset) or (_number(total) is None and total != "*"):
        discard(part)
        raise Interrupted(f"Content-Range {text!r} is not the rest from byte {offset}; starting again")
    return _number(total)


def _number(text: str) -> int | None:
    """A number of bytes."""
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def _pour(response: requests.Response, part: Path, total: int | None) -> None:
    """Append the body to ``part`` as it arrives, at constant memory; every byte received is in the file at once."""
    start = part.stat().st_size if part.is_file() else 0
    progress = watch(part.stem, total, "B", start)
    with writing(part):
        file = open(part, "ab", buffering=0)  # noqa: SIM115 (closed below)
    with file, progress:
        while block := response.raw.read1(BLOCK, decode_content=False):
            if file.tell() == 0 and not block.startswith(MAGIC[: len(block)]):
                raise Refused("not an npz file")
            try:
                left = memoryview(block)
                while left:
                    left = left[file.write(left) :]
            except OSError as error:
                fix = "make room and run the same command, which goes on from here"
                raise UserError(f"{part}: cannot be written ({error.strerror}); {fix}") from error
            progress.update(len(block))
