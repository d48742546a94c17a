"""Another writer at the lake: PyPI's deltalake. What it did is one line of JSON, with the table's version behind it.

    write_lake.py append <location> <journal> <first position> <rows>
    write_lake.py age <location> <position> <days>    the records up to a position arrived so many days earlier
    write_lake.py compact <location>
    write_lake.py vacuum <location>                   at once, without the time that readers are given
    write_lake.py feature <location> <name>           raises the protocol
    write_lake.py property <location> <name> <value>
    write_lake.py restore <location> <version>        also to an older protocol
    write_lake.py cursor <location> <journal>
"""

import datetime
import json
import os
import sys
import uuid

import pyarrow
from deltalake import DeltaTable, TableFeatures, write_deltalake
from deltalake.exceptions import CommitFailedError


def append(table, journal, first, rows):
    now = datetime.datetime.now(datetime.timezone.utc)

    def record(position):
        ours = {"journal": journal, "position": position, "date": now.date(), "ingested_at": now, "timestamp": now}
        text = {"id": str(uuid.uuid4()), "run_id": "elsewhere", "level": "INFO", "message": f"row {position} of another"}
        return ours | text

    records = [record(position) for position in range(int(first), int(first) + int(rows))]
    schema = pyarrow.schema(table.to_pyarrow_dataset().schema)
    write_deltalake(table, pyarrow.Table.from_pylist(records, schema), mode="append")
    return {"rows": len(records)}


def age(table, position, days):
    earlier = {name: f"{name} - interval '{int(days)} days'" for name in ("date", "ingested_at")}
    return table.update(predicate=f"position <= {int(position)}", updates=earlier)


def compact(table):
    try:
        return table.optimize.compact()
    except CommitFailedError as error:
        # The server merged the same files a moment before.
        return {"conflict": str(error)}


def vacuum(table):
    deleted = table.vacuum(retention_hours=0, dry_run=False, enforce_retention_duration=False)
    return {"deleted": len(deleted)}


def feature(table, name):
    table.alter.add_feature(getattr(TableFeatures, name), allow_protocol_versions_increase=True)
    return {}


def set_property(table, name, value):
    table.alter.set_table_properties({name: value})
    return {}


def restore(table, version):
    return table.restore(int(version), protocol_downgrade_allowed=True)


def cursor(table, journal):
    return {"cursor": table.transaction_version(journal)}


ACTIONS = {
    "append": append,
    "age": age,
    "compact": compact,
    "vacuum": vacuum,
    "feature": feature,
    "property": set_property,
    "restore": restore,
    "cursor": cursor,
}

if __name__ == "__main__":
    action, location, *arguments = sys.argv[1:]
    table = DeltaTable(location)
    before = table.version()
    did = ACTIONS[action](table, *arguments)
    print(json.dumps({"before": before, **did, "version": DeltaTable(location).version()}))
    sys.stdout.flush()
    # Threads of these libraries may still run; some of them abort the process when it ends in the usual way.
    os._exit(0)
