"""A folder from which `docker build` makes an image that serves the release.

The image has the versions with which the release was made, runs as a user without rights, holds no
secret and nothing but data of ours, and tells its health. Beyond loopback the service wants a
token, which is given when the container is started, never when it is built.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any

import polars as pl

from loopline.models.families import family
from loopline.release.bundle import Release
from loopline.release.exports.base import Form, Subject
from loopline.release.exports.rows import example_row, proof_rows
from loopline.release.fresh import in_fresh_process
from loopline.release.replay import prove

USER_ID = 10_001
PORT = 8000
READY = "/v2/health/ready"
TOKEN = "LOOPLINE_SERVE_TOKEN"  # noqa: S105 - the name of a variable
_NOT_PACKAGES = ("python", "machine", "loopline")
_NAME = re.compile(r"[A-Za-z0-9._-]+")


class Docker(Form):
    """A Dockerfile with the release beside it."""

    name = "docker"

    def write(self, subject: Subject, folder: Path) -> Sequence[str]:
        """See `Form.write`."""
        release = subject.release
        told = write_image(subject, folder)
        (folder / "README.md").write_text(_readme(release), encoding="utf-8")
        return (told,)


def write_image(subject: Subject, folder: Path) -> str:
    """Write what `docker build` needs, and prove the copy of the release; what was proved."""
    release = subject.release
    release.save(folder / "release")
    lock = release.facts["environment"]
    files = {
        "Dockerfile": _dockerfile(str(lock["python"]), _libraries(release)),
        ".dockerignore": "*\n!requirements.txt\n!constraints.txt\n!release\n",
        "requirements.txt": "".join(f"{line}\n" for line in _requirements(release)),
        "constraints.txt": "".join(
            f"{name}=={_public(version)}\n"
            for name, version in sorted(_pinned(lock, _requirements(release)).items())
        ),
    }
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return _proved(subject, folder / "release")


def image_name(release: Release) -> str:
    """A name for the image: the line's, and the start of the release's id."""
    return f"{plain_name(release.name)}:{release.id.removeprefix('release-')[:12]}"


def plain_name(name: str) -> str:
    """A line's name as images and Kubernetes take it: small letters, digits and dashes.

    >>> plain_name("Churn, 2024_final")
    'churn-2024-final'
    """
    letters = [letter if letter.isascii() and letter.isalnum() else " " for letter in name.lower()]
    return "-".join("".join(letters).split())[:50].strip("-") or "model"


def _proved(subject: Subject, folder: Path) -> str:
    """Send kept rows, or made-up ones, through the copy in a fresh process."""
    release = subject.release
    if subject.kept is not None:
        proof = prove(
            release,
            subject.kept,
            lambda frame: in_fresh_process(folder, frame),
            doing="exported",
        )
        return f"Proved: {proof}."
    rows = proof_rows(release, None)
    answers = in_fresh_process(folder, pl.DataFrame(rows.rows, infer_schema_length=None))
    return rows.told(rows.prove(release, answers, 1e-6, "exported"))


def _requirements(release: Release) -> list[str]:
    lock = release.facts["environment"]
    families = release.model.families
    packages = dict.fromkeys(name for each in families for name in family(each).packages)
    named = [f"{name}-cpu" if f"{name}-cpu" in lock else name for name in packages]
    return [f"loopline=={lock['loopline']}", *named]


def _pinned(lock: Mapping[str, Any], wanted: Sequence[str]) -> dict[str, str]:
    """Versions of the lock and, for what it does not name, of what is installed here.

    The lock names what computes; a service needs a web server and more, which may not drift either.
    """
    pins = {name: str(version) for name, version in lock.items() if name not in _NOT_PACKAGES}
    seen, queue = set(), [name.partition("==")[0] for name in wanted]
    while queue:
        name = queue.pop().lower().replace("_", "-").replace(".", "-")
        if name in seen:
            continue
        seen.add(name)
        try:
            found = metadata.distribution(name)
        except metadata.PackageNotFoundError:  # of another platform
            continue
        if name not in _NOT_PACKAGES:
            pins.setdefault(name, found.version)
        queue += [
            _NAME.match(each)[0]  # type: ignore[index]  # every requirement begins with a name
            for each in found.requires or ()
            if "extra ==" not in each
        ]
    return pins


def _libraries(release: Release) -> list[str]:
    """Debian's packages that the image of Python lacks."""
    return ["libgomp1"] if {"lightgbm", "forest"} & {*release.model.families} else []


def _public(version: str) -> str:
    """A version without the part after a plus, which tells a build and is on no public index."""
    return version.partition("+")[0]


def _dockerfile(python: str, libraries: Sequence[str]) -> str:
    check = (
        f"import urllib.request as u; u.urlopen('http://127.0.0.1:{PORT}{READY}', timeout=2).read()"
    )
    serve = ["loopline", "serve", "/app/release", "--host", "0.0.0.0", "--port", str(PORT)]  # noqa: S104 - inside a container
    install = (
        "RUN apt-get update"
        f" && apt-get install -y --no-install-recommends {' '.join(libraries)}"
        " && rm -rf /var/lib/apt/lists/*\n"
    )
    return f"""FROM python:{python}-slim
{install if libraries else ""}RUN useradd --system --no-create-home --uid {USER_ID} loopline
WORKDIR /app
COPY requirements.txt constraints.txt ./
RUN pip install --no-cache-dir --no-compile -r requirements.txt -c constraints.txt
COPY release ./release
ENV OMP_WAIT_POLICY=passive PYTHONDONTWRITEBYTECODE=1
USER {USER_ID}
EXPOSE {PORT}
HEALTHCHECK --interval=15s --timeout=3s --start-period=20s CMD {json.dumps(["python", "-c", check])}
CMD {json.dumps([*serve, "--no-log"])}
"""


def _readme(release: Release) -> str:
    image = image_name(release)
    row: dict[str, Any] = dict(example_row(release))
    body = shlex.quote(json.dumps(row, ensure_ascii=False))
    return f"""# {release.name}

    docker build -t {image} .
    export {TOKEN}=$(openssl rand -hex 24)
    docker run --rm --read-only --tmpfs /tmp --cap-drop ALL -p {PORT}:{PORT} -e {TOKEN} {image}

    curl -s localhost:{PORT}/predict -H "Authorization: Bearer ${TOKEN}" \\
      -H 'Content-Type: application/json' -d {body}

The image serves `{release.id}`. It holds no token: one is given when it is started.
"""
