"""The numbers of a run as CSV files that a resumed run continues as if it had never stopped."""

import csv
import io
from pathlib import Path

from han_arch import files
from han_arch.models import REFUSED_WRITE


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
        text = io.StringIO()
        writer = csv.DictWriter(text, columns, extrasaction="ignore")
        writer.writeheader()
        writer.writerows(kept)
        files.write(path, text.getvalue())

    def add(self, row: dict[str, object]) -> None:
        """Append a row; values are written so that they read back as the same numbers.

        Raises:
            UserError: it could not be written.
        """
        with files.clear_refusal(self.path, REFUSED_WRITE), self.path.open("a", newline="") as file:
            csv.DictWriter(file, self.columns).writerow(row)

    def rows(self) -> list[dict[str, str]]:
        """All whole rows; a last one that was cut off in the middle is left out."""
        with self.path.open(newline="") as file:
            return [row for row in csv.DictReader(file) if None not in row.values() and row["iter"].isdigit()]
