"""What scripts/bench prints: the machine, speeds with ratios, and what the daemons used."""

import math
import os
import platform
import statistics
import subprocess
from pathlib import Path


def machine(directory, systems):
    """Where the figures come from."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True).stdout.strip()
    return {
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} × {cpu[0].partition(': ')[2] if cpu else platform.machine()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.0f} GiB",
        "backing": f"{directory} ({kind})",
        "systems": systems,
    }


def number(value):
    """Three significant digits, thousands as k."""
    if value is None:
        return "–"
    if value >= 99_950:
        return f"{value / 1000:.0f}k"
    if value >= 9_995:
        return f"{value / 1000:.1f}k"
    return f"{value:.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def median(values):
    values = [value for value in values if value is not None]
    return statistics.median(values) if values else None


def table(rows):
    """Columns as wide as needed, the first one left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths))) for row in rows]


def text(everything, systems, baseline):
    rounds, units = everything["rounds"], everything["units"]

    def each(system, name, figure):
        """One value per round, None where it is missing."""
        return [results[system].get(name, {}).get(figure) for results in rounds]

    def speed(system, name):
        values = [value for value in each(system, name, "rate") if value]
        if not values:
            return "failed"
        middle = statistics.median(values)
        return f"{number(middle)} ±{(max(values) - min(values)) / 2 / middle:.0%}"

    def ratio(system, name, figure="rate", per="amount"):
        """The median of the ratios inside each round."""
        pairs = zip(each(system, name, figure), each(baseline, name, figure))
        return median([mine / its if mine and its else None for mine, its in pairs])

    others = [system for system in systems if system != baseline] if baseline in systems else []
    lines = [f"{key}: {value if isinstance(value, str) else ', '.join(value)}" for key, value in everything["machine"].items()]
    lines += [f"{len(rounds)} rounds, sizes × {everything['size_factor']:g}", ""]

    rows = [["speed, median of rounds", *systems, *(f"{system} : {baseline}" for system in others)]]
    rows += [
        [f"{name} {unit}", *(speed(system, name) for system in systems), *(number(ratio(system, name)) for system in others)]
        for name, unit in units.items()
    ]
    means = []
    for system in others:
        ratios = [value for value in (ratio(system, name) for name in units) if value]
        means.append(number(math.exp(statistics.fmean(map(math.log, ratios)))) if ratios else "–")
    if others:
        rows.append(["geometric mean", *("" for _ in systems), *means])
    lines += table(rows)

    daemons = [system for system in systems if any(median(each(system, name, "cpu")) is not None for name in units)]
    if daemons:
        rows = [["daemon: processor seconds / peak MiB", *daemons, *(f"{system} : {baseline}, seconds" for system in daemons if system in others)]]
        for name in units:
            cells = []
            for system in daemons:
                cpu, rss = median(each(system, name, "cpu")), median(each(system, name, "rss"))
                cells.append("–" if cpu is None else f"{cpu:.2f} / {rss / (1 << 20):.0f}")
            rows.append([name, *cells, *(number(ratio(system, name, "cpu")) for system in daemons if system in others)])
        lines += ["", *table(rows)]
    lines += [f"FAILED {failure}" for failure in everything["failures"]]
    return "\n".join(lines)
