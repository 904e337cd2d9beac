"""``python -m jobs STAGE --month YYYY-MM``: how Airflow and spark-submit start a stage."""

import sys

from jobs.cli import main

sys.exit(main())
