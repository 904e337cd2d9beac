"""The data contracts: what readers of the published data may rely on, written as ODCS documents from the declarations.

ODCS is the Open Data Contract Standard of Bitol (LF AI & Data), version 3.1.0. Types, units, meaning, grain and rules are those
of ``schemas/tables.py`` and ``schemas/views.py``; what is said here is the version of each contract and what no table says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.dictionary import unit
from schemas.readers import READERS
from schemas.service_levels import BILLING_DAYS, FIGURES_KEPT_MONTHS, PROVISIONAL_DAYS, RESTATEMENT_DAYS
from schemas.table import Column, Table
from schemas.tables import CORRECTIONS, METHOD_TEXTS, PUBLICATIONS, PUBLISHED, TABLES
from schemas.views import VIEWS, View

Document = dict[str, Any]

API_VERSION = "v3.1.0"

VERSIONS = {
    "published": "1.0.0",
    "method_texts": "1.0.0",
    "received_balance": "1.0.0",
    "files_received": "1.0.0",
    "completeness": "1.0.0",
    "factor_use": "1.0.0",
    "publication_history": "1.0.0",
    "published_history": "1.0.0",
}
"""Version of each contract, semantic: a breaking change raises the major, an addition the minor, a word the patch number."""

SUBSCRIPTION_KEY = "subscription_key"
_TEST_KEY = bytes(range(32)).hex()
_DERIVATION = (
    "first 32 hexadecimal digits, in lower case, of HMAC-SHA-256(serving key, UTF-8 of 'subscription', octet 00, UTF-8 of the "
    "operator's subscription id without spaces around it)"
)
TEST_VECTORS = (
    {"servingKeyHex": _TEST_KEY, "subscriptionId": "S000001", "subscriptionKey": "b83e6531886bb580705cd8c9e503efcf"},
    {"servingKeyHex": _TEST_KEY, "subscriptionId": "33612345678-1", "subscriptionKey": "ac2cd62286b00d31f7c78f37d6c9877d"},
)
"""What billing checks its own derivation of ``subscription_key`` with."""

_LOGICAL = {
    "STRING": "string",
    "BOOLEAN": "boolean",
    "INT": "integer",
    "BIGINT": "integer",
    "DATE": "date",
    "TIMESTAMP": "timestamp",
}


@dataclass(frozen=True)
class Contract:
    """What one kind of reader relies on.

    Args:
        name: name of the document.
        objects: the tables and views it covers; the first is what the contract is about.
        purpose: what the data are for.
        usage: how they are to be read.
        limitations: what they do not say, or may not be used for.
    """

    name: str
    objects: tuple[Table | View, ...]
    purpose: str
    usage: str
    limitations: str

    @property
    def version(self) -> str:
        """Its semantic version. Raises KeyError if none is named in VERSIONS."""
        return VERSIONS[self.name]


PUBLISHED_CONTRACT = Contract(
    "published",
    (PUBLISHED, PUBLICATIONS, CORRECTIONS),
    "Tell each subscriber the data used in a month and its greenhouse-gas equivalent (LCEN art. 6 I 1 bis, AGEC art. 13 III).",
    "Billing and the portal read published by month or by subscription_key; a month is replaced as a whole, in one transaction, "
    "and publications changes last. corrections tells what a restatement changed of what was billed.",
    "Rows are personal data under a pseudonym. The displayed columns are what the decree asks to show; the unrounded ones "
    "explain them. A figure marked is_national_default rests on national ratios.",
)

METHOD_TEXTS_CONTRACT = Contract(
    "method_texts",
    (METHOD_TEXTS,),
    "Show beside a figure how it was worked out (decree 2021-1732).",
    "The portal joins method_id of published, in the language of the page.",
    "A text is of the publication that was last loaded with its method.",
)

_AUDIT = "Let an auditor or a regulator question what was published, without the records."
_ON_THE_LAKE = "footprint sql opens it over the lake, footprint export writes it as Parquet or CSV."
_PERSONAL = "Rows are personal data under a pseudonym: a controlled document wherever they are copied to."
_NOT_PERSONAL = "No value of a subscriber."

CONTRACTS = (
    PUBLISHED_CONTRACT,
    METHOD_TEXTS_CONTRACT,
    *(
        Contract(
            view.name, (view,), _AUDIT, _ON_THE_LAKE, _PERSONAL if SUBSCRIPTION_KEY in view.columns_of.names else _NOT_PERSONAL
        )
        for view in VIEWS
    ),
)
"""Every contract: one for what billing and the portal read, one for the method texts, one for each audit view."""

CONTRACT_OF = {declared.name: contract for contract in CONTRACTS for declared in contract.objects}
"""The contract of a table or view, by its name."""


def document(contract: Contract) -> Document:
    """The contract as an ODCS document: dictionaries, lists, texts and numbers, in the order of the standard."""
    return {
        "apiVersion": API_VERSION,
        "kind": "DataContract",
        "id": f"footprint.{contract.name}",
        "name": contract.name,
        "version": contract.version,
        "status": "active",
        "domain": "telecom usage and emissions",
        "dataProduct": "footprint",
        "description": {"purpose": contract.purpose, "usage": contract.usage, "limitations": contract.limitations},
        "servers": _servers(contract),
        "schema": [_object(declared) for declared in contract.objects],
        **({"roles": roles} if (roles := _roles(contract)) else {}),
        "slaProperties": _service_levels(contract),
    }


def _object(declared: Table | View) -> Document:
    table = declared.columns_of if isinstance(declared, View) else declared
    rules = [_rule(name, f"Every row: {rule}.", _violations(rule)) for name, rule in table.checks.items()]
    # The standard's primary key may not be null. A grain that has a null among its columns is a rule instead.
    has_key = all(table.column(name).is_required for name in table.key)
    if table.key and not has_key:
        rules.append(_rule("grain_is_unique", f"One row per {', '.join(table.key)}.", _repeated(table.key), "uniqueness"))
    return {
        "name": table.name,
        "physicalName": table.name,
        "logicalType": "object",
        "physicalType": "view" if isinstance(declared, View) else "table",
        "description": table.comment,
        "dataGranularityDescription": f"One row per {', '.join(table.key)}.",
        "properties": [_property(column, table.key if has_key else ()) for column in table.columns],
        **({"quality": rules} if rules else {}),
    }


def _property(column: Column, key: tuple[str, ...]) -> Document:
    found: Document = {
        "name": column.name,
        "physicalName": column.name,
        "logicalType": "number" if column.decimal else _LOGICAL[column.sql_type],
        "physicalType": column.sql_type,
        "description": column.comment,
        "required": column.is_required,
    }
    if column.name in key:
        found |= {"primaryKey": True, "primaryKeyPosition": key.index(column.name) + 1}
    if column.sql_type == "TIMESTAMP":
        found["logicalTypeOptions"] = {"timezone": True, "defaultTimezone": "UTC"}
    said: Document = {"unit": unit(column)} if unit(column) else {}
    if column.name == SUBSCRIPTION_KEY:
        found["classification"] = "personal, pseudonymous"
        said |= {"derivation": _DERIVATION, "testVectors": [dict(vector) for vector in TEST_VECTORS]}
    return found | ({"customProperties": [{"property": name, "value": value} for name, value in said.items()]} if said else {})


def _violations(rule: str) -> str:
    return f"SELECT count(*) FROM ${{table}} WHERE NOT ({rule})"


def _repeated(key: tuple[str, ...]) -> str:
    return f"SELECT count(*) FROM (SELECT 1 FROM ${{table}} GROUP BY {', '.join(key)} HAVING count(*) > 1) AS repeated"


def _rule(name: str, description: str, query: str, dimension: str = "conformity") -> Document:
    said = {"id": name, "name": name, "description": description, "dimension": dimension, "type": "sql", "severity": "error"}
    return {**said, "query": query, "mustBe": 0}


def _servers(contract: Contract) -> list[Document]:
    """Where the data are: the lake's tables, PostgreSQL where a role may read there, and exports. No place of a machine."""
    found: list[Document] = []
    if all(declared in TABLES for declared in contract.objects):
        lake = {"type": "local", "path": "${FOOTPRINT_LAKE:-var/lake}/{model}", "format": "delta"}
        found.append({"server": "lake", **lake, "description": "Delta tables, one folder each."})
    if _roles(contract):
        postgresql = {"host": "${PGHOST:-localhost}", "port": 5432, "database": "${PGDATABASE:-footprint}", "schema": "footprint"}
        found.append({"server": "postgresql", "type": "postgresql", **postgresql, "description": "The copy that readers query."})
    if contract is not METHOD_TEXTS_CONTRACT:
        export = {"type": "local", "path": "{model}.parquet", "format": "parquet"}
        found.append({"server": "export", **export, "description": "Files that footprint export parquet wrote, where they lie."})
    return found


def _roles(contract: Contract) -> list[Document]:
    names = {declared.name for declared in contract.objects}
    readable = {role: [name for name in read if name in names] for role, read in READERS.items()}
    return [
        {"role": role, "access": "read", "description": f"Reads {', '.join(found)} in PostgreSQL."}
        for role, found in readable.items()
        if found
    ]


def _service_levels(contract: Contract) -> list[Document]:
    """What the close calendar promises of every month, by the defaults of its settings."""
    about = contract.objects[0].name
    levels: Mapping[str, tuple[int, str, str]] = {
        "frequency": (1, "mo", "A month of figures a calendar month."),
        "timeToEstimate": (PROVISIONAL_DAYS, "d", "Days after a month's end on which its provisional estimate is due."),
        "latency": (BILLING_DAYS, "d", "Days after a month's end on which it is published to billing."),
        "timeToRestate": (RESTATEMENT_DAYS, "d", "Days after a month's end until which it is restated."),
        "retention": (FIGURES_KEPT_MONTHS, "mo", "Months that figures stay."),
    }
    return [
        {"property": name, "value": value, "unit": unit_of, "element": about, "driver": "regulatory", "description": said}
        for name, (value, unit_of, said) in levels.items()
    ]
