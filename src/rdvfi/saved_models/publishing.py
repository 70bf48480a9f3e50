"""Uploading a saved model to the Hugging Face hub."""

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rdvfi.saved_models.model_card import CARD_NAME, MARK


def push_folder(save: Callable[[Path], None], repository: str, *, private: bool, message: str) -> str:
    """Save into a temporary folder and upload it; returns the address of the commit.

    Raises:
        PermissionError: If the hub does not let this user write there.
        ConnectionError: If it cannot be reached.
        ValueError: If the name is not one of a repository.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, OfflineModeIsEnabled

    api, failed = HfApi(), f"cannot upload {repository!r}: "
    with tempfile.TemporaryDirectory() as folder:
        save(Path(folder))
        try:
            api.create_repo(repository, private=private, exist_ok=True)
            card_is_theirs = _has_card_of_others(api, repository)
            commit = api.upload_folder(
                repo_id=repository,
                folder_path=folder,
                commit_message=message,
                ignore_patterns=[CARD_NAME] if card_is_theirs else None,
            )
        except HfHubHTTPError as error:
            if error.response is not None and error.response.status_code in (401, 403):
                raise PermissionError(
                    f"{failed}the Hugging Face hub does not let you write there; sign in by `hf auth login`, or set "
                    "HF_TOKEN to a token that may"
                ) from error
            raise ConnectionError(f"{failed}the Hugging Face hub answers: {' '.join(str(error).split())}") from error
        except OfflineModeIsEnabled as error:
            raise ConnectionError(f"{failed}HF_HUB_OFFLINE is set") from error
        except ValueError:
            raise  # not a repository's name: its text is clear
        except Exception as error:
            # The client lets its transport's errors through, whose types change with versions.
            raise ConnectionError(f"{failed}the Hugging Face hub cannot be reached: {error}") from error
    return str(commit.commit_url)


def _has_card_of_others(api: Any, repository: str) -> bool:
    """Whether the repository has a card that was not written by us: it stays."""
    if not api.file_exists(repository, CARD_NAME):
        return False
    page = Path(api.hf_hub_download(repository, CARD_NAME))
    return MARK not in page.read_text(encoding="utf-8", errors="replace")
