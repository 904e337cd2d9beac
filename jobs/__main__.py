"""``python -m jobs STAGE --month YYYY-MM``: how Airflow and spark-submit start a stage."""

import gc
import sys

from jobs.cli import main

_TURN_SECONDS = 0.0005
"""A thread that is ready waits for its turn for ten times as long by default: each answer of Java or PostgreSQL would."""

sys.setswitchinterval(_TURN_SECONDS)
code = main()
gc.freeze()  # Python would look at every object of every import for cycles before it ends, for two seconds
sys.exit(code)
