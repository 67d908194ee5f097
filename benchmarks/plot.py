"""Draw the results: ``python -m benchmarks.plot results.json results.png``."""

import json
import sys
from typing import Any

import matplotlib.pyplot as plt

OURS, THEIRS = "#1f77b4", "#b0b0b0"


def main(source: str, picture: str) -> None:
    with open(source) as file:
        sections = json.load(file)["sections"]
    plt.switch_backend("Agg")
    figure, (left, right) = plt.subplots(1, 2, figsize=(15, 10), layout="constrained")
    speeds = sections["peers"]["raw"]["50 ms"]  # of one run: other sections may come from another machine
    names = sorted(speeds, key=lambda name: speeds[name]["texts/s"])
    colours = [OURS if name.startswith("sparse-embed") else THEIRS for name in names]
    bars = left.barh(names, [speeds[name]["texts/s"] for name in names], color=colours)
    left.bar_label(bars, fmt="{:,.0f}", padding=3)
    left.set_title("Texts per second at 50 ms per request, default settings")
    left.spines[["top", "right"]].set_visible(False)
    # By figure, the worst case. Above 1 when the target is met, for targets in either direction.
    worst: dict[str, dict[str, Any]] = {}
    for section in sections.values():
        for row in section["rows"]:
            target, value = row["target"], row["value"]
            if target is not None and "virtual" not in row["figure"]:
                row["beyond"] = value / target if target > 0 else -target / max(value, -target / 10)
                worst[row["figure"]] = min(worst.get(row["figure"], row), row, key=lambda row: row["beyond"])
    colours = ["#2ca02c" if row["met"] else "#d62728" for row in worst.values()]
    right.barh(list(worst), [row["beyond"] for row in worst.values()], color=colours)
    right.axvline(1, color="black", linewidth=1)
    right.set_xscale("log")
    right.set_title("Relative to the target (right of the line: met)")
    right.tick_params(axis="y", labelsize=7)
    right.invert_yaxis()
    right.spines[["top", "right"]].set_visible(False)
    figure.savefig(picture, dpi=110)


if __name__ == "__main__":
    main(*sys.argv[1:])
