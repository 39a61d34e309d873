"""Build the release files: the wheel, the source archive, and SHA256SUMS with the hashes of both.

The files are built from a copy of the checkout without the files that Git ignores.
No package is downloaded. The wheel contains a bill of materials (SBOM) in .dist-info/sboms.
To check the files: sha256sum -c SHA256SUMS

Examples:
  python scripts/make_wheel.py
  python scripts/make_wheel.py --out /tmp/release --wheel-only
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from han_arch import files, program
from han_arch.errors import UserError

REPOSITORY = Path(__file__).resolve().parent.parent


def main() -> int:
    """Build the files, and print their hashes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("dist"), help="folder for the files (default: dist)")
    parser.add_argument("--wheel-only", action="store_true", help="do not build the source archive")
    args = parser.parse_args()
    kinds = ["wheel"] if args.wheel_only else ["wheel", "sdist"]
    with tempfile.TemporaryDirectory(prefix="wheel_") as folder:
        source, built = Path(folder, "source"), Path(folder, "built")
        built.mkdir()
        copy_tracked(source)
        for kind in kinds:
            code = f"import sys, setuptools.build_meta as backend; backend.build_{kind}(sys.argv[1])"
            command = [sys.executable, "-c", code, str(built)]
            done = subprocess.run(command, cwd=source, capture_output=True, text=True, env=same_dates())
            if done.returncode:
                sys.exit(f"could not build the {kind}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
        args.out.mkdir(parents=True, exist_ok=True)
        lines = []
        for path in sorted(built.iterdir()):
            with files.replacing(args.out / path.name) as target, path.open("rb") as file:
                shutil.copyfileobj(file, target)
            lines.append(f"{files.hash_file(args.out / path.name)}  {path.name}\n")
    files.write(args.out / "SHA256SUMS", "".join(lines))
    print("".join(lines), end="")
    return 0


def copy_tracked(target: Path) -> None:
    """Copy the tracked files of the checkout, and new files that Git does not ignore."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    listed = subprocess.run(command, cwd=REPOSITORY, capture_output=True)
    if listed.returncode:
        raise UserError(f"{REPOSITORY} is not a Git checkout, so Git cannot list its files")
    for name in filter(None, os.fsdecode(listed.stdout).split("\0")):
        if (REPOSITORY / name).is_file():  # a deleted file is still listed
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(REPOSITORY / name, target / name)


def same_dates() -> dict[str, str]:
    """Return an environment in which two builds of one commit are equal: files get the date of the commit."""
    date = subprocess.run(["git", "log", "-1", "--format=%ct"], cwd=REPOSITORY, capture_output=True, text=True)
    return {"SOURCE_DATE_EPOCH": date.stdout.strip() or "315532800", **os.environ}


if __name__ == "__main__":
    sys.exit(program.run("make_wheel.py", main))
