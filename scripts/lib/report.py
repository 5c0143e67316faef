"""What scripts/bench prints: the machine, speeds with ratios, and what the daemons used."""

import math
import os
import platform
import statistics
import subprocess
from pathlib import Path


def machine(directory):
    """Where the figures come from."""
    cpu = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    kind = subprocess.run(["stat", "-f", "-c", "%T", directory], capture_output=True, text=True).stdout.strip()
    return {
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} × {cpu[0].partition(': ')[2] if cpu else platform.machine()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.0f} GiB",
        "backing": f"{directory} ({kind})",
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

    def ratio(system, name, figure):
        """The median of the ratios to the baseline inside each round."""
        if baseline not in systems or system == baseline:
            return None
        pairs = zip(each(system, name, figure), each(baseline, name, figure))
        return median([mine / its if mine and its else None for mine, its in pairs])

    def beside(cell, value):
        """A figure and, in a column of its own width, its ratio."""
        return f"{cell} {f'{number(value)}×' if value else '':>6}"

    def speed(system, name):
        values = [value for value in each(system, name, "rate") if value]
        if not values:
            return beside("failed", None)
        middle = statistics.median(values)
        spread = (max(values) - min(values)) / 2 / middle
        return beside(f"{number(middle)} ±{spread:.0%}", ratio(system, name, "rate"))

    def daemon(system, name):
        cpu, rss = median(each(system, name, "cpu")), median(each(system, name, "rss"))
        return beside("–" if cpu is None else f"{cpu:.2f} s {rss / (1 << 20):.0f} MiB", ratio(system, name, "cpu"))

    def mean(system):
        ratios = [value for value in (ratio(system, name, "rate") for name in units) if value]
        return beside("", math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None)

    lines = [f"{key}: {value}" for key, value in everything["machine"].items()]
    lines.append(f"medians of {len(rounds)} rounds, sizes × {everything['size_factor']:g}; × is the ratio to {baseline}")
    speeds = [[name, unit, *(speed(system, name) for system in systems)] for name, unit in units.items()]
    speeds.append(["geometric mean", "", *map(mean, systems)])
    lines += ["", *table([["speed", "", *systems], *speeds])]
    daemons = [system for system in systems if any(median(each(system, name, "cpu")) is not None for name in units)]
    if daemons:
        rows = [[name, *(daemon(system, name) for system in daemons)] for name in units]
        lines += ["", *table([["daemon", *daemons], *rows])]
    return "\n".join([*lines, *(f"FAILED {failure}" for failure in everything["failures"])])
