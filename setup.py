"""Metadata of the han_arch package; build system, linter and test settings stand in pyproject.toml."""

import re
from pathlib import Path

from setuptools import find_packages, setup

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "([^"]+)"', (ROOT / "han_arch" / "version.py").read_text("utf-8"), re.M)
if VERSION is None:
    raise RuntimeError('han_arch/version.py has no line of the form __version__ = "..."')

setup(
    name="han_arch",
    version=VERSION.group(1),
    description="HAN (Holistic Attention Network, ECCV 2020) for BasicSR: network, training, evaluation",
    long_description=(ROOT / "README.md").read_text("utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.10",
    # options/ stays at the top of the checkout, where users look, and travels in the wheel as han_arch/options.
    packages=[*find_packages(include=["han_arch", "han_arch.*"]), "han_arch.options"],
    package_dir={"han_arch.options": "options"},
    package_data={
        "han_arch": [
            "py.typed",
            "speed/winograd/kernels.c",
            "evaluation/published_results.csv",
            "evaluation/page/*",
            "zoo/entries.json",
            "zoo/weights/*",
        ],
        "han_arch.options": ["*.yml", "*.json"],
    },
    install_requires=[
        "torch>=2.4",
        "torchvision",
        "numpy",
        "scipy",
        "pillow",
        "opencv-python",
        "lmdb",
        "pyyaml",
        "tqdm",
        "safetensors",  # the zoo's weights, also those in the wheel
        # BasicSR brings TensorBoard (tb-nightly); a second one would overwrite its files, so none is named here.
        # Its release cannot be built on Python 3.13 and later.
        "basicsr==1.4.2; python_version < '3.13'",
        # basicsr imports distutils, which Python 3.12 dropped; setuptools still supplies it.
        "setuptools; python_version >= '3.12'",
    ],
    extras_require={
        "plots": ["matplotlib"],
        "tiff": ["tifffile"],  # 16-bit TIFF in `basicsr upscale`
        "leaderboard": ["plotly"],
        "perceptual": ["pyiqa"],
        # `basicsr export`: OpenVINO files are made by way of ONNX.
        "export": ["onnx", "onnxscript", "onnxruntime"],
        "openvino": ["openvino", "onnx", "onnxscript"],
        "spandrel": ["spandrel"],
        # The authors' network as others packaged it, for `basicsr bench` and the parity tests.
        "peers": ["super-image"],
        "dev": [
            "matplotlib",
            "scikit-image",
            "plotly",
            "pytest",
            "pytest-xdist",
            "hypothesis",
            "selenium",
            "jsonschema",
            "ruff",
            "mypy",
            "types-PyYAML",
        ],
    },
    entry_points={
        "console_scripts": ["basicsr=han_arch.cli:main"],
        "basicsr.plugins": ["han_arch=han_arch.registration:register"],
    },
    classifiers=[
        "Intended Audience :: Science/Research",
        "Programming Language :: Python :: 3",
        "Topic :: Scientific/Engineering :: Image Processing",
    ],
)
