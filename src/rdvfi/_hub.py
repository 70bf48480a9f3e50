"""Fetching files of the Hugging Face hub, from its cache first.

What is in the cache is used without asking the network; a full commit hash is therefore found
again offline. The hub's client is imported when it is needed, since that takes a while.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path


def is_hub_id(source: str | os.PathLike[str]) -> bool:
    """Whether it reads ``owner/name``; a path object, ``./x`` or ``/x/y`` is meant as a path."""
    parts = source.split("/") if isinstance(source, str) else []
    return len(parts) == 2 and all(part and part[0] not in ".~" for part in parts)


def fetch(
    hub_id: str, revision: str | None, patterns: Sequence[str], *, complete: Callable[[Path], bool] | None = None
) -> Path:
    """The folder of the hub's cache that holds the files of a model that match ``patterns``.

    Args:
        hub_id: The model, ``owner/name``.
        revision: A branch, tag or commit; None is the main branch.
        patterns: Names of the files that are wanted.
        complete: Tells whether a folder of the cache holds all that is needed; then the network
            is not asked. Without it, it always is.

    Raises:
        FileNotFoundError: If the hub does not give this model.
        ConnectionError: If the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    wanted = list(patterns)
    if complete is not None:
        try:
            cached = snapshot_download(hub_id, revision=revision, allow_patterns=wanted, local_files_only=True)
            if complete(Path(cached)):
                return Path(cached)
        except (LocalEntryNotFoundError, HFValidationError):
            pass  # not there yet
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=wanted))
    except (HfHubHTTPError, HFValidationError) as error:
        raise FileNotFoundError(
            f"{hub_id!r} is neither a folder here nor a model that the Hugging Face hub gives: {error}"
        ) from error
    except OSError as error:
        at = f" --revision {revision}" if revision else ""
        raise ConnectionError(
            f"{hub_id!r} is not a folder here, and cannot be fetched from the Hugging Face hub: "
            f"{error} (where there is a network, run `hf download {hub_id}{at}`)"
        ) from error
