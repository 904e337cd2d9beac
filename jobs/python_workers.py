"""What the Python workers of one machine are forked from: Spark's own daemon, ready for its work.

Spark puts archives of its own on the path of its workers, one of them a JAR, has each task forget what is known of the path, and
clears away unused objects after each. Python then reads the directories of the archives anew and looks at every object that
the imported modules hold: a fifth of a second for each task of however few rows (docs/performance.md).
"""

from __future__ import annotations

import gc
import os
import sys

_ARCHIVES = (".zip", ".jar")


def main() -> None:
    """Leave the archives out of the path, load what tasks work with once for all workers, and let Spark's daemon do the rest."""
    spark = os.environ.get("SPARK_HOME", os.devnull)
    sys.path[:] = [place for place in sys.path if not (place.startswith(f"{spark}{os.sep}") and place.endswith(_ARCHIVES))]
    sys.path_importer_cache.clear()
    from pyspark import daemon

    import jobs.accept  # noqa: F401 - and what it imports

    gc.collect()
    gc.freeze()  # what is there now stays: no task need look at it again
    daemon.manager()  # type: ignore[no-untyped-call]


if __name__ == "__main__":
    main()
