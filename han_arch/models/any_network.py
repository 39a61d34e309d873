"""Load the weights of any network of BasicSR safely."""

from typing import Any

from basicsr.utils import get_root_logger
from torch import nn

from han_arch.errors import UserError
from han_arch.zoo.read import read_raw
from han_arch.zoo.state_dict import RawCheckpoint, of_one_network, short


def load_weights(
    model: Any, net: nn.Module, load_path: str, strict: bool = True, param_key: str | None = "params"
) -> RawCheckpoint:
    """Load the weights of a checkpoint into a network. It can replace the method `load_network` of BasicSR's models.

    Args:
        model: a model of BasicSR.
        load_path, strict, param_key: as in `CheckpointModel.load_network`.

    Returns:
        The checkpoint.

    Raises:
        FileNotFoundError: the file does not exist.
        UserError: the file is not a checkpoint, has nan or inf in a weight, or does not fit the network.
    """
    bare = model.get_bare_model(net)
    raw = read_raw(load_path, param_key, required=False)
    source = f"{load_path}, key {raw.weight_key}" if raw.weight_key else load_path
    get_root_logger().info(f"Loading {type(bare).__name__} from {source}.")
    state = of_one_network(raw.tensors, list(bare.state_dict())[:1], load_path)
    model._print_different_keys_loading(bare, state, strict)
    try:
        bare.load_state_dict(state, strict=strict)
    except RuntimeError as error:
        reason = short(" ".join(str(error).split()), 300)
        raise UserError(
            f"the weights in {load_path} do not fit the network {type(bare).__name__} of the option file: {reason}"
        ) from error
    return raw
