"""Add HAN to spandrel, the library that chaiNNer, ComfyUI and other programs use to load networks.

    import han_arch.spandrel, spandrel
    han_arch.spandrel.install()
    model = spandrel.ModelLoader().load_from_file("net_g_latest.pth")

A checkpoint from HAN's authors has all keys of an RCAN, so HAN comes before RCAN in the registry. spandrel passes only
the weights, not the network's options. If the weights do not determine an option, the value of the authors'
release is used; the log lists these options.
"""

import logging
from collections.abc import Mapping
from typing import Any

from han_arch.compat import require
from han_arch.zoo.load import build
from han_arch.zoo.recognise import ASSUMED, recognise
from han_arch.zoo.state_dict import find_weights

logger = logging.getLogger("han_arch")


def install(registry: Any = None) -> bool:
    """Add HAN to spandrel's registry. spandrel then loads checkpoints from this package, HAN's authors and super-image.

    Args:
        registry: a `spandrel.ArchRegistry`. None: `spandrel.MAIN_REGISTRY`, which `ModelLoader` uses.

    Returns:
        True if HAN was added; False if the registry already has an architecture called HAN.

    Raises:
        UserError: spandrel is not installed.
    """
    spandrel = require("spandrel", "spandrel")
    if registry is None:
        registry = spandrel.MAIN_REGISTRY
    support = spandrel.ArchSupport.from_architecture(_architecture(spandrel), before=("RCAN",))
    return bool(registry.add(support, ignore_duplicates=True))


def detects(state_dict: Mapping[str, Any]) -> bool:
    """Return whether a state dict has the keys of this package's HAN or of the authors' HAN, with any prefix."""
    ours = ("conv_lam.weight", "conv_first.weight", "conv_after_body.weight", "conv_last.weight")
    authors = ("last_conv.weight", "head.0.weight", "tail.1.weight", "body.0.body.0.body.3.conv_du.0.weight")
    for names in (ours, authors):
        prefixes = {key.removesuffix(names[0]) for key in state_dict if f".{key}".endswith(f".{names[0]}")}
        if any({f"{prefix}{name}" for name in names} <= state_dict.keys() for prefix in prefixes):
            return True
    return False


def _architecture(spandrel: Any) -> Any:
    """Return HAN as a `spandrel.Architecture`. The class is defined in this function, so that spandrel is optional."""

    class HANArch(spandrel.Architecture):
        def __init__(self) -> None:
            super().__init__(id="HAN", detect=detects)

        def load(self, state_dict: dict[str, Any]) -> Any:
            source = "the file that spandrel read"
            checkpoint = recognise(find_weights(state_dict, source), source)
            if checkpoint.assumed:
                assumed = ", ".join(f"{key} {ASSUMED[key]}" for key in checkpoint.assumed)
                logger.info("%s: the weights do not show all options; assumed values: %s", checkpoint.summary, assumed)
            for note in checkpoint.notes:
                logger.info("%s", note)
            arguments = checkpoint.arguments
            return spandrel.ImageModelDescriptor(
                build(arguments, checkpoint).eval(),
                checkpoint.tensors,
                architecture=self,
                purpose="SR",
                tags=["{num_feat}nf".format(**arguments), "{num_group}x{num_block}".format(**arguments)],
                # The authors' networks compute on the 0..255 scale, where LAM overflows in float16.
                supports_half=False,
                supports_bfloat16=True,
                scale=arguments["upscale"],
                input_channels=arguments["num_in_ch"],
                output_channels=arguments["num_out_ch"],
            )

    return HANArch()
