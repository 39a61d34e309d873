"""The numbers of a run as CSV files that a resumed run continues as if it had never stopped."""

import csv
import os
import tempfile
from pathlib import Path

from han_arch.models.saving import told


class RunLog:
    """One CSV file; its first column is the iteration.

    Args:
        path: the file.
        columns: column names, "iter" first.
        start_iter: rows of later iterations, which a resumed run makes again, are dropped.
    """

    def __init__(self, path: Path, columns: list[str], start_iter: int) -> None:
        self.path = path
        self.columns = columns
        kept = [row for row in self.rows() if int(row["iter"]) <= start_iter] if path.exists() else []
        descriptor, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        try:
            with os.fdopen(descriptor, "w", newline="") as file:
                writer = csv.DictWriter(file, columns, extrasaction="ignore")
                writer.writeheader()
                writer.writerows(kept)
            os.chmod(beside, 0o644)
            os.replace(beside, path)
        except BaseException:
            Path(beside).unlink(missing_ok=True)
            raise

    def add(self, row: dict[str, object]) -> None:
        """Append a row; values are written so that they read back as the same numbers.

        Raises:
            UserError: it could not be written.
        """
        with told(self.path), self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def rows(self) -> list[dict[str, str]]:
        """All whole rows; a last one that was cut off in the middle is left out."""
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row.values() and row["iter"].isdigit()]
