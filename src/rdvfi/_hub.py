"""Downloading files from the Hugging Face hub, or from its cache.

Files in the cache are used without a request to the network, so models of a full commit hash also load
offline. The client of the hub is imported when it is needed, since that takes a while.
"""

import os
from collections.abc import Callable, Sequence
from pathlib import Path


def is_hub_id(source: str | os.PathLike[str]) -> bool:
    """Whether a source has the form ``owner/name``; a path object, ``./x`` and ``/x/y`` are paths."""
    parts = source.split("/") if isinstance(source, str) else []
    return len(parts) == 2 and all(part and part[0] not in ".~" for part in parts)


def fetch(
    hub_id: str, revision: str | None, patterns: Sequence[str], *, is_complete: Callable[[Path], bool] | None = None
) -> Path:
    """The folder of the hub's cache with the files of a model that match ``patterns``, downloaded if needed.

    Args:
        hub_id: The model, ``owner/name``.
        revision: A branch, tag or commit; None is the main branch.
        patterns: Names of the required files, with wildcards.
        is_complete: Whether a folder of the cache has all required files, so that no request to the network
            is needed. Without it there is always a request.

    Raises:
        FileNotFoundError: If the hub has no such model, or does not permit access.
        ConnectionError: If the hub cannot be reached.
    """
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    patterns = list(patterns)
    if is_complete is not None:
        try:
            cached = snapshot_download(hub_id, revision=revision, allow_patterns=patterns, local_files_only=True)
            if is_complete(Path(cached)):
                return Path(cached)
        except (LocalEntryNotFoundError, HFValidationError):
            pass  # not in the cache
    try:
        return Path(snapshot_download(hub_id, revision=revision, allow_patterns=patterns))
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
