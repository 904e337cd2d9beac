"""The ratios of a network in a month that bands judge and an operator shows: each is worked out here only."""

from __future__ import annotations

from decimal import Decimal


def ratios(subscriptions: int, gigabytes: Decimal, volume_gco2e: Decimal, gco2e: Decimal) -> dict[str, Decimal | None]:
    """Ratios by the name of the rule that judges them; None where nobody was subscribed, or nothing was used.

    Args:
        subscriptions: subscriptions of the month.
        gigabytes: their volume, decimal gigabytes.
        volume_gco2e: grams of the volume.
        gco2e: grams in all.
    """
    return {
        "mean_gigabytes_per_subscription": gigabytes / subscriptions if subscriptions else None,
        "mean_gco2e_per_subscription": gco2e / subscriptions if subscriptions else None,
        "volume_gco2e_per_gigabyte": volume_gco2e / gigabytes if gigabytes else None,
        "subscription_gco2e_per_subscription": (gco2e - volume_gco2e) / subscriptions if subscriptions else None,
    }
