"""The ratios and the table of `basicsr bench`."""

import time

from han_arch.bench.measure import Measurement, alternate
from han_arch.bench.networks import AUTHORS, NETWORKS
from han_arch.bench.report import quotient, ratio_to_authors, table

OURS, LIMIT, OPENVINO = (NETWORKS[key].title for key in ("ours", "limit", "openvino"))


def test_runs_alternate_after_one_warm_up() -> None:
    order: list[str] = []
    rows = alternate("case", {name: lambda n=name: order.append(n) for name in "ab"}, repeat=3)
    assert "".join(order) == "abababab"
    assert [(row.network, len(row.values)) for row in rows] == [("a", 3), ("b", 3)]


def test_the_function_before_a_run_is_not_timed() -> None:
    order: list[str] = []
    runs = {name: lambda n=name: order.append(n) for name in "ab"}
    (row, _) = alternate("case", runs, repeat=2, before={"a": lambda: time.sleep(0.2), "b": lambda: order.append("-")})
    assert "".join(order) == "a-ba-b"
    assert max(row.values) < 0.1


def test_ratios_are_taken_round_by_round() -> None:
    """In one round the machine is half as fast; in another round only one network is slow."""
    ours, theirs = Measurement("case", OURS, (1.0, 2.0, 1.0)), Measurement("case", AUTHORS, (1.5, 3.0, 9.0))
    assert quotient(theirs, ours) == ratio_to_authors(ours, [ours, theirs]) == 1.5  # the ratio of medians is 3
    assert quotient(Measurement("other", AUTHORS, theirs.values), ours) == 3.0


def test_table_has_medians_ratios_and_the_share_of_the_limit() -> None:
    rows = [
        Measurement("case", OURS, (2.0, 1.0, 4.0)),
        Measurement("case", AUTHORS, (3.0, 3.0, 6.0)),
        Measurement("case", LIMIT, (1.5,)),
        Measurement("memory", OURS, (40.0,), "MB"),
        Measurement("memory", AUTHORS, (100.0,), "MB"),
        Measurement("memory", "EDSR", (), "MB", "not installed"),
    ]
    assert [ratio_to_authors(row, rows) for row in rows] == [1.5, 1.0, 2.0, 0.4, 1.0, None]
    lines = table(rows).splitlines()
    assert lines[2] == f"| case | {OURS} | 2.000 s | 1.000 to 4.000 | 1.50x as fast |  | 75 % |"
    assert lines[5] == f"| memory | {OURS} | 40 MB |  | 0.40x of its memory |  |  |"
    assert "skipped: not installed" in lines[7]


def test_bfloat16_is_compared_with_the_authors_code_in_both_dtypes() -> None:
    rows = [
        Measurement("inference, LR 8, float32", AUTHORS, (6.0,)),
        Measurement("inference, LR 8, bfloat16", AUTHORS, (4.0,)),
        Measurement("inference, LR 8, bfloat16", OPENVINO, (2.0,)),
    ]
    openvino = f"| inference, LR 8, bfloat16 | {OPENVINO} | 2.000 s |  |"
    assert table(rows).splitlines()[-1] == f"{openvino} 2.00x as fast | 3.00x as fast |  |"
    assert table(rows[1:]).splitlines()[-1] == f"{openvino} 2.00x as fast |  |  |"
    assert table(rows).splitlines()[2].endswith("| 1.00x as fast |  |  |")  # float32 needs no second comparison
