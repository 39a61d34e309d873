"""`basicsr bench`: measures, prints the table, and writes it as CSV and chart."""

import argparse
import platform
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from torch.utils.flop_counter import FlopCounterMode

from han_arch.bench import networks, runtimes
from han_arch.bench.measure import Row, inference_rows, training_rows
from han_arch.bench.memory import memory_row
from han_arch.bench.networks import AUTHORS, LIMIT, LIMITS, OURS, Candidate, Size, build
from han_arch.bench.report import draw_chart, markdown, write_csv
from han_arch.errors import UserError

CASES = ("inference", "training", "memory")
NETWORKS = {
    "ours": OURS,
    "ours-compiled": networks.OURS_COMPILED,
    "ours-winograd": networks.OURS_WINOGRAD,
    "authors": AUTHORS,
    "authors-channels-last": networks.AUTHORS_CHANNELS_LAST,
    "authors-memory-kept": networks.AUTHORS_MEMORY_KEPT,
    "onnx": networks.ONNX_NAME,
    "openvino": networks.OPENVINO_NAME,
    "limit": LIMIT,
    "limit-winograd": networks.LIMIT_WINOGRAD,
    "rcan": networks.RCAN_NAME,
    "rcan-channels-last": networks.RCAN_CHANNELS_LAST,
    "edsr": networks.EDSR_NAME,
}


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--networks", nargs="+", choices=list(NETWORKS), default=list(NETWORKS))
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--lr_sizes", nargs="+", type=int, default=[96, 192], help="LR pixels a side, for inference")
    parser.add_argument("--memory_lr_size", type=int, default=384, help="LR pixels a side, for peak memory")
    parser.add_argument("--repeat", type=int, default=3, help="rounds over all networks after one to warm up")
    parser.add_argument("--threads", type=int, help="processor threads; default: PyTorch's choice")
    parser.add_argument("--num_block", type=int, default=Size.num_block, help="blocks a group (full size: 20)")
    parser.add_argument("--num_feat", type=int, default=Size.num_feat, help="features (full size: 64)")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder for bench.csv, bench.md and bench.png")


def run(args: argparse.Namespace) -> int:
    """Measure and report; 0."""
    if min(args.repeat, args.num_block, args.memory_lr_size, *args.lr_sizes) < 1 or args.num_feat < 4:
        raise UserError("--repeat, --num_block and sizes must be at least 1, --num_feat at least 4")
    if args.threads is not None:
        torch.set_num_threads(args.threads)
    size = Size(args.num_block, args.num_feat)
    names = [NETWORKS[name] for name in args.networks]
    candidates, skipped = _build_all([name for name in names if name not in networks.RUNTIME_NAMES], size)
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="han_arch_bench_") as folder:
        files: dict[str, Path] = {}
        if "inference" in args.cases:
            files, failed = runtimes.write(names, size, Path(folder))
            skipped |= failed
        for case, measure in _cases(args, size, candidates, files):
            sys.stderr.write(f"measuring: {case}\n")
            rows += measure()
    sections = [_machine(), _counts(candidates), markdown(rows)]
    sections += [f"Not measured: {name}: {reason}." for name, reason in skipped.items()]
    text = "\n\n".join(section for section in sections if section) + "\n"
    sys.stdout.write(text)
    args.out.mkdir(parents=True, exist_ok=True)
    (args.out / "bench.md").write_text(text, encoding="utf-8")
    write_csv(rows, args.out / "bench.csv")
    try:
        draw_chart(rows, args.out / "bench.png")
    except ImportError as error:
        sys.stderr.write(f"no chart: {error}; pip install matplotlib\n")
    return 0


def _build_all(names: list[str], size: Size) -> tuple[list[Candidate], dict[str, str]]:
    candidates, skipped = [], {}
    for name in names:
        try:
            candidates.append(build(name, size))
        except UserError as error:
            skipped[name] = str(error)
    return candidates, skipped


def _cases(
    args: argparse.Namespace, size: Size, candidates: list[Candidate], files: dict[str, Path]
) -> list[tuple[str, Callable[[], list[Row]]]]:
    cases: list[tuple[str, Callable[[], list[Row]]]] = []
    for dtype in args.dtypes:
        if "inference" in args.cases:
            for lr_size in args.lr_sizes:
                cases.append(
                    (
                        f"inference, LR {lr_size}, {dtype}",
                        lambda d=dtype, s=lr_size: inference_rows(  # type: ignore[misc]
                            candidates, d, s, args.repeat, runtimes.runs(files, d, s)
                        ),
                    )
                )
        if "training" in args.cases:
            cases.append((f"training, {dtype}", lambda d=dtype: training_rows(candidates, d, args.repeat)))  # type: ignore[misc]
    if "memory" in args.cases:
        for candidate in candidates:
            if candidate.name not in LIMITS.values() and not candidate.compiled and not candidate.training_only:
                name = candidate.name
                cases.append((f"memory, {name}", lambda n=name: [_memory(n, size, args.memory_lr_size)]))  # type: ignore[misc]
    return cases


def _memory(name: str, size: Size, lr_size: int) -> Row:
    try:
        return memory_row(name, size, lr_size)
    except UserError as error:
        return Row(f"peak memory, LR {lr_size}, float32", name, (), unit="MB", note=str(error))


def _counts(candidates: list[Candidate], lr_size: int = 48) -> str:
    """Parameters, and multiply-adds for an LR image of 96 x 96, by PyTorch's counter on a quarter of it."""
    lines = ["| network | parameters | multiply-adds, LR 96 |", "|---|---|---|"]
    for candidate in candidates:
        if (
            candidate.name in LIMITS.values()
            or candidate.compiled
            or candidate.training_only
            or candidate.float32_only
            or "channels_last" in candidate.name
        ):
            continue
        counter = FlopCounterMode(display=False)
        with counter, torch.inference_mode():
            candidate.net.eval()(torch.rand(1, 3, lr_size, lr_size))
        parameters = sum(parameter.numel() for parameter in candidate.net.parameters())
        macs = counter.get_total_flops() / 2 * (96 / lr_size) ** 2
        lines.append(f"| {candidate.name} | {parameters:,} | {macs / 1e9:.1f} G |")
    return "\n".join(lines)


def _machine() -> str:
    processor = platform.processor() or platform.machine()
    cpu_info = Path("/proc/cpuinfo")
    if cpu_info.exists():
        named = [line.split(":", 1)[1].strip() for line in cpu_info.read_text().splitlines() if "model name" in line]
        processor = named[0] if named else processor
    capability = torch.backends.cpu.get_cpu_capability()
    return f"{processor}, {torch.get_num_threads()} threads, {capability}; PyTorch {torch.__version__}."
