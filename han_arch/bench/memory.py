"""Peak memory of one inference above the resting network, measured in a process of its own (Linux).

`python -m han_arch.bench.memory NAME LR_SIZE NUM_BLOCK NUM_FEAT` prints the peak in bytes.
"""

import subprocess
import sys
from pathlib import Path

import torch

from han_arch.bench.measure import Row
from han_arch.bench.networks import Size, build
from han_arch.errors import UserError

_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory_row(name: str, size: Size, lr_size: int, timeout: float = 300) -> Row:
    """Peak resident memory in MB (1e6 bytes) that inference on lr_size x lr_size adds to the resting network.

    Args:
        name: which network, see networks.py.
        size: its size.
        lr_size: pixels of an LR side.
        timeout: seconds after which the process is ended.

    Raises:
        UserError: the system does not tell a process's peak, or the process failed.
    """
    if not _CLEAR.exists():
        raise UserError("peak memory is read from Linux's /proc, which this system does not have")
    arguments = [name, str(lr_size), str(size.num_block), str(size.num_feat)]
    try:
        done = subprocess.run(
            [sys.executable, "-m", "han_arch.bench.memory", *arguments],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=True,
        )
    except subprocess.TimeoutExpired as error:
        raise UserError(f"no result within {timeout:.0f} s") from error
    except subprocess.CalledProcessError as error:
        last = (error.stderr.strip().splitlines() or [f"exit status {error.returncode}"])[-1]
        raise UserError(f"the measuring process failed: {last}") from error
    return Row(f"peak memory, LR {lr_size}, float32", name, (int(done.stdout.split()[-1]) / 1e6,), unit="MB")


def peak_above_rest(name: str, size: Size, lr_size: int) -> int:
    """Bytes that inference on lr_size x lr_size needs above the resting network, in this process."""
    candidate = build(name, size)
    net = candidate.net.eval()
    infer = candidate.infer or net
    with torch.inference_mode():
        infer(torch.rand(1, 3, 16, 16) * candidate.input_range)  # libraries load what they need
        lq = torch.rand(1, 3, lr_size, lr_size) * candidate.input_range
        _CLEAR.write_text("5")  # sets the peak back to what is resident now
        rest = _kilobytes("VmRSS")
        infer(lq)
    return 1024 * (_kilobytes("VmHWM") - rest)


def _kilobytes(field: str) -> int:
    line = next(line for line in _STATUS.read_text().splitlines() if line.startswith(field + ":"))
    return int(line.split()[1])


if __name__ == "__main__":
    sys.stdout.write(f"{peak_above_rest(sys.argv[1], Size(int(sys.argv[3]), int(sys.argv[4])), int(sys.argv[2]))}\n")
