"""What a month takes for granted: hypotheses that decide components of it, also expired ones, and factors not yet frozen."""

from __future__ import annotations

from datetime import date

from pyspark.sql import Column
from pyspark.sql import functions as F

from factors.hypotheses import Hypothesis, Touches, hypotheses_of
from factors.reading import FactorError
from factors.registry import drafts
from jobs import ledger
from jobs.lake import in_month
from jobs.run import Refused
from jobs.workplace import Workplace
from schemas.tables import ESTIMATED


def decided_by(touches: Touches) -> Column:
    """The component is one that the hypothesis decides, of a row of ``estimated``."""
    return {
        "every": F.lit(True),
        "volume": F.col("component") == "volume",
        "subscription": F.col("component") == "subscription",
        "mobile": F.col("network") == "mobile",
        "roaming": F.col("roaming_zone") == "roaming",
        "estimated": F.col("is_estimated"),
        "national_default": F.col("is_national_default"),
    }[touches]


def assumed(workplace: Workplace, usage_month: date) -> tuple[Hypothesis, ...]:
    """The hypotheses in force for a month, by id. Raises Refused if they cannot be read."""
    try:
        return hypotheses_of(workplace.settings.factors, usage_month)
    except FactorError as error:
        raise Refused(str(error)) from None


def expired_hypotheses(workplace: Workplace, usage_month: date) -> tuple[str, ...]:
    """Ids of the hypotheses that decide a component of a month's next revision and that expired before the month ended."""
    expired = [hypothesis for hypothesis in assumed(workplace, usage_month) if hypothesis.is_expired(usage_month)]
    if not expired:
        return ()
    revision = ledger.next_revision(workplace.lake, usage_month)
    estimated = workplace.lake.read(ESTIMATED, in_month(usage_month, revision=revision))
    touched = estimated.agg(*[F.bool_or(decided_by(h.touches)).alias(str(n)) for n, h in enumerate(expired)]).collect()[0]
    return tuple(hypothesis.id for hypothesis, is_touched in zip(expired, touched, strict=True) if is_touched)


def unfrozen_factors(workplace: Workplace, usage_month: date) -> tuple[str, ...]:
    """Identities of the factors and assignments that serve a month and were never frozen. Raises Refused."""
    try:
        return drafts(workplace.settings.factors, usage_month)
    except FactorError as error:
        raise Refused(str(error)) from None
