"""Captioners on the Hugging Face hub: fetch them by name, and push them.

`hf://USER/NAME` or `hf://USER/NAME@REVISION` works wherever a checkpoint's path does. Only
`captioner.json` and `weights.safetensors` are ever fetched, and they are checked like any export.
The client of the hub (`captioner[hub]`) keeps them in its cache, from which they are read without
a network. It also handles log-in, endpoint and proxies, by its own environment variables.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from captioner import __version__
from captioner.checkpoint.safetensors import CONTENTS, WEIGHTS
from captioner.console import say
from captioner.errors import CaptionerError, UsageError
from captioner.files.json_file import MAX_SMALL_BYTES

MAX_WEIGHTS = 2**32
"""Maximum size of fetched weights in bytes: 4 GiB, a billion numbers."""

CARD = "README.md"

# A `Path` makes one slash of two.
_NAME = re.compile(r"hf:/{1,2}([A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*)(?:@([\w./-]+))?", re.ASCII)
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*", re.ASCII)
_CLIENT = {"library_name": "captioner", "library_version": __version__}


@dataclass(frozen=True)
class HubName:
    """A captioner on the hub.

    Attributes:
        repository: `USER/NAME`.
        revision: Branch, tag or commit; None for the main branch.
    """

    repository: str
    revision: str | None = None

    def __str__(self) -> str:
        return f"hf://{self.repository}" + (f"@{self.revision}" if self.revision else "")


def hub_name(path: Path | str) -> HubName | None:
    """Return the captioner on the hub that a path names; None for any other path.

    Raises:
        UsageError: It begins with hf:/ and is not such a name.

    Example:
        >>> hub_name("hf://ann/birds@v1"), hub_name("runs/best.ckpt")
        (HubName(repository='ann/birds', revision='v1'), None)
    """
    text = str(path)
    if not text.startswith("hf:/"):
        return None
    found = _NAME.fullmatch(text)
    if found is None:
        shown = text.replace("hf:/", "hf://", 1)  # a Path has one slash
        raise UsageError(f"{shown}: expected hf://USER/NAME or hf://USER/NAME@REVISION")
    return HubName(found[1], found[2])


def local(path: Path) -> Path:
    """Return the folder of a captioner on the hub, fetched if necessary; other paths unchanged.

    Raises:
        UsageError: The hub has no such captioner, or it is no captioner.
        CaptionerError: `captioner[hub]` is not installed, or the hub cannot be reached and the
            cache lacks the captioner.
    """
    name = hub_name(path)
    return path if name is None else _fetched(name)


@cache
def _fetched(name: HubName) -> Path:
    """Fetch a captioner, once per process."""
    hub = _client()
    revision = name.revision
    folder = Path()
    for file, most in ((CONTENTS, MAX_SMALL_BYTES), (WEIGHTS, MAX_WEIGHTS)):
        with _quiet(), _one_line(str(name), file):
            size = _size(name.repository, file, revision)
            if size is not None and size > most:
                raise CaptionerError(
                    f"{name}: {file} has {size:,} bytes, more than the {most:,} allowed"
                )
            place = hub.hf_hub_download(name.repository, file, revision=revision, **_CLIENT)
        folder = Path(place).parent
        revision = folder.name  # the commit, so that both files belong together
    return folder


def _size(repository: str, file: str, revision: str | None) -> int | None:
    """Return the size of a file in bytes; None without a network or if it is not stated."""
    hub = _client()
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    if HF_HUB_OFFLINE:
        return None
    url = hub.hf_hub_url(repository, file, revision=revision)
    try:
        size: int | None = hub.get_hf_file_metadata(url, **_CLIENT).size
    except (HfHubHTTPError, OfflineModeIsEnabled):
        return None  # the download meets the same error, and looks into the cache first
    except Exception as error:
        if type(error).__module__.split(".")[0] not in ("httpx", "httpx2", "httpcore", "requests"):
            raise
        return None
    return size


def push(
    folder: Path, card: str, repository: str, *, private: bool = False, revision: str | None = None
) -> HubName:
    """Upload an export with a model card, in one commit; create the repository if necessary.

    Args:
        folder: Folder of an export.
        card: Text of the model card.
        repository: `USER/NAME`.
        private: Whether a new repository is private; an existing one stays as it is.
        revision: Branch to upload to, created if necessary; None for the main branch.

    Returns:
        The name by which it is loaded.

    Raises:
        UsageError: The repository's name is invalid.
        CaptionerError: The hub cannot be reached or refuses.
    """
    if not _REPOSITORY.fullmatch(repository):
        raise UsageError(f"{repository!r}: expected USER/NAME, of letters, digits, -, _ and .")
    hub = _client()
    name = HubName(repository, revision)
    api = hub.HfApi(**_CLIENT)
    add = hub.CommitOperationAdd
    files = [add(CARD, card.encode()), add(CONTENTS, folder / CONTENTS)]
    files.append(add(WEIGHTS, folder / WEIGHTS))
    with _quiet(), _one_line(str(name), "writable repository"):
        api.create_repo(repository, private=private, exist_ok=True)
        if revision is not None:
            api.create_branch(repository, branch=revision, exist_ok=True)
        say(f"{name}: uploading {folder_size(folder):,} bytes")
        api.create_commit(repository, files, commit_message="Upload a captioner", revision=revision)
    return name


def folder_size(folder: Path) -> int:
    """Return the size of an export in bytes."""
    return sum((folder / file).stat().st_size for file in (CONTENTS, WEIGHTS))


def _client() -> Any:
    try:
        import huggingface_hub
    except ImportError as error:
        raise CaptionerError(
            "captioners of the Hugging Face hub need its client; "
            "install it: pip install 'captioner[hub]'"
        ) from error
    return huggingface_hub


@contextmanager
def _quiet() -> Iterator[None]:
    """Switch off the client's progress bars and warnings: commands have `captioner.console`.

    Its warnings announce the retries of a request, whose failure is then an error of one line.
    """
    from huggingface_hub.utils.logging import get_verbosity, set_verbosity, set_verbosity_error
    from huggingface_hub.utils.tqdm import (
        are_progress_bars_disabled,
        disable_progress_bars,
        enable_progress_bars,
    )

    level, shown = get_verbosity(), not are_progress_bars_disabled()
    set_verbosity_error()
    if shown:
        disable_progress_bars()
    try:
        yield
    finally:
        set_verbosity(level)
        if shown:
            enable_progress_bars()


@contextmanager
def _one_line(name: str, what: str) -> Iterator[None]:
    """Turn the errors of the client, of many types, into one line each.

    Raises:
        UsageError: The hub has no such repository, revision or file.
        CaptionerError: Anything else.
    """
    from huggingface_hub import errors

    try:
        yield
    except CaptionerError:
        raise
    except errors.GatedRepoError as error:
        raise CaptionerError(f"{name}: access must be requested on its page first") from error
    except errors.RepositoryNotFoundError as error:
        raise UsageError(
            f"{name}: the hub has no such model, or it is private (log in with `hf auth login`)"
        ) from error
    except errors.RevisionNotFoundError as error:
        raise UsageError(f"{name}: no such revision") from error
    except errors.LocalEntryNotFoundError as error:
        raise CaptionerError(f"{name}: not in the cache, and the hub cannot be reached") from error
    except errors.EntryNotFoundError as error:
        raise UsageError(f"{name}: has no {what}, so it is no captioner") from error
    except errors.HfHubHTTPError as error:
        raise CaptionerError(f"{name}: the hub answers {_status(error)}") from error
    except Exception as error:  # of the client's own libraries, which vary by release
        cause = error.__cause__ or error
        reason = " ".join(str(cause).split())[:200] or type(cause).__name__
        raise CaptionerError(f"{name}: the hub cannot be used: {reason}") from error


def _status(error: Any) -> str:
    code = getattr(error.response, "status_code", None)
    hint = {401: " (log in with `hf auth login`)", 403: " (the token has no right to write)"}
    return f"{code}{hint.get(code, '')}" if code else " ".join(str(error).split())[:200]
