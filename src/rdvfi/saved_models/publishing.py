"""Uploading a saved model to the Hugging Face hub."""

import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rdvfi.saved_models.model_card import CARD_NAME, is_generated_card


def push_folder(save: Callable[[Path], None], repository: str, *, private: bool, message: str) -> str:
    """Save into a temporary folder and upload it; returns the address of the commit.

    Raises:
        PermissionError: If the user may not write there.
        ConnectionError: If the hub cannot be reached.
        ValueError: If the name is not valid for a repository.
    """
    from huggingface_hub import HfApi

    api = HfApi()
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        with _clear_hub_errors(f"cannot upload {repository!r}: "):
            api.create_repo(repository, private=private, exist_ok=True)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=message,
                ignore_patterns=[CARD_NAME] if _has_written_card(api, repository) else None,
            )
    return str(commit.commit_url)


@contextmanager
def _clear_hub_errors(prefix: str) -> Iterator[None]:
    """Turn errors of the hub's client into PermissionError or ConnectionError with a one-line message."""
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    try:
        yield
    except HfHubHTTPError as error:
        if error.response is not None and error.response.status_code in (401, 403):
            raise PermissionError(
                f"{prefix}the Hugging Face hub denies write access; sign in with `hf auth login`, or set "
                "HF_TOKEN to a token with write access"
            ) from error
        raise ConnectionError(f"{prefix}the Hugging Face hub answers: {' '.join(str(error).split())}") from error
    except OfflineModeIsEnabled as error:
        raise ConnectionError(f"{prefix}HF_HUB_OFFLINE is set") from error
    except ValueError:
        raise  # an invalid name of a repository; the message of the client is clear
    except Exception as error:
        # The client passes on errors of its HTTP library, whose types change between versions.
        raise ConnectionError(f"{prefix}the Hugging Face hub cannot be reached: {error}") from error


def _has_written_card(api: Any, repository: str) -> bool:
    if not api.file_exists(repository, CARD_NAME):
        return False
    return not is_generated_card(Path(api.hf_hub_download(repository, CARD_NAME)))
