"""HAN for spandrel, the library that chaiNNer, ComfyUI and others load networks with.

    import han_arch.spandrel, spandrel
    han_arch.spandrel.install()
    model = spandrel.ModelLoader().load_from_file("net_g_latest.pth")

spandrel by itself takes a HAN in the authors' form for an RCAN, all of whose keys it has, and fails; so HAN is detected
before. spandrel hands on the weights alone, without the options beside them: what no shape tells is assumed to be as
the authors released it, and logged.
"""

import logging
from collections.abc import Mapping
from importlib import import_module
from typing import Any

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.zoo.construction import ASSUMED
from han_arch.zoo.read import RawCheckpoint
from han_arch.zoo.recognise import understand

ID = "HAN"
DETECTED_BEFORE = "RCAN"

logger = logging.getLogger("han_arch")


def install(registry: Any = None) -> bool:
    """Make spandrel's loaders know HAN: our checkpoints, the authors' and super-image's.

    Args:
        registry: a `spandrel.ArchRegistry`; None is `spandrel.MAIN_REGISTRY`, which every `ModelLoader` uses that is
            not given another.

    Returns:
        True when HAN was added, False when the registry had an architecture of that name.

    Raises:
        UserError: spandrel is not installed.
    """
    try:
        spandrel = import_module("spandrel")
    except ImportError as error:
        raise UserError(f"spandrel cannot be imported ({error}); run: pip install 'han_arch[spandrel]'") from error
    if registry is None:
        registry = spandrel.MAIN_REGISTRY
    support = spandrel.ArchSupport.from_architecture(_architecture(spandrel), before=(DETECTED_BEFORE,))
    return bool(registry.add(support, ignore_duplicates=True))


def detects(state_dict: Mapping[str, Any]) -> bool:
    """Whether these are the names of HAN's weights, ours or the authors'; RCAN has the same backbone but no LAM."""
    ours = {"conv_first.weight", "conv_lam.weight", "conv_after_body.weight", "conv_last.weight"}
    authors = {"head.0.weight", "last_conv.weight", "tail.1.weight", "body.0.body.0.body.3.conv_du.0.weight"}
    return any(names <= state_dict.keys() for names in (ours, authors))


def _architecture(spandrel: Any) -> Any:
    """An instance of HAN's `spandrel.Architecture`; the class needs spandrel, which importing this file does not."""

    class HANArch(spandrel.Architecture):
        def __init__(self) -> None:
            super().__init__(id=ID, detect=detects)

        def load(self, state_dict: dict[str, Any]) -> Any:
            checkpoint = understand(RawCheckpoint(dict(state_dict), None, None), "the file that spandrel read")
            if checkpoint.assumed:
                assumed = ", ".join(f"{key} {ASSUMED[key]}" for key in checkpoint.assumed)
                logger.info("%s; spandrel gives no options, assumed: %s", checkpoint.summary, assumed)
            for note in checkpoint.notes:
                logger.info("%s", note)
            arguments = checkpoint.arguments
            channels = arguments["num_in_ch"]
            return spandrel.ImageModelDescriptor(
                HAN(**arguments).eval(),
                checkpoint.tensors,
                architecture=self,
                purpose="SR",
                tags=["{num_feat}nf".format(**arguments), "{num_group}x{num_block}".format(**arguments)],
                # The authors' weights work on 0..255, where float16 is at its end.
                supports_half=False,
                supports_bfloat16=True,
                scale=arguments["upscale"],
                input_channels=channels,
                output_channels=channels,
            )

    return HANArch()
