"""`basicsr options`: see and copy the option files that come with the package, and their JSON schema."""

import argparse
import sys
from pathlib import Path

from han_arch.errors import UserError
from han_arch.opt import shipped

EXAMPLES = """examples:
  basicsr options list
  basicsr options copy train_HAN_x4.yml my_experiment.yml
  basicsr options copy all options/
  basicsr options schema > schema.json"""


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.epilog = EXAMPLES
    actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
    actions.add_parser("list", help="names of the shipped option files, with what each is for")
    copy = actions.add_parser("copy", help="copy one, or all, to edit it; never overwrites")
    copy.add_argument("name", help="a shipped name, or: all")
    copy.add_argument("target", nargs="?", default=".", help="file or folder to copy to (default: the current folder)")
    actions.add_parser("schema", help="print the JSON schema, from which editors complete and check option files")


def run(args: argparse.Namespace) -> int:
    """List, copy, or print the schema."""
    if args.action == "schema":
        from han_arch.opt import schema

        sys.stdout.write(schema.as_text())
        return 0
    if args.action == "list":
        for path in sorted(shipped.folder().glob("*.yml")):
            sys.stdout.write(f"{path.name:24} {_summary(path)}\n")
        return 0
    target = Path(args.target)
    names = shipped.names() if args.name == "all" else [args.name]
    into_folder = args.name == "all" or target.is_dir() or args.target.endswith("/")
    pairs = [(shipped.find(name), target) for name in names]
    if into_folder:
        pairs = [(source, target / source.name) for source, _ in pairs]
    existing = [str(path) for _, path in pairs if path.exists()]
    if existing:
        raise UserError(f"would overwrite {', '.join(existing)}; give another target, or remove it first")
    for source, path in pairs:
        path.parent.mkdir(parents=True, exist_ok=True)
        text = source.read_text("utf-8").replace("$schema=schema.json", f"$schema={_schema().as_uri()}")
        path.write_text(text, "utf-8")
        sys.stdout.write(f"{path}\n")
    return 0


def _schema() -> Path:
    return (shipped.folder() / "schema.json").resolve()


def _summary(path: Path) -> str:
    first = path.read_text("utf-8").partition("\n")[0]
    return first.removeprefix("#").strip()
