"""Order and time of the stages, as Airflow DAGs."""
