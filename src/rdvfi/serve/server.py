"""Starting the server: address, upload folder, messages."""

import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch

from rdvfi.serve.limits import Limits
from rdvfi.video.model_loading import DEFAULT_MODEL


def serve(
    *,
    models: Sequence[str] | None = None,
    recipes: Sequence[str] = (),
    host: str = "127.0.0.1",
    port: int = 7860,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
    limits: Limits | None = None,
    allow_untrained: bool = False,
    ready: Callable[[str], object] | None = None,
) -> None:
    """Serve the page until the process is interrupted.

    Uploads and results lie in a folder of their own, which is removed at the end; of the server's other files
    none can be read. Nothing is loaded from the internet, by the server or by the page.

    Args:
        models: Models to choose from: names, folders or hub ids; all that are installed if not given.
        recipes: Recipes to choose from besides.
        host: Address to listen on; ``0.0.0.0`` lets other machines in.
        port: Port to listen on; 0 takes any that is free.
        device: Where models run; CUDA if there is a device, else the CPU.
        dtype: Type of the models' networks; float16 on CUDA, float32 elsewhere.
        limits: What visitors may ask for.
        allow_untrained: Accept models with untrained learned parts.
        ready: Called with the address when the page can be opened.

    Raises:
        ModuleNotFoundError: If Gradio is not installed.
        ValueError: If a model or a recipe is unusable.
        OSError: If the port is taken.
    """
    from rdvfi.serve.session import Models

    names = list(models) if models is not None else [] if recipes else _installed()
    store = Models(names, recipes, device=device, dtype=dtype, allow_untrained=allow_untrained)
    with _private_folder() as folder:
        build_page, launch = _gradio()
        page = build_page(store, limits or Limits(), folder)
        store.warm_up()
        address = launch(page, host, port, limits or Limits())
        if ready is not None:
            ready(address)
        try:
            page.block_thread()
        finally:
            page.close(verbose=False)


def _installed() -> list[str]:
    """The models of this package, the default one first."""
    from rdvfi.models import list_models

    return sorted(list_models(), key=lambda name: (name != DEFAULT_MODEL, name))


def _gradio() -> tuple[Callable, Callable]:
    """What builds and starts the page."""
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read when it is imported
    try:
        from rdvfi.serve.page import build_page, launch
    except ModuleNotFoundError as error:
        if error.name != "gradio":
            raise
        raise ModuleNotFoundError("the page needs Gradio; install it with: pip install 'rdvfi[demo]'") from error
    return build_page, launch


@contextmanager
def _private_folder() -> Iterator[Path]:
    """The folder of uploads and results, for as long as the page is there."""
    before = os.environ.get("GRADIO_TEMP_DIR")
    with tempfile.TemporaryDirectory(prefix="rdvfi-page-", ignore_cleanup_errors=True) as folder:
        os.environ["GRADIO_TEMP_DIR"] = folder
        try:
            yield Path(folder)
        finally:
            if before is None:
                del os.environ["GRADIO_TEMP_DIR"]
            else:
                os.environ["GRADIO_TEMP_DIR"] = before
