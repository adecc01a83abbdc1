"""Looks at the footers of Parquet files for a process that must not end with one: this one may."""

import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from headstart.pipeline.child import follow_parent, open_answers
from headstart.pipeline.doors import reading


def main() -> None:
    follow_parent(int(sys.argv[1]), is_expendable=True)
    answer = open_answers()
    for line in sys.stdin.buffer:
        answer(look(Path(json.loads(line)["path"])))


def look(path: Path) -> Mapping[str, Any]:
    """`rows`, `columns` (names of leaves) and `groups` (of each: rows, size of each leaf, numbers of those without any value);
    or `error`, with its `errno` if it is the system's.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        reading.require_file(path.stat(), path)
        with pq.ParquetFile(path, buffer_size=1 << 16, pre_buffer=False) as file:
            metadata = file.metadata
            columns = [metadata.schema.column(leaf).path for leaf in range(metadata.num_columns)]
            groups = [_group(metadata.row_group(number)) for number in range(metadata.num_row_groups)]
            return {"rows": metadata.num_rows, "columns": columns, "groups": groups}
    except (pa.ArrowException, OSError, ValueError, MemoryError) as error:
        text = (str(error).splitlines() or [type(error).__name__])[0]
        number = error.errno if isinstance(error, OSError) else None
        return {"error": os.strerror(number) if number else text, "errno": number}


def _group(group: Any) -> tuple[int, list[int], list[int]]:
    chunks = [group.column(leaf) for leaf in range(group.num_columns)]
    empty = [
        leaf
        for leaf, chunk in enumerate(chunks)
        if (chunk.statistics.null_count if chunk.statistics else None) == chunk.num_values
    ]
    return group.num_rows, [chunk.total_uncompressed_size for chunk in chunks], empty


if __name__ == "__main__":
    main()
