"""What an exported file says of itself, as text under short keys: its use, and which weights it holds."""

import hashlib
from collections.abc import Mapping
from pathlib import Path

import torch

from han_arch.archs.han_arch import HAN
from han_arch.errors import UserError
from han_arch.version import __version__

INPUT, OUTPUT = "lq", "output"  # names of the graph's one input and one output
RT_INFO = "han_arch"  # where OpenVINO's rt_info holds the keys
TORCH_EXTRA_FILE = "han_arch.json"  # where a .pt2 archive holds them

_LARGEST_SCALE, _MOST_CHANNELS, _LARGEST_NETWORK = (
    64,
    64,
    4096,
)  # far beyond any network of ours; a wild number is a damaged or foreign file


def describe(net: HAN, source: str) -> dict[str, str]:
    """The metadata of an exported network.

    Args:
        net: the network.
        source: name or path that `load_model` took it from; of a path, the file's name and SHA-256 are noted.

    Returns:
        scale, num_in_ch, num_feat, num_group, input and output (in words), source, source_sha256 (where it is a file),
        weights_sha256 (see `weights_hash`), written_by.
    """
    path = Path(source)
    is_file = path.is_file()
    channels = net.conv_first.in_channels
    noted = {
        "scale": str(net.upscale),
        "num_in_ch": str(channels),
        "num_feat": str(net.conv_last.in_channels),
        "num_group": str(len(net.body)),
        "input": f"{INPUT}: float32 (batch, {channels}, height, width), {'RGB' if channels == 3 else 'grey'} in [0, 1]",
        "output": f"{OUTPUT}: float32 (batch, {channels}, scale*height, scale*width), in [0, 1] but not clamped",
        "source": path.name if is_file else source,
        "weights_sha256": weights_hash(net),
        "written_by": f"han_arch {__version__}, PyTorch {torch.__version__}",
    }
    if is_file:
        noted["source_sha256"] = file_hash(path)
    return noted


def weights_hash(net: torch.nn.Module) -> str:
    """SHA-256 over all weights by sorted name (name, dtype, shape, bytes): equal for equal weights in any file."""
    digest = hashlib.sha256()
    for name, tensor in sorted(net.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {tuple(tensor.shape)}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


def file_hash(path: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(2**20):
            digest.update(chunk)
    return digest.hexdigest()


def scale_and_channels(metadata: Mapping[str, str], path: Path) -> tuple[int, int]:
    """Read `scale` and `num_in_ch` back.

    Raises:
        UserError: they are missing or no sensible numbers: the file was not written by `basicsr export`.
    """
    scale, channels = _whole_numbers(metadata, "scale", "num_in_ch")
    if not (1 <= scale <= _LARGEST_SCALE and 1 <= channels <= _MOST_CHANNELS):
        raise UserError(
            f"{path} does not tell its scale and channels; wanted a file written by basicsr export (or with "
            "metadata scale and num_in_ch)"
        )
    return scale, channels


def features_and_groups(metadata: Mapping[str, str], path: Path) -> tuple[int, int]:
    """Read `num_feat` and `num_group` back, from which the memory of a run follows.

    Raises:
        UserError: they are missing or no sensible numbers.
    """
    num_feat, num_group = _whole_numbers(metadata, "num_feat", "num_group")
    if not (1 <= num_feat <= _LARGEST_NETWORK and 1 <= num_group <= _LARGEST_NETWORK):
        raise UserError(f"{path} does not tell num_feat and num_group; write it anew with basicsr export")
    return num_feat, num_group


def _whole_numbers(metadata: Mapping[str, str], *keys: str) -> list[int]:
    """The values of the keys; 0 where one is missing or no number."""
    return [int(metadata[key]) if metadata.get(key, "").isdecimal() else 0 for key in keys]
