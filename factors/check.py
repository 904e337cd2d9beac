"""Is a folder of factors fit for use, and is what was released still what it was? One check, whoever asks."""

from __future__ import annotations

from pathlib import Path

from factors import changelog, frozen
from factors.arithmetic import prove
from factors.hypotheses import read_hypotheses
from factors.reading import FactorError
from factors.registry import load


def check(folder: Path) -> str:
    """Check sets, assignments, citations, method texts, hypotheses, what was released, the changelog, and the arithmetic.

    Raises FactorError or PrecisionError, naming what is wrong.
    """
    registry = load(folder)
    found = registry.hashes
    if not (folder / frozen.FILE).exists():
        raise FactorError(
            f"{folder / frozen.FILE}: nothing is frozen; once the values are released, run: footprint factors freeze"
        )
    frozen.refuse_edited(folder, found)
    drafts = sorted(found.keys() - frozen.frozen(folder).keys())
    rows = changelog.check(folder, registry.sets.values())
    hypotheses = read_hypotheses(folder)
    values = sum(len(factor_set.value) for factor_set in registry.sets.values())
    counts = f"{len(registry.sets)} sets, {values} values, {rows - values} parameters, {len(registry.citations)} sources"
    others = f"{len(registry.assignments)} assignments, {len(hypotheses)} hypotheses and their method texts"
    unowned = [hypothesis.id for hypothesis in hypotheses if hypothesis.owner_is_placeholder]
    owners = (
        f"{len(unowned)} have a placeholder that the operator must replace: {', '.join(unowned)}" if unowned else "all are named"
    )
    unfrozen = f"{len(drafts)} are not yet frozen: {', '.join(drafts)}" if drafts else "none is missing"
    return "\n".join(
        [
            f"{folder}: {counts}, {others} are consistent.",
            f"Released: {len(found) - len(drafts)} entries are as they were, {unfrozen}. {changelog.FILE} states {rows} periods.",
            f"Owners of hypotheses: {owners}.",
            f"Arithmetic: {len(prove())} rules hold for every value of the declared types: no product exceeds 38 digits "
            f"or loses a digit silently.",
        ]
    )
