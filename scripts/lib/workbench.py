"""All writers of scripts/crash-real by name. Run as a program it is one of them:

workbench.py WORKLOAD DIRECTORY LOG SEED HAND ACKNOWLEDGED

It says "ready" when it has put down and synced what it begins with, and then works until it fails or is killed.
"""

import sys

import databases
import exercise
import trees
import writers
from histories import Log

WORKLOADS = {
    "overwrite": writers.Overwrite,
    "append": writers.Append,
    "replace": writers.Replace,
    "tree": trees.Tree,
    "truncate": writers.Truncate,
    "mapped": writers.Mapped,
    "sqlite-wal": databases.SqliteWal,
    "sqlite-delete": databases.SqliteDelete,
    "postgres": databases.Postgres,
    "reopen": writers.Reopen,
    "exercise": exercise.Exercise,
    "wander": exercise.Wander,
    "fresh": writers.Fresh,
}


def main():
    kind, root, log, seed, hand, acknowledged = sys.argv[1:]
    workload = WORKLOADS[kind](root, Log(log), int(seed), int(hand), acknowledged)
    workload.prepare()
    print("ready", flush=True)
    while True:
        workload.turn()


if __name__ == "__main__":
    main()
