"""Write docs/model_zoo.md from the zoo's table and the result files beside it; `--check` only compares.

Examples:
  python scripts/make_model_zoo.py --add release/han-s-x4
  python scripts/make_model_zoo.py
  python scripts/make_model_zoo.py --check

`--add` copies a release to docs/model_zoo/NAME, all but its weights, SR images and hashes.
"""

import argparse
import json
import shutil
import sys
from pathlib import Path

from han_arch.errors import UserError
from han_arch.release import zoo_page
from han_arch.release.publish import PER_IMAGE, ROW, SUMS
from han_arch.zoo.entry import ENTRIES

DOCS = Path(__file__).resolve().parent.parent / "docs"


def add(release: Path, docs: Path) -> Path:
    """Copy a release's small files in place of an earlier one's; its folder in docs.

    Raises:
        UserError: no release folder.
    """
    sidecars = list(release.glob("*-????????.json"))
    if len(sidecars) != 1 or not (release / PER_IMAGE).is_file():
        raise UserError(f"{release} is no release folder of `basicsr zoo publish`")
    name = json.loads(sidecars[0].read_text("utf-8"))["entry"]["name"]
    target = docs / zoo_page.FOLDER / name
    shutil.rmtree(target, ignore_errors=True)
    # The weights are in the package; the hashes are those of the whole folder; the row stands in the table.
    left_out = shutil.ignore_patterns("*.safetensors", SUMS, ROW, "Set5")
    shutil.copytree(release, target, ignore=left_out)
    return target


def main() -> int:
    """Write the page, or compare it; 1 on drift."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="write nothing, fail when the page differs")
    parser.add_argument("--add", type=Path, nargs="+", default=[], metavar="RELEASE", help="release folders to show")
    parser.add_argument("--docs", type=Path, default=DOCS, help="default: docs/")
    args = parser.parse_args()
    for release in args.add:
        print(f"copied to {add(release, args.docs)}")
    target = args.docs / "model_zoo.md"
    text = zoo_page.page(ENTRIES, args.docs)
    if target.is_file() and target.read_text("utf-8") == text:
        return 0
    if args.check:
        print(f"{target} differs from the table and the results; run scripts/make_model_zoo.py")
        return 1
    target.write_text(text, "utf-8")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"error: {error}")
