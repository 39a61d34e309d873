"""Train and test a small HAN on photos that scikit-image ships. Each step runs a `basicsr` command.

Steps: make LR images, sub-images and LMDB files from photos; train; test on other photos; make a picture and a table.
The exit status is 1 if HAN's PSNR does not exceed bicubic's PSNR by at least --margin dB.

Examples:
  python scripts/demo.py
  python scripts/demo.py --iterations 500 --margin 0.1
"""

import argparse
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

import cv2
import demo_picture
import numpy as np
import skimage

from han_arch import program
from han_arch.data.imresize import imresize
from han_arch.evaluation import score
from han_arch.evaluation.protocol import Protocol

SCALE = 4
TRAIN = ("chelsea.png", "rocket.jpg", "motorcycle_left.png", "hubble_deep_field.jpg", "ihc.png", "retina.jpg")
TEST = ("astronaut.png", "coffee.png")
NAME = "demo_HAN_x4"


def main() -> int:
    """Run the demo; return 0 if HAN's PSNR exceeds bicubic's PSNR by at least --margin dB."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for all output (default: demo)")
    parser.add_argument("--iterations", type=int, default=1200, help="number of training iterations (default: 1200)")
    parser.add_argument("--margin", type=float, default=0.3, help="required gain over bicubic in dB (default: 0.3)")
    args = parser.parse_args()

    started = time.monotonic()
    out = args.out.resolve()
    for old in ("experiments", "tb_logger", "results"):  # remove an earlier run, which BasicSR would archive
        shutil.rmtree(out / old / NAME, ignore_errors=True)
    prepare_data(out)
    length = ["--force_yml", *shortened(args.iterations)] if args.iterations != 1200 else []
    basicsr(out, "train", "-opt", "options/demo_HAN_x4.yml", *length)
    basicsr(out, "test", "-opt", "options/demo_test_HAN_x4.yml")

    photos = [load_photo(out, Path(name).stem) for name in TEST]
    protocol = Protocol("BI", SCALE)
    scores = [
        {method: score.measure(image, photo.hr, protocol) for method, image in photo.versions.items()}
        for photo in photos
    ]
    picture = out / "comparison.png"
    title = f"x{SCALE}: photos outside the training set; a small HAN after {args.iterations} iterations"
    demo_picture.draw(photos, scores, picture, title=title, size=96)
    print()
    print(demo_picture.table([photo.name for photo in photos], scores))
    mean = demo_picture.mean_scores(scores)
    gain = mean["HAN"].psnr - mean["bicubic"].psnr
    minutes = (time.monotonic() - started) / 60
    print(f"\nHAN - bicubic: {gain:+.2f} dB (must be at least {args.margin:+.2f}); the demo took {minutes:.1f} minutes")
    print(f"picture: {picture}")
    if not gain >= args.margin:
        print(f"FAILED: HAN must exceed bicubic by at least {args.margin} dB", file=sys.stderr)
        return 1
    return 0


def prepare_data(out: Path) -> None:
    """Create the training set and the test set from photos that scikit-image ships."""
    for part, names in (("train", TRAIN), ("test", TEST)):
        copy_photos(names, out / "photos" / part)
    prepare = ("data", "prepare", "--scale", str(SCALE))
    small = ("--crop-size", "240", "--step", "120")  # small sub-images load quickly
    basicsr(out, *prepare, *small, "--only", "lmdb", "-o", "datasets/demo_train", "photos/train")
    basicsr(out, *prepare, "--benchmark", "-o", "datasets/demo_test", "photos/test")


def shortened(iterations: int) -> list[str]:
    """Return the options that set the number of iterations and the length of the cosine schedule."""
    return [f"train:total_iter={iterations}", f"train:scheduler:periods=[{iterations}]"]


def copy_photos(names: tuple[str, ...], folder: Path) -> None:
    """Save photos of scikit-image as PNG files in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        source = Path(skimage.__file__).parent / "data" / name
        image = cv2.imread(str(source), cv2.IMREAD_COLOR)
        if image is None:
            raise FileNotFoundError(f"this release of scikit-image does not ship the photo {source}")
        cv2.imwrite(str(folder / f"{source.stem}.png"), image)


def basicsr(folder: Path, *words: str) -> None:
    """Print a `basicsr` command and run it in a folder; exit if it fails."""
    print(f"\n$ cd {folder} && basicsr {shlex.join(words)}", flush=True)
    status = subprocess.run([sys.executable, "-m", "han_arch", *words], cwd=folder).returncode
    if status != 0:
        sys.exit(status)


def load_photo(out: Path, stem: str) -> demo_picture.Photo:
    """Load a test photo, and three upscaled versions of its LR image: by nearest neighbour, bicubic and HAN."""
    data = out / "datasets" / "demo_test"
    hr = read_rgb(data / f"GT_x{SCALE}" / f"{stem}.png")
    lr = read_rgb(data / f"LR_BIx{SCALE}" / f"{stem}.png")
    versions = {
        "nearest": lr.repeat(SCALE, axis=0).repeat(SCALE, axis=1),
        "bicubic": imresize(lr, SCALE),
        "HAN": read_rgb(out / "results" / NAME / "visualization" / "demo_test" / f"{stem}_{NAME}.png"),
    }
    return demo_picture.Photo(stem, hr, versions)


def read_rgb(path: Path) -> np.ndarray:
    """Read an image file as (h, w, 3) uint8 RGB."""
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise FileNotFoundError(f"{path} is missing or is not an image")
    return image[..., ::-1]


if __name__ == "__main__":
    sys.exit(program.run("demo.py", main))
