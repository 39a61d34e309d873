"""HAN for spandrel, which chaiNNer, ComfyUI and others load networks with.

    import han_arch.spandrel, spandrel
    han_arch.spandrel.install()
    model = spandrel.ModelLoader().load_from_file("net_g_latest.pth")

spandrel takes a HAN in the authors' form for an RCAN, whose keys are all in it, and fails; so HAN is detected before.
It hands on the weights alone, without the options beside them: what no shape tells is assumed as the authors released
it, and logged.
"""

import logging
from typing import Any

from spandrel import MAIN_REGISTRY, Architecture, ArchRegistry, ArchSupport, ImageModelDescriptor, ModelTiling
from torch import Tensor

from han_arch.archs.han_arch import HAN
from han_arch.zoo.construction import ASSUMED
from han_arch.zoo.recognition import AUTHORS, OURS, Checkpoint, recognise, understand

logger = logging.getLogger("han_arch")

ID = "HAN"
DETECTED_BEFORE = "RCAN"
