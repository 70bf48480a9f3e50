"""The log of a run: a CSV file, and TensorBoard where it is wanted.

Rows are means since the row before. A run that goes on continues the file: rows after the step at
which it goes on are dropped, since those steps are done again.
"""

import csv
from pathlib import Path

from rdvfi.media.pixels import Picture

_FIRST = ("step", "seconds", "rate", "gradient")


class Log:
    """Scalars and pictures of one stage.

    Args:
        folder: Where ``<name>.csv`` goes.
        name: The stage's name.
        start: The step at which this run begins.
        tensorboard: Also write event files, to ``folder/tensorboard/<name>``.

    Raises:
        ModuleNotFoundError: If TensorBoard is wanted and not installed.
    """

    def __init__(self, folder: Path, name: str, start: int, *, tensorboard: bool) -> None:
        self.path = folder / f"{name}.csv"
        self._rows = [row for row in _read(self.path) if int(row["step"]) <= start]
        self._rewrite()
        self._board = None
        if tensorboard:
            try:
                from torch.utils.tensorboard import SummaryWriter
            except ModuleNotFoundError as error:
                raise ModuleNotFoundError(
                    "TensorBoard is not installed; install it with: pip install 'rdvfi[train]', or "
                    "set engine.tensorboard=false"
                ) from error
            board = folder / "tensorboard" / name
            self._board = SummaryWriter(str(board), purge_step=start + 1)

    def write(self, step: int, values: dict[str, float]) -> None:
        """One row; ``values`` may hold names that earlier rows did not have."""
        row = {"step": str(step), **{key: f"{value:.6g}" for key, value in values.items()}}
        self._rows.append(row)
        if set(row) <= set(self._columns):
            with self.path.open("a", newline="") as file:
                csv.DictWriter(file, self._columns).writerow(row)
        else:
            self._rewrite()
        if self._board is not None:
            for key, value in values.items():
                self._board.add_scalar(key, value, step)

    def picture(self, step: int, pixels: Picture) -> None:
        """A picture, to TensorBoard alone."""
        if self._board is not None:
            self._board.add_image("sheet", pixels, step, dataformats="HWC")

    def close(self) -> None:
        """Finish the event files."""
        if self._board is not None:
            self._board.close()

    def _rewrite(self) -> None:
        found = dict.fromkeys(key for row in self._rows for key in row)
        self._columns = [*_FIRST, *(key for key in found if key not in _FIRST)]
        partial = self.path.with_suffix(".partial")
        with partial.open("w", newline="") as file:
            writer = csv.DictWriter(file, self._columns)
            writer.writeheader()
            writer.writerows(self._rows)
        partial.replace(self.path)


def _read(path: Path) -> list[dict[str, str]]:
    if not path.exists():
        return []
    with path.open(newline="") as file:
        rows = list(csv.DictReader(file))
    # A row that lacks fields was cut off where a run was killed.
    whole = [row for row in rows if None not in row.values() and row.get("step", "").isdigit()]
    return [{key: value for key, value in row.items() if key and value} for row in whole]
