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
    kind = said("findmnt", "-n", "-o", "FSTYPE", "-T", directory).split()[-1:]
    return {
        "kernel": platform.release(),
        "processor": f"{os.cpu_count()} × {cpu[0].partition(': ')[2] if cpu else platform.machine()}",
        "memory": f"{os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') / (1 << 30):.0f} GiB",
        "backing": f"{directory} ({''.join(kind)})",
        "programs": ", ".join(dict.fromkeys(version(system.program) for system in systems if system.program)),
    }


def said(*command):
    result = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace")
    return result.stdout.strip() or result.stderr.strip()


def version(program):
    """The first line says it, up to what it is built of."""
    return said(program, "--version").partition("\n")[0].partition(";")[0]


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


def aligned(rows):
    """Columns as wide as needed, the first one left, the others right."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return ["  ".join(cell.ljust(width) if index == 0 else cell.rjust(width) for index, (cell, width) in enumerate(zip(row, widths))) for row in rows]


class Figures:
    """All rounds. A figure is "rate", "cpu" or "rss"."""

    def __init__(self, everything, baseline):
        self.rounds = everything["rounds"]
        self.names = list(everything["units"])
        self.baseline = baseline

    def each(self, system, name, figure):
        """One value per round, None where it is missing."""
        return [results[system].get(name, {}).get(figure) for results in self.rounds]

    def middle(self, system, name, figure):
        return median(self.each(system, name, figure))

    def ratio(self, system, name, figure):
        """The median of the ratios to the baseline inside each round."""
        if system == self.baseline:
            return None
        pairs = zip(self.each(system, name, figure), self.each(self.baseline, name, figure))
        return median([mine / its if mine and its else None for mine, its in pairs])

    def mean(self, system, figure):
        """The geometric mean of the ratios over all workloads."""
        ratios = [value for value in (self.ratio(system, name, figure) for name in self.names) if value]
        return math.exp(statistics.fmean(map(math.log, ratios))) if ratios else None

    def speed(self, system, name):
        """The median, and half the distance between best and worst."""
        values = [value for value in self.each(system, name, "rate") if value]
        if not values:
            return "failed"
        middle = statistics.median(values)
        return f"{number(middle)} ±{(max(values) - min(values)) / 2 / middle:.0%}"


def text(everything, systems, baseline):
    figures, units = Figures(everything, baseline), everything["units"]

    def beside(cell, value):
        """A figure and, in a column of its own width, its ratio."""
        return f"{cell} {f'{number(value)}×' if value else '':>6}"

    def speed(system, name):
        return beside(figures.speed(system, name), figures.ratio(system, name, "rate"))

    def daemon(system, name):
        cpu, rss = (figures.middle(system, name, figure) for figure in ("cpu", "rss"))
        return beside("–" if cpu is None else f"{cpu:.2f} s {rss / (1 << 20):.0f} MiB", figures.ratio(system, name, "cpu"))

    lines = [f"{key}: {value}" for key, value in everything["machine"].items()]
    lines.append(f"medians of {len(figures.rounds)} rounds, sizes × {everything['size_factor']:g}; × is the ratio to {baseline}")
    speeds = [[name, unit, *(speed(system, name) for system in systems)] for name, unit in units.items()]
    speeds.append(["geometric mean", "", *(beside("", figures.mean(system, "rate")) for system in systems)])
    lines += ["", *aligned([["speed", "", *systems], *speeds])]
    daemons = [system for system in systems if any(figures.middle(system, name, "cpu") is not None for name in units)]
    if daemons:
        rows = [[name, *(daemon(system, name) for system in daemons)] for name in units]
        lines += ["", *aligned([["daemon", *daemons], *rows])]
    return "\n".join([*lines, *failures(everything)])


def markdown(everything, systems, baseline):
    """The table of README.md: ratios of the encrypted filesystems in columns of their own."""
    figures, machine = Figures(everything, baseline), everything["machine"]
    compared = [system for system in systems if system not in ("plain", baseline)]

    def row(*cells):
        return f"| {' | '.join(cells)} |"

    lines = [
        f"{machine['started'][:10]}, kernel {machine['kernel']}, {machine['processor']}, {machine['backing']}, {machine['programs']}.",
        f"Medians of {len(figures.rounds)} interleaved rounds at size {everything['size_factor']:g}, ± half the distance between best and worst. The last",
        "columns are the medians of the ratios inside each round.",
        "",
        row("workload", *systems, *(f"{system} : {baseline}" for system in compared)),
        "|---|" + "---:|" * (len(systems) + len(compared)),
    ]
    for name, unit in everything["units"].items():
        ratios = (number(figures.ratio(system, name, "rate")) for system in compared)
        lines.append(row(f"{name} {unit}", *(figures.speed(system, name) for system in systems), *ratios))
    for what, figure in (("all of them", "rate"), ("daemon's processor time", "cpu"), ("daemon's peak memory", "rss")):
        lines.append(row(f"{what}, geometric mean", *("" for _ in systems), *(number(figures.mean(system, figure)) for system in compared)))
    return "\n".join([*lines, *failures(everything)])


def failures(everything):
    return [f"FAILED {failure}" for failure in everything["failures"]]
