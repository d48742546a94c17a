"""A small batch job for the demo: read a Cargo.lock, write a CSV of its crates, warn of those that are there twice."""

import csv
import logging
import re
import sys
from collections import defaultdict

log = logging.getLogger("inventory")


def main(source: str, target: str) -> None:
    log.info("reading %s", source)
    with open(source, encoding="utf-8") as file:
        packages = re.findall(r'\[\[package\]\]\nname = "(.+)"\nversion = "(.+)"', file.read())
    versions: dict[str, list[str]] = defaultdict(list)
    for name, version in packages:
        versions[name].append(version)
    for name, several in sorted(versions.items()):
        if len(several) > 1:
            log.warning("%s is there %d times: %s", name, len(several), ", ".join(several))
    with open(target, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([("name", "version"), *packages])
    log.info("wrote %d rows to %s", len(packages), target)


if __name__ == "__main__":
    logging.basicConfig(format="%(asctime)s %(levelname)s %(name)s: %(message)s", level=logging.INFO)
    try:
        main(*sys.argv[1:])
    except OSError:
        log.exception("inventory failed")
        sys.exit(1)
