"""Searches what a run left behind for keys, tokens and the bodies of sessions."""

import base64
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import jwt

from support.keys import IN_A_BODY, KEYS

NOTE = "looked-for.json"
"""A file that names keys made up during the run, for whoever searches after it."""

HOLDERS = {
    NOTE: "names what to look for",
    "*.kubeconfig": "credentials, for who may read the file",
    "tokens.csv": "the API server's own tokens",
    "pki/**": "keys and certificates of the control plane",
    "etcd/**": "where Secrets are kept",
}
"""Files that are no logs and rightly hold secrets, and why. Everything else is searched."""

_JWT = rb"eyJ[A-Za-z0-9_-]+\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*"
_JWT_IN_BASE64 = rb"ZXlK[A-Za-z0-9+/]{16,}={0,2}"
"""As a Secret holds one."""


@dataclass(frozen=True, slots=True)
class Leak:
    """Where something is, and what it is; not the secret itself: this is printed."""

    file: Path
    line: int
    what: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.what}"


def note(folder: Path, keys: Iterable[str]) -> None:
    """Have these looked for, too."""
    (folder / NOTE).write_text(json.dumps(list(keys)))


def search(folders: Iterable[Path]) -> list[Leak]:
    """Every leak in the files of these folders, ``HOLDERS`` left out."""
    files = [
        file for folder in folders for file in sorted(folder.rglob("*")) if file.is_file() and not file.is_symlink()
    ]
    keys = [*KEYS, *(key for file in files if file.name == NOTE for key in json.loads(file.read_text()))]
    searched = [file for file in files if not any(_matches(file, holder) for holder in HOLDERS)]
    return [Leak(file, line, what) for file in searched for line, what in leaks(file.read_bytes(), keys)]


def leaks(text: bytes, keys: Iterable[str]) -> Iterator[tuple[int, str]]:
    """Line and kind of every secret in a text. Pure."""
    kinds = {IN_A_BODY.encode(): "the body of a session"}
    for key in keys:
        kinds[key.encode()] = "a key"
        kinds[base64.b64encode(key.encode()).rstrip(b"=")] = "a key, in base64"
    anything = re.compile(b"|".join([*map(re.escape, kinds), _JWT, _JWT_IN_BASE64]))
    for found in anything.finditer(text):
        what = kinds.get(found[0]) or _token(found[0])
        if what:
            yield text.count(b"\n", 0, found.start()) + 1, what


def _token(word: bytes) -> str | None:
    """Not all that looks like one is one."""
    try:
        token = base64.b64decode(word) if word.startswith(b"ZXlK") else word
        jwt.decode(token, options={"verify_signature": False})
    except (ValueError, jwt.InvalidTokenError):
        return None
    return "a token" if token == word else "a token, in base64"


def _matches(file: Path, holder: str) -> bool:
    folder, _, everything = holder.partition("/")
    return any(parent.name == folder for parent in file.parents) if everything else file.match(holder)
