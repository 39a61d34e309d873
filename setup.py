"""Metadata of the han_arch package. pyproject.toml has the build system, the linter and the test settings."""

import json
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

from setuptools import find_packages, setup
from setuptools.command.bdist_wheel import bdist_wheel

ROOT = Path(__file__).parent
VERSION = re.search(r'^__version__ = "([^"]+)"', (ROOT / "han_arch" / "version.py").read_text("utf-8"), re.M)
if VERSION is None:
    raise RuntimeError('han_arch/version.py has no line of the form __version__ = "..."')

REQUIREMENT = re.compile(r"(?P<name>[\w.-]+)(?P<versions>[^;]*)(;(?P<marker>.*))?")


def bill_of_materials(required: list[str], extras: dict[str, list[str]], version: str) -> dict[str, Any]:
    """Return a software bill of materials (SBOM): the packages that the wheel needs, and the weights in it.

    Source: CycloneDX 1.6, https://cyclonedx.org/docs/1.6/json. The versions are those that setup.py requires. The
    installed versions differ between machines; a tool such as cyclonedx-py lists them.
    """
    own = f"pkg:pypi/han-arch@{version}"
    libraries: dict[str, dict[str, Any]] = {}
    for scope, texts in (("required", required), *(("optional", texts) for texts in extras.values())):
        for text in texts:
            match = REQUIREMENT.fullmatch(text)
            if match is None:
                raise ValueError(f"cannot read the requirement {text!r}")
            name, versions = match["name"].lower(), match["versions"].strip()
            exact = versions.removeprefix("==") if versions.startswith("==") else None
            purl = f"pkg:pypi/{name}" + (f"@{exact}" if exact else "")
            library = {"type": "library", "bom-ref": purl, "name": name, "purl": purl, "scope": scope}
            if exact:
                library["version"] = exact
            conditions = {"versions": "" if exact else versions, "marker": (match["marker"] or "").strip()}
            library["properties"] = [
                {"name": f"han_arch:{key}", "value": value} for key, value in conditions.items() if value
            ]
            libraries.setdefault(purl, library)
    weights = [
        {
            "type": "machine-learning-model",
            "bom-ref": path.name,
            "name": path.stem,
            "hashes": [{"alg": "SHA-256", "content": sha256(path.read_bytes()).hexdigest()}],
        }
        for path in sorted((ROOT / "han_arch" / "zoo" / "weights").glob("*.safetensors"))
    ]
    parts = [*libraries.values(), *weights]
    package = {"type": "library", "bom-ref": own, "name": "han_arch", "version": version, "purl": own}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "version": 1,
        "metadata": {"component": {**package, "licenses": [{"license": {"id": "Apache-2.0"}}]}},
        "components": parts,
        "dependencies": [{"ref": own, "dependsOn": [part["bom-ref"] for part in parts]}],
    }


class WheelWithSbom(bdist_wheel):
    """Build the wheel with a bill of materials in .dist-info/sboms (PEP 770), which setuptools does not write."""

    def egg2dist(self, egginfo_path: str, distinfo_path: str) -> None:
        """Write the metadata of the wheel, and the bill of materials beside them."""
        super().egg2dist(egginfo_path, distinfo_path)
        package = self.distribution
        bill = bill_of_materials(package.install_requires, package.extras_require, package.get_version())
        path = Path(distinfo_path) / "sboms" / "han_arch.cdx.json"
        path.parent.mkdir()
        path.write_text(json.dumps(bill, indent=1) + "\n", "utf-8")


setup(
    name="han_arch",
    cmdclass={"bdist_wheel": WheelWithSbom},
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
            # `python scripts/fuzz.py --guided`; there are no wheels for other systems.
            "atheris; sys_platform == 'linux' and platform_machine == 'x86_64' and python_version >= '3.11' "
            "and python_version < '3.14'",
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
