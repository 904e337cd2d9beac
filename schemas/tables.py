"""The tables of the lake, in the order in which a month flows through them.

Bytes are integers and called octets where they come from a record, grams are decimals; the unit is in every name.
"""

from schemas.table import Table

HISTORY_DAYS = 3650
"""Days that Delta keeps the history of what an auditor may question; the tables themselves hold every revision as rows."""

LANDED = Table(
    name="landed",
    comment="One row per delivery of a file to the landing folder.",
    text="""
        file_number      BIGINT    NOT NULL COMMENT 'Number of the delivery in this lake, from 1.'
        source           STRING    NOT NULL COMMENT 'Mediation source: the folder under the landing folder and the TOML file in schemas/sources.'
        file_name        STRING    NOT NULL COMMENT 'Name relative to the folder of the source.'
        file_hash        STRING    NOT NULL COMMENT 'SHA-256 of the bytes as delivered, hexadecimal.'
        size_octets      BIGINT    NOT NULL COMMENT 'Octets of the file as delivered.'
        modified_at      TIMESTAMP NOT NULL COMMENT 'Modification time of the file when it was registered.'
        file_sequence    BIGINT             COMMENT 'Sequence number the source writes in the file name; null if it writes none.'
        sequence_series  STRING             COMMENT 'Series within which the sequence has no gaps, from the file name; null without a sequence.'
        status           STRING    NOT NULL COMMENT 'new, duplicate (these bytes were delivered before), superseding or refused (a known name with other bytes).'
        reason           STRING             COMMENT 'Why the delivery is a duplicate or refused.'
        replaces_file_number BIGINT         COMMENT 'Delivery that this one supersedes or repeats.'
        landed_at        TIMESTAMP NOT NULL COMMENT 'When the delivery was registered.'
    """,
    key=("file_number",),
    checks={"status_is_known": "status IN ('new', 'duplicate', 'superseding', 'refused')"},
    statistics=("file_number", "source"),
)

BATCHES = Table(
    name="batches",
    comment="Write-ahead log of accept: a batch of files exists for readers once its committed row is here.",
    text="""
        batch            BIGINT    NOT NULL COMMENT 'Number of the batch, from 1.'
        state            STRING    NOT NULL COMMENT 'planned (written ahead) or committed (its rows count).'
        file_numbers     ARRAY<BIGINT> NOT NULL COMMENT 'Deliveries the batch reads.'
        withdrawn_file_numbers ARRAY<BIGINT> NOT NULL COMMENT 'Deliveries whose earlier rows cease to count from this batch on.'
        reason           STRING             COMMENT 'Why deliveries were withdrawn.'
        base_versions    STRING    NOT NULL COMMENT 'Delta version of each table the batch was planned on, JSON.'
        code_version     STRING    NOT NULL COMMENT 'Version of the code that planned the batch.'
        written_at       TIMESTAMP NOT NULL COMMENT 'When the row was written.'
    """,
    key=("batch", "state"),
    checks={"state_is_known": "state IN ('planned', 'committed')"},
    statistics=("batch",),
    history_days=HISTORY_DAYS,
)

ACCEPTED = Table(
    name="accepted",
    comment="One row per interval of a usage record and legal month: what a network element measured for one identifier.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month the octets belong to.'
        batch            BIGINT    NOT NULL COMMENT 'Batch that accepted the record.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        file_number      BIGINT    NOT NULL COMMENT 'Delivery the record was read from.'
        record_ordinal   BIGINT    NOT NULL COMMENT 'Position of the record in its file, from 1.'
        byte_offset      BIGINT    NOT NULL COMMENT 'Octet at which the record starts in the uncompressed file; for Parquet, its row group.'
        interval_index   INT       NOT NULL COMMENT 'Position of the interval (container) in its record, from 0.'
        month_part       INT       NOT NULL COMMENT '0: the interval lies in one month; 1, 2, …: its parts, month by month.'
        record_key       BINARY             COMMENT 'Keyed 128-bit hash of the source and its key columns; null for a source that declares no key.'
        identifier_type  STRING    NOT NULL COMMENT 'imsi, msisdn, line_id or mac.'
        identifier_key   BINARY    NOT NULL COMMENT 'Pseudonym of the identifier, 128 bits.'
        opened_at        TIMESTAMP          COMMENT 'Start of the interval as recorded; null if the record has none.'
        closed_at        TIMESTAMP NOT NULL COMMENT 'End of the interval as recorded.'
        octets_up        BIGINT    NOT NULL COMMENT 'Octets sent by the subscriber in this month.'
        octets_down      BIGINT    NOT NULL COMMENT 'Octets received by the subscriber in this month.'
        access_technology STRING            COMMENT 'Access technology the record names; null if it names none.'
        roaming_zone     STRING    NOT NULL COMMENT 'home or roaming.'
        is_prorated      BOOLEAN   NOT NULL COMMENT 'The interval straddled a month end and was split by elapsed seconds.'
        is_without_start BOOLEAN   NOT NULL COMMENT 'The record has no start: it belongs to the month of its close.'
        is_estimated     BOOLEAN   NOT NULL COMMENT 'The source says that the volume was not measured.'
        is_conflicting   BOOLEAN   NOT NULL COMMENT 'Another record with this key has other content.'
    """,
    key=("file_number", "record_ordinal", "interval_index", "month_part", "batch"),
    checks={"octets_not_negative": "octets_up >= 0 AND octets_down >= 0"},
    partitioned_by=("usage_month",),
    statistics=("usage_month", "batch", "closed_at"),
)

READINGS = Table(
    name="readings",
    comment="One row per accounting packet or service-flow record: what the counters of a session said at an instant.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month the counters were read in.'
        batch            BIGINT    NOT NULL COMMENT 'Batch that accepted the record.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        file_number      BIGINT    NOT NULL COMMENT 'Delivery the record was read from.'
        record_ordinal   BIGINT    NOT NULL COMMENT 'Position of the record in its file, from 1.'
        byte_offset      BIGINT    NOT NULL COMMENT 'Octet at which the record starts in the uncompressed file.'
        record_key       BINARY    NOT NULL COMMENT 'Keyed 128-bit hash of all that the record says: the same packet again is a duplicate.'
        status           STRING    NOT NULL COMMENT 'start, interim or stop of a session; reset: the network element began anew (Accounting-On, Accounting-Off).'
        node             STRING    NOT NULL COMMENT 'Network element that counts (NAS, CMTS).'
        identifier_type  STRING             COMMENT 'imsi, msisdn, line_id or mac; null of a reset.'
        identifier_key   BINARY             COMMENT 'Pseudonym of the identifier, 128 bits; null of a reset.'
        identifier_key_before BINARY        COMMENT 'The same under the keys of the month before, where this month begins with others.'
        session_key      BINARY             COMMENT 'Keyed hash of network element, identifier, session and port; an element may use it again. Null of a reset.'
        session_key_before BINARY           COMMENT 'The same under the keys of the month before, where this month begins with others.'
        started_at       TIMESTAMP          COMMENT 'When the counters began at 0: the instant of the record less the session time. Null of a reset.'
        closed_at        TIMESTAMP NOT NULL COMMENT 'When the counters were read.'
        elapsed_s        BIGINT             COMMENT 'Session time in seconds. Null of a reset.'
        counter_bits     INT       NOT NULL COMMENT 'Width of the counters: 32 where the packet has no Gigawords, else 64.'
        counter_octets_up   BIGINT          COMMENT 'Octets sent by the subscriber since the start; null if the record has none.'
        counter_octets_down BIGINT          COMMENT 'Octets received by the subscriber since the start; null if the record has none.'
        counter_packets_up   BIGINT         COMMENT 'Packets sent since the start; null if the record has none.'
        counter_packets_down BIGINT         COMMENT 'Packets received since the start; null if the record has none.'
        access_technology STRING            COMMENT 'Access technology the record names; null if it names none.'
        roaming_zone     STRING    NOT NULL COMMENT 'home or roaming.'
    """,
    key=("file_number", "record_ordinal", "batch"),
    checks={
        "status_is_known": "status IN ('start', 'interim', 'stop', 'reset')",
        "session_is_whole": "status = 'reset' OR (session_key IS NOT NULL AND identifier_key IS NOT NULL AND started_at IS NOT NULL AND elapsed_s >= 0)",
        "counters_not_negative": "coalesce(counter_octets_up, 0) >= 0 AND coalesce(counter_octets_down, 0) >= 0",
    },
    partitioned_by=("usage_month",),
    statistics=("usage_month", "batch", "closed_at"),
)

REJECTED = Table(
    name="rejected",
    comment="One row per record that was not accepted, with the reason and where to find it; never its content. Ordinal 0 is a file.",
    text="""
        batch            BIGINT    NOT NULL COMMENT 'Batch that read the record.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        file_number      BIGINT    NOT NULL COMMENT 'Delivery the record was read from.'
        record_ordinal   BIGINT    NOT NULL COMMENT 'Position of the record in its file, from 1.'
        byte_offset      BIGINT    NOT NULL COMMENT 'Octet at which the record starts in the uncompressed file; for Parquet, its row group.'
        reason           STRING    NOT NULL COMMENT 'duplicate, or what is wrong with the record.'
        detail           STRING             COMMENT 'Column of the source that is at fault; for a whole file, what is wrong with it; null if it is the record.'
        usage_month      DATE               COMMENT 'Month of the record''s close; null if it cannot be read.'
        identifier_type  STRING             COMMENT 'Type of the identifier; null if it cannot be read.'
        identifier_key   BINARY             COMMENT 'Pseudonym of the identifier; null if it cannot be read.'
        closed_at        TIMESTAMP          COMMENT 'End of the interval; null if it cannot be read.'
        record_key       BINARY             COMMENT 'Key of the record; null if it has none.'
        duplicate_of_file_number BIGINT     COMMENT 'Delivery that holds the accepted copy; null unless the record is a duplicate.'
        duplicate_of_record_ordinal BIGINT  COMMENT 'Position of the accepted copy in its file; null unless the record is a duplicate.'
    """,
    key=("file_number", "record_ordinal", "batch"),
    statistics=("batch", "reason", "usage_month"),
)

SUBSCRIPTIONS = Table(
    name="subscriptions",
    comment="One row per identifier assignment and keys: who held an identifier, from when until when.",
    text="""
        batch            BIGINT    NOT NULL COMMENT 'Batch that accepted the assignment.'
        source           STRING    NOT NULL COMMENT 'Source of the export.'
        file_number      BIGINT    NOT NULL COMMENT 'Delivery the assignment was read from.'
        record_ordinal   BIGINT    NOT NULL COMMENT 'Position of the record in its file, from 1.'
        byte_offset      BIGINT    NOT NULL COMMENT 'Octet at which the record starts in the uncompressed file.'
        keys_from        DATE      NOT NULL COMMENT 'First month of the keys of this row; an assignment has a row for each change of keys it lasts over.'
        keys_part        INT       NOT NULL COMMENT 'Position of the row among those of its record, from 0.'
        record_key       BINARY    NOT NULL COMMENT 'Keyed hash of subscription, identifier and start of the assignment.'
        subscription_key BINARY    NOT NULL COMMENT 'Pseudonym of the subscription under the serving key, 128 bits.'
        network          STRING    NOT NULL COMMENT 'fixed or mobile.'
        access_technology STRING   NOT NULL COMMENT 'Access technology of the subscription.'
        identifier_type  STRING    NOT NULL COMMENT 'imsi, msisdn, line_id or mac.'
        identifier_key   BINARY    NOT NULL COMMENT 'Pseudonym of the identifier, 128 bits.'
        assigned_from    TIMESTAMP NOT NULL COMMENT 'Start of the assignment, inclusive.'
        assigned_to      TIMESTAMP          COMMENT 'End of the assignment, exclusive; null while it lasts.'
        active_from      TIMESTAMP NOT NULL COMMENT 'Activation of the subscription, inclusive.'
        active_to        TIMESTAMP          COMMENT 'End of the subscription, exclusive; null while it lasts.'
        segment          STRING    NOT NULL COMMENT 'Customer segment as the operator names it.'
        brand            STRING    NOT NULL COMMENT 'Brand the subscription is sold under.'
        is_conflicting   BOOLEAN   NOT NULL COMMENT 'Another row for this assignment has other content: it was corrected.'
    """,
    key=("file_number", "record_ordinal", "keys_part", "batch"),
    checks={
        "network_is_known": "network IN ('fixed', 'mobile')",
        "assignment_is_ordered": "assigned_to IS NULL OR assigned_from <= assigned_to",
        "activity_is_ordered": "active_to IS NULL OR active_from <= active_to",
    },
    statistics=("batch",),
)

FILE_BALANCES = Table(
    name="file_balances",
    comment="One row per file read: every record and every octet of it accounted for against an independent count.",
    text="""
        batch            BIGINT    NOT NULL COMMENT 'Batch that read the file.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        file_number      BIGINT    NOT NULL COMMENT 'Delivery that was read.'
        records_received BIGINT    NOT NULL COMMENT 'Records counted independently of the parser (line ends, Parquet footer, CDR headers).'
        records_declared BIGINT             COMMENT 'Records the file says it holds (CDR count of TS 32.297); null if it says nothing.'
        records_lost     BIGINT             COMMENT 'Records the file says were lost before they came into it, at least (lost-CDR indicator of TS 32.297).'
        records_accepted BIGINT    NOT NULL COMMENT 'Records that count.'
        records_duplicate BIGINT   NOT NULL COMMENT 'Records received before.'
        records_rejected BIGINT    NOT NULL COMMENT 'Records refused with a reason.'
        records_out_of_scope BIGINT NOT NULL COMMENT 'Records that are not a subscriber''s data by the policy of the source.'
        out_of_scope_reasons STRING NOT NULL COMMENT 'Records out of scope by reason, JSON.'
        octets_received  BIGINT    NOT NULL COMMENT 'Octets of the file, uncompressed.'
        octets_header    BIGINT    NOT NULL COMMENT 'Octets of headers and byte-order marks.'
        octets_records   BIGINT    NOT NULL COMMENT 'Octets of records that were parsed.'
        octets_padding   BIGINT    NOT NULL COMMENT 'Octets between records: empty lines, fill.'
        octets_quarantined BIGINT  NOT NULL COMMENT 'Octets that could not be parsed into a record.'
        volume_parsed_octets BIGINT NOT NULL COMMENT 'Volume of all parsed intervals, up and down.'
        volume_accepted_octets BIGINT NOT NULL COMMENT 'Volume accepted.'
        volume_duplicate_octets BIGINT NOT NULL COMMENT 'Volume of duplicates.'
        volume_out_of_scope_octets BIGINT NOT NULL COMMENT 'Volume out of scope.'
        first_closed_at  TIMESTAMP          COMMENT 'Earliest close in the file; null if no time was read.'
        last_closed_at   TIMESTAMP          COMMENT 'Latest close in the file; null if no time was read.'
        warnings         STRING    NOT NULL COMMENT 'What is no error but must be seen, with how often, JSON.'
    """,
    key=("file_number", "batch"),
    checks={
        "records_balance": "records_received = records_accepted + records_duplicate + records_rejected + records_out_of_scope",
        "octets_balance": "octets_received = octets_header + octets_records + octets_padding + octets_quarantined",
        "volume_balance": "volume_parsed_octets = volume_accepted_octets + volume_duplicate_octets + volume_out_of_scope_octets",
    },
    statistics=("batch",),
    history_days=HISTORY_DAYS,
)

SEQUENCES = Table(
    name="sequences",
    comment="One row per file, network element and day: which of its sequence numbers came. Gaps are records that never did.",
    text="""
        batch            BIGINT    NOT NULL COMMENT 'Batch that read the file.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        file_number      BIGINT    NOT NULL COMMENT 'Delivery that was read.'
        node             STRING    NOT NULL COMMENT 'Network element that wrote the records (nodeID of TS 32.298).'
        day              DATE      NOT NULL COMMENT 'UTC day the records were opened on.'
        records          BIGINT    NOT NULL COMMENT 'Records with a sequence number.'
        first_sequence   BIGINT    NOT NULL COMMENT 'Least localSequenceNumber.'
        last_sequence    BIGINT    NOT NULL COMMENT 'Greatest localSequenceNumber.'
    """,
    key=("file_number", "node", "day", "batch"),
    statistics=("batch",),
    history_days=HISTORY_DAYS,
)

DELTAS = Table(
    name="deltas",
    comment="One row per interval between two counter readings of a session that lies in the month, wholly or in part.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month.'
        revision         INT       NOT NULL COMMENT 'Revision of the month that these rows are of or would become, from 1.'
        batch_cutoff     BIGINT    NOT NULL COMMENT 'Last batch that is counted.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        node             STRING    NOT NULL COMMENT 'Network element that counts.'
        session_key      BINARY    NOT NULL COMMENT 'Key of the session; see readings.'
        started_at       TIMESTAMP NOT NULL COMMENT 'Start of the session: with session_key it tells a session from a later one under the same id.'
        identifier_type  STRING    NOT NULL COMMENT 'imsi, msisdn, line_id or mac.'
        identifier_key   BINARY    NOT NULL COMMENT 'Pseudonym of the identifier, 128 bits.'
        opened_at        TIMESTAMP NOT NULL COMMENT 'Reading before, or the start of the session, or the month end its counters were carried over.'
        closed_at        TIMESTAMP NOT NULL COMMENT 'Reading at the end of the interval.'
        file_number      BIGINT    NOT NULL COMMENT 'Delivery of the reading at the end.'
        record_ordinal   BIGINT    NOT NULL COMMENT 'Position of the reading in its file.'
        octets_up        BIGINT    NOT NULL COMMENT 'Octets sent in this month.'
        octets_down      BIGINT    NOT NULL COMMENT 'Octets received in this month.'
        octets_before    BIGINT    NOT NULL COMMENT 'Octets of the interval that belong to months before, both directions.'
        octets_after     BIGINT    NOT NULL COMMENT 'Octets of the interval that belong to later months, both directions: the next one counts them.'
        access_technology STRING            COMMENT 'Access technology the reading names; null if it names none.'
        roaming_zone     STRING    NOT NULL COMMENT 'home or roaming.'
        month_part       INT       NOT NULL COMMENT '0: the interval lies in the month; 1: it goes on after it; 2: it began before it.'
        is_prorated      BOOLEAN   NOT NULL COMMENT 'The interval straddles a month end and was split by elapsed time.'
        is_estimated     BOOLEAN   NOT NULL COMMENT 'The octets are not known exactly; reason says why.'
        reason           STRING             COMMENT 'Why the octets are not exact; null if they are.'
        octets_unknown_at_most BIGINT NOT NULL COMMENT 'Octets that may be missing here, at most; 0 of exact ones.'
        wraps            INT       NOT NULL COMMENT 'Wraps of 32-bit counters in the interval, both directions.'
        octets_fallen    BIGINT    NOT NULL COMMENT 'Fall of a 32-bit counter that was no wrap, counted as 0.'
        octets_refused   BIGINT    NOT NULL COMMENT 'Growth of the counters that no access could have carried in the time, and that is not counted.'
        status           STRING    NOT NULL COMMENT 'start, interim or stop: of the reading at the end.'
        is_last          BOOLEAN   NOT NULL COMMENT 'No later reading of the session is known.'
        counter_bits     INT       NOT NULL COMMENT 'Width of the counters, 32 or 64.'
        base_octets      BIGINT    NOT NULL COMMENT 'Counters from which the first interval of the session in this month is counted, both directions; 0 of others.'
        counter_octets_up   BIGINT NOT NULL COMMENT 'Counter up at the end of the interval, or at the end of the month.'
        counter_octets_down BIGINT NOT NULL COMMENT 'Counter down at the end of the interval, or at the end of the month.'
        counter_packets_up   BIGINT         COMMENT 'Packets up at the end of the interval, or before it if it goes on after the month.'
        counter_packets_down BIGINT         COMMENT 'Packets down at the end of the interval, or before it if it goes on after the month.'
        is_ended         BOOLEAN   NOT NULL COMMENT 'The session ended in the month: its counters are not carried over.'
    """,
    key=("usage_month", "revision", "source", "session_key", "started_at", "file_number", "record_ordinal"),
    checks={"octets_not_negative": "octets_up >= 0 AND octets_down >= 0 AND octets_before >= 0 AND octets_after >= 0"},
    partitioned_by=("usage_month", "revision"),
    statistics=("usage_month", "revision"),
)

CARRIED = Table(
    name="carried",
    comment="Counters at the end of a month of every session that goes on: the next month counts from there.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month that ended.'
        batch_cutoff     BIGINT    NOT NULL COMMENT 'Last batch that is counted: a later look at the month has rows of its own.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        node             STRING    NOT NULL COMMENT 'Network element that counts.'
        session_key      BINARY    NOT NULL COMMENT 'Key of the session; see readings.'
        started_at       TIMESTAMP NOT NULL COMMENT 'Start of the session.'
        identifier_type  STRING    NOT NULL COMMENT 'imsi, msisdn, line_id or mac.'
        identifier_key   BINARY    NOT NULL COMMENT 'Pseudonym of the identifier, 128 bits.'
        closed_at        TIMESTAMP NOT NULL COMMENT 'Instant of the counters: the end of the month, or the last reading where no later one is known.'
        counter_bits     INT       NOT NULL COMMENT 'Width of the counters, 32 or 64.'
        counter_octets_up   BIGINT NOT NULL COMMENT 'Counter up at that instant.'
        counter_octets_down BIGINT NOT NULL COMMENT 'Counter down at that instant.'
        counter_packets_up   BIGINT         COMMENT 'Packets up at that instant, or shortly before; null if unknown.'
        counter_packets_down BIGINT         COMMENT 'Packets down at that instant, or shortly before; null if unknown.'
        access_technology STRING            COMMENT 'Access technology of the last reading; null if it named none.'
        roaming_zone     STRING    NOT NULL COMMENT 'home or roaming.'
    """,
    key=("usage_month", "batch_cutoff", "source", "session_key", "started_at"),
    partitioned_by=("usage_month", "batch_cutoff"),
    statistics=("usage_month", "batch_cutoff"),
)

COUNTER_BALANCES = Table(
    name="counter_balances",
    comment="One row per month and source of counters: first and last counters of every session against the sum of its deltas.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month.'
        batch_cutoff     BIGINT    NOT NULL COMMENT 'Last batch that is counted.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        sessions         BIGINT    NOT NULL COMMENT 'Sessions with an interval in the month.'
        sessions_lost    BIGINT    NOT NULL COMMENT 'Sessions that ended without a stop: what they used after their last reading is not known.'
        sessions_carried BIGINT    NOT NULL COMMENT 'Sessions whose counters are carried over the end of the month.'
        intervals        BIGINT    NOT NULL COMMENT 'Intervals between readings.'
        intervals_estimated BIGINT NOT NULL COMMENT 'Intervals whose octets are not known exactly.'
        estimated_reasons STRING   NOT NULL COMMENT 'Intervals not known exactly, by reason, JSON.'
        octets_unknown_at_most DECIMAL(38,0) NOT NULL COMMENT 'Octets that may be missing, at most.'
        wraps            BIGINT    NOT NULL COMMENT 'Wraps of 32-bit counters.'
        octets_first     DECIMAL(38,0) NOT NULL COMMENT 'Counters from which sessions are counted.'
        octets_last      DECIMAL(38,0) NOT NULL COMMENT 'Last counters of the sessions, at their last reading or the end of the month.'
        octets_wrapped   DECIMAL(38,0) NOT NULL COMMENT 'Wraps times 2^32.'
        octets_refused   DECIMAL(38,0) NOT NULL COMMENT 'Growth that no access could have carried, not counted.'
        octets_fallen    DECIMAL(38,0) NOT NULL COMMENT 'Falls of counters that neither wrapped nor began anew, counted as 0.'
        octets_before    DECIMAL(38,0) NOT NULL COMMENT 'Octets of months before, of intervals that straddle their end.'
        octets_of_month  DECIMAL(38,0) NOT NULL COMMENT 'Octets of the month.'
    """,
    key=("usage_month", "batch_cutoff", "source"),
    checks={
        "counters_balance": "octets_last - octets_first + octets_wrapped + octets_fallen - octets_refused = octets_before + octets_of_month"
    },
    statistics=("usage_month",),
    history_days=HISTORY_DAYS,
)

METERED = Table(
    name="metered",
    comment="Usage of one subscription in one month, by access technology and roaming zone.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month.'
        revision         INT       NOT NULL COMMENT 'Revision of the month that these rows are of or would become, from 1.'
        batch_cutoff     BIGINT    NOT NULL COMMENT 'Last batch that is counted.'
        subscription_key BINARY             COMMENT 'Pseudonym of the subscription; null for usage that is not attributed.'
        attribution      STRING    NOT NULL COMMENT 'holder; unknown_identifier: no subscription in the export held it; inactive_holder: its holder was not active in the month.'
        network          STRING             COMMENT 'fixed or mobile; for unknown identifiers, the network of the source.'
        access_technology STRING   NOT NULL COMMENT 'Technology of the record, else of the subscription; unspecified if neither is known.'
        roaming_zone     STRING    NOT NULL COMMENT 'home or roaming.'
        octets_up        BIGINT    NOT NULL COMMENT 'Octets sent.'
        octets_down      BIGINT    NOT NULL COMMENT 'Octets received.'
        intervals        BIGINT    NOT NULL COMMENT 'Intervals added up.'
        is_estimated     BOOLEAN   NOT NULL COMMENT 'Some of this volume was not measured, by the word of its source.'
    """,
    key=("usage_month", "revision", "subscription_key", "attribution", "network", "access_technology", "roaming_zone"),
    checks={"holder_is_known": "(attribution = 'holder') = (subscription_key IS NOT NULL)"},
    partitioned_by=("usage_month", "revision"),
    statistics=("usage_month", "revision"),
)

SUBSCRIBED = Table(
    name="subscribed",
    comment="Every subscription that was active in the month, with or without usage.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month.'
        revision         INT       NOT NULL COMMENT 'Revision of the month that these rows are of or would become, from 1.'
        batch_cutoff     BIGINT    NOT NULL COMMENT 'Last batch that is counted.'
        subscription_key BINARY    NOT NULL COMMENT 'Pseudonym of the subscription.'
        network          STRING    NOT NULL COMMENT 'fixed or mobile.'
        segment          STRING    NOT NULL COMMENT 'Customer segment of the latest assignment in the month.'
        brand            STRING    NOT NULL COMMENT 'Brand of the latest assignment in the month.'
        active_days      INT       NOT NULL COMMENT 'Legal days of the month on which the subscription was active.'
        is_estimated     BOOLEAN   NOT NULL COMMENT 'A record of this subscription is known to be lost in the month.'
    """,
    key=("usage_month", "revision", "subscription_key"),
    checks={"active_at_least_a_day": "active_days BETWEEN 1 AND 31", "network_is_known": "network IN ('fixed', 'mobile')"},
    partitioned_by=("usage_month", "revision"),
    statistics=("usage_month", "revision"),
)

FACTORS = Table(
    name="factors",
    comment="The emission factors in force for a month, one row per brand, network and component.",
    text="""
        factor_id        STRING    NOT NULL COMMENT 'Immutable identity: set, network, component and first month; then the version of a correction, and a hash of the parameters of an expression.'
        factor_set       STRING    NOT NULL COMMENT 'Set the factor belongs to.'
        brand            STRING    NOT NULL COMMENT 'Brand of the subscriptions it applies to.'
        network          STRING    NOT NULL COMMENT 'fixed or mobile.'
        component        STRING    NOT NULL COMMENT 'volume (A, per gigabyte) or subscription (B, per subscription and month).'
        gco2e_per_unit   DECIMAL(18,14) NOT NULL COMMENT 'Grams of CO2 equivalent per decimal gigabyte or per subscription-month.'
        gco2e_per_unit_low  DECIMAL(18,14)  COMMENT 'Lower end of the source''s interval; null if it gives none.'
        gco2e_per_unit_high DECIMAL(18,14)  COMMENT 'Upper end of the source''s interval; null if it gives none.'
        volume_basis     STRING    NOT NULL COMMENT 'Octets that count: up_and_down or down_only.'
        is_national_default BOOLEAN NOT NULL COMMENT 'The factor is the national default, not the operator''s own.'
        method_id        STRING    NOT NULL COMMENT 'Method the factor belongs to, with its text in factors/methods.'
    """,
    key=("brand", "network", "component"),
    checks={"component_is_known": "component IN ('volume', 'subscription')"},
)

ESTIMATED = Table(
    name="estimated",
    comment="One component of a subscription's footprint in a month: quantity times factor.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month.'
        revision         INT       NOT NULL COMMENT 'Revision of the month that these rows are of or would become, from 1.'
        batch_cutoff     BIGINT    NOT NULL COMMENT 'Last batch that is counted.'
        factors_id       STRING    NOT NULL COMMENT 'Hash of the factors in force for the month.'
        subscription_key BINARY    NOT NULL COMMENT 'Pseudonym of the subscription.'
        component        STRING    NOT NULL COMMENT 'volume or subscription.'
        access_technology STRING            COMMENT 'Access technology of a volume; null for the subscription component.'
        roaming_zone     STRING             COMMENT 'home or roaming of a volume; null for the subscription component.'
        network          STRING    NOT NULL COMMENT 'fixed or mobile.'
        brand            STRING    NOT NULL COMMENT 'Brand of the subscription.'
        quantity         DECIMAL(17,9) NOT NULL COMMENT 'Decimal gigabytes (exact to the octet), or subscription-months.'
        quantity_unit    STRING    NOT NULL COMMENT 'GB or subscription-month.'
        factor_id        STRING    NOT NULL COMMENT 'Factor applied.'
        factor_set       STRING    NOT NULL COMMENT 'Set of the factor.'
        gco2e_per_unit   DECIMAL(18,14) NOT NULL COMMENT 'Factor applied, grams of CO2 equivalent per unit of the quantity.'
        volume_basis     STRING    NOT NULL COMMENT 'Octets that the factor counts: up_and_down or down_only.'
        gco2e            DECIMAL(24,12) NOT NULL COMMENT 'Quantity times factor, half up to 12 places.'
        gco2e_low        DECIMAL(24,12)     COMMENT 'With the lower end of the factor; null if the source gives none.'
        gco2e_high       DECIMAL(24,12)     COMMENT 'With the upper end of the factor; null if the source gives none.'
        is_estimated     BOOLEAN   NOT NULL COMMENT 'Some of the volume was not measured, or a record of it is known to be lost.'
        is_national_default BOOLEAN NOT NULL COMMENT 'The factor is the national default, not the operator''s own.'
        method_id        STRING    NOT NULL COMMENT 'Method of the factor.'
    """,
    key=("usage_month", "revision", "subscription_key", "component", "access_technology", "roaming_zone"),
    checks={
        "quantity_not_negative": "quantity >= 0",
        "gco2e_not_negative": "gco2e >= 0",
        "interval_holds_value": "(gco2e_low IS NULL OR gco2e_low <= gco2e) AND (gco2e_high IS NULL OR gco2e <= gco2e_high)",
    },
    partitioned_by=("usage_month", "revision"),
    statistics=("usage_month", "revision"),
)

EVIDENCE = Table(
    name="evidence",
    comment="What verify measured: one row per network and rule. No value of a subscriber.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'Month judged.'
        verdict_id       BIGINT    NOT NULL COMMENT 'Verdict this is the evidence of.'
        network          STRING    NOT NULL COMMENT 'fixed, mobile or all.'
        rule             STRING    NOT NULL COMMENT 'Rule of data_quality.'
        measured         DECIMAL(38,12) COMMENT 'What was measured: violations, a share, a sum; null if there was nothing to measure.'
        lowest           DECIMAL(38,12)     COMMENT 'Least value that passes; null if there is none.'
        highest          DECIMAL(38,12)     COMMENT 'Greatest value that passes; null if there is none.'
        unit             STRING    NOT NULL COMMENT 'Unit of the measured value.'
        is_blocking      BOOLEAN   NOT NULL COMMENT 'A failure stops publication; otherwise it is a warning.'
        passed           BOOLEAN   NOT NULL COMMENT 'Judgement of Great Expectations.'
    """,
    key=("verdict_id", "network", "rule"),
    history_days=HISTORY_DAYS,
)

EVIDENCE_RECEIVED = Table(
    name="evidence_received",
    comment="What was received of each source for a month that was judged, and what became of it, by the month its files closed in.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'Month judged.'
        verdict_id       BIGINT    NOT NULL COMMENT 'Verdict this is the evidence of.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        is_without_time  BOOLEAN   NOT NULL COMMENT 'Files without the time of a record, such as exports of subscriptions: every month rests on them, so each month counts them. Other files count once, in the legal month of their last record.'
        files            BIGINT    NOT NULL COMMENT 'Files read, each content once.'
        records_received BIGINT    NOT NULL COMMENT 'Records counted independently of the parser.'
        records_accepted BIGINT    NOT NULL COMMENT 'Records that count.'
        records_duplicate BIGINT   NOT NULL COMMENT 'Records received before.'
        records_rejected BIGINT    NOT NULL COMMENT 'Records refused with a reason.'
        records_out_of_scope BIGINT NOT NULL COMMENT 'Records out of scope by the policy of the source.'
        octets_received  DECIMAL(38,0) NOT NULL COMMENT 'Octets of the files, uncompressed.'
        octets_quarantined DECIMAL(38,0) NOT NULL COMMENT 'Octets that could not be parsed into a record.'
        volume_parsed_octets DECIMAL(38,0) NOT NULL COMMENT 'Volume of all parsed intervals, up and down.'
        volume_accepted_octets DECIMAL(38,0) NOT NULL COMMENT 'Volume accepted.'
        volume_duplicate_octets DECIMAL(38,0) NOT NULL COMMENT 'Volume of duplicates.'
        volume_out_of_scope_octets DECIMAL(38,0) NOT NULL COMMENT 'Volume out of scope.'
    """,
    key=("verdict_id", "source", "is_without_time"),
    history_days=HISTORY_DAYS,
)

EVIDENCE_DAYS = Table(
    name="evidence_days",
    comment="What came of each source on each day of a month that was judged, beside what its network elements numbered.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'Month judged.'
        verdict_id       BIGINT    NOT NULL COMMENT 'Verdict this is the evidence of.'
        source           STRING    NOT NULL COMMENT 'Mediation source.'
        day              DATE      NOT NULL COMMENT 'Legal day on which intervals closed; for numbered records, the UTC day on which they were opened.'
        intervals        BIGINT    NOT NULL COMMENT 'Intervals that count, or that were counted between readings; 0 on a day without any.'
        octets           BIGINT    NOT NULL COMMENT 'Their octets in the month, up and down.'
        octets_share_of_median DECIMAL(18,6) COMMENT 'Octets over the median day of the source: under a tenth it is a silent day. Null outside the month, or if the median is 0.'
        nodes            BIGINT    NOT NULL COMMENT 'Network elements that numbered records; 0 if none does.'
        records_numbered BIGINT    NOT NULL COMMENT 'Records with a sequence number.'
        records_missing  BIGINT    NOT NULL COMMENT 'Sequence numbers that no file of the source holds, missed on this day: records that never came.'
    """,
    key=("verdict_id", "source", "day"),
    history_days=HISTORY_DAYS,
)

EVIDENCE_FACTORS = Table(
    name="evidence_factors",
    comment="Which factor was applied to how much of a month that was judged, and what came of it.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'Month judged.'
        verdict_id       BIGINT    NOT NULL COMMENT 'Verdict this is the evidence of.'
        network          STRING    NOT NULL COMMENT 'fixed or mobile.'
        component        STRING    NOT NULL COMMENT 'volume or subscription.'
        factor_id        STRING    NOT NULL COMMENT 'Factor applied.'
        gco2e_per_unit   DECIMAL(18,14) NOT NULL COMMENT 'The factor, grams of CO2 equivalent per unit of the quantity.'
        is_national_default BOOLEAN NOT NULL COMMENT 'The factor is the national default, not the operator''s own.'
        subscriptions    BIGINT    NOT NULL COMMENT 'Subscriptions it was applied to.'
        quantity         DECIMAL(38,9) NOT NULL COMMENT 'Decimal gigabytes, or subscription-months.'
        quantity_unit    STRING    NOT NULL COMMENT 'GB or subscription-month.'
        gco2e            DECIMAL(38,12) NOT NULL COMMENT 'Grams of CO2 equivalent.'
    """,
    key=("verdict_id", "network", "component", "factor_id"),
    history_days=HISTORY_DAYS,
)

VERDICTS = Table(
    name="verdicts",
    comment="One row per judgement of a month: whether it is fit to publish.",
    text="""
        verdict_id       BIGINT    NOT NULL COMMENT 'Number of the verdict, from 1.'
        usage_month      DATE      NOT NULL COMMENT 'Month judged.'
        revision         INT       NOT NULL COMMENT 'Revision of the month that was judged, or that it would have become.'
        batch_cutoff     BIGINT    NOT NULL COMMENT 'Last batch that was counted.'
        factors_id       STRING    NOT NULL COMMENT 'Hash of the factors in force.'
        code_version     STRING    NOT NULL COMMENT 'Version of the code.'
        passed           BOOLEAN   NOT NULL COMMENT 'No blocking rule failed.'
        rules            INT       NOT NULL COMMENT 'Rules judged.'
        failures         INT       NOT NULL COMMENT 'Blocking rules that failed.'
        warnings         INT       NOT NULL COMMENT 'Other rules that failed.'
        summary          STRING    NOT NULL COMMENT 'The failed rules with what was measured, in words.'
        judged_at        TIMESTAMP NOT NULL COMMENT 'When it was judged.'
    """,
    key=("verdict_id",),
    history_days=HISTORY_DAYS,
)

_PUBLISHED_COLUMNS = """
        subscription_key STRING    NOT NULL COMMENT 'Pseudonym of the subscription, 32 hexadecimal digits; billing derives it with the serving key.'
        usage_month      DATE      NOT NULL COMMENT 'First day of the legal month the data was used in.'
        network          STRING    NOT NULL COMMENT 'fixed or mobile: the type of subscription of the decree.'
        brand            STRING    NOT NULL COMMENT 'Brand the subscription is sold under.'
        data_volume_bytes BIGINT   NOT NULL COMMENT 'Bytes that count under the factor''s volume basis.'
        data_volume_gb_displayed BIGINT NOT NULL COMMENT 'Volume in decimal gigabytes, half up to the unit, as the decree displays it.'
        is_estimated     BOOLEAN   NOT NULL COMMENT 'Display « données estimées »: some of the volume was not measured.'
        volume_gco2e     DECIMAL(24,12) NOT NULL COMMENT 'Grams of CO2 equivalent of the volume.'
        subscription_gco2e DECIMAL(24,12) NOT NULL COMMENT 'Grams of CO2 equivalent of the subscription itself.'
        footprint_gco2e  DECIMAL(24,12) NOT NULL COMMENT 'Grams of CO2 equivalent, unrounded.'
        footprint_gco2e_low DECIMAL(24,12)  COMMENT 'Lower end of the interval; null where the sources give none.'
        footprint_gco2e_high DECIMAL(24,12) COMMENT 'Upper end of the interval; null where the sources give none.'
        footprint_gco2e_displayed BIGINT NOT NULL COMMENT 'Grams of CO2 equivalent, half up to the unit, from the unrounded value.'
        factor_set       STRING    NOT NULL COMMENT 'Factor set applied.'
        is_national_default BOOLEAN NOT NULL COMMENT 'National default factors, not the operator''s own.'
        method_id        STRING    NOT NULL COMMENT 'Method, whose summary is in method_texts.'
        revision         INT       NOT NULL COMMENT 'Revision of the month, from 1.'
        publication_id   BIGINT    NOT NULL COMMENT 'Publication the row belongs to.'
"""
_PUBLISHED_CHECKS = {
    "volume_not_negative": "data_volume_bytes >= 0",
    "footprint_is_its_parts": "footprint_gco2e = volume_gco2e + subscription_gco2e",
    "footprint_not_negative": "volume_gco2e >= 0 AND subscription_gco2e >= 0",
}

REVISIONS = Table(
    name="revisions",
    comment="Every revision of every published row. Rows whose publication_id is not in publications were never published.",
    text=_PUBLISHED_COLUMNS,
    key=("publication_id", "subscription_key"),
    checks=_PUBLISHED_CHECKS,
    partitioned_by=("usage_month",),
    statistics=("usage_month", "publication_id"),
    history_days=HISTORY_DAYS,
)

PUBLISHED = Table(
    name="published",
    comment="Data used and its greenhouse-gas equivalent, per subscription and month (LCEN art. 6 I 1 bis, AGEC art. 13 III).",
    text=_PUBLISHED_COLUMNS,
    key=("subscription_key", "usage_month"),
    checks=_PUBLISHED_CHECKS,
    partitioned_by=("usage_month",),
    statistics=("usage_month", "publication_id"),
    history_days=HISTORY_DAYS,
)

PUBLICATIONS = Table(
    name="publications",
    comment="The ledger: one row per publication of a month. It is the truth of what is published.",
    text="""
        publication_id   BIGINT    NOT NULL COMMENT 'Number of the publication, ever increasing.'
        usage_month      DATE      NOT NULL COMMENT 'Month published.'
        revision         INT       NOT NULL COMMENT 'Revision of the month, from 1.'
        supersedes_publication_id BIGINT    COMMENT 'Publication of the month before this one; null for the first.'
        reason           STRING    NOT NULL COMMENT 'Why it was published.'
        approver         STRING             COMMENT 'Who approved a restatement, as told when it was asked for; null if nobody was named.'
        batch_cutoff     BIGINT    NOT NULL COMMENT 'Last batch that is counted.'
        factors_id       STRING    NOT NULL COMMENT 'Hash of the factors in force.'
        factor_sets      STRING    NOT NULL COMMENT 'Factor sets in force, comma separated.'
        code_version     STRING    NOT NULL COMMENT 'Version of the code.'
        lock_hash        STRING             COMMENT 'SHA-256 of .setup/pipeline.lock, the packages that the code ran with; null where it ran without that file.'
        verdict_id       BIGINT    NOT NULL COMMENT 'Verdict that let it pass.'
        subscriptions    BIGINT    NOT NULL COMMENT 'Rows published.'
        data_volume_bytes BIGINT   NOT NULL COMMENT 'Sum of the volume published.'
        footprint_gco2e  DECIMAL(38,12) NOT NULL COMMENT 'Sum of the unrounded grams published.'
        figures_hash     STRING    NOT NULL COMMENT 'SHA-256 over the sorted rows without keys or times: equal figures, equal hash.'
        rows_hash        STRING    NOT NULL COMMENT 'The same with subscription keys; internal.'
        published_at     TIMESTAMP NOT NULL COMMENT 'When it was published.'
    """,
    key=("publication_id",),
    statistics=("publication_id", "usage_month"),
    history_days=HISTORY_DAYS,
)

TOTALS_BY = ("network", "brand", "segment")
"""What sums of a publication are told by, besides the national total."""

PUBLISHED_TOTALS = Table(
    name="published_totals",
    comment="Sums of a publication in all and by network, brand and segment: those of each group add up to the total. Rows whose publication_id is not in publications do not count.",
    text="""
        publication_id   BIGINT    NOT NULL COMMENT 'Publication whose rows are added up.'
        usage_month      DATE      NOT NULL COMMENT 'Month published.'
        revision         INT       NOT NULL COMMENT 'Revision of the month.'
        grouped_by       STRING    NOT NULL COMMENT 'all (the national total), network, brand or segment.'
        name             STRING    NOT NULL COMMENT 'The network, brand or segment; all for the total.'
        subscriptions    BIGINT    NOT NULL COMMENT 'Rows published.'
        data_volume_bytes DECIMAL(38,0) NOT NULL COMMENT 'Sum of the exact bytes.'
        data_volume_gb_displayed DECIMAL(38,0) NOT NULL COMMENT 'Sum of the decimal gigabytes as displayed, row by row.'
        footprint_gco2e  DECIMAL(38,12) NOT NULL COMMENT 'Sum of the unrounded grams of CO2 equivalent.'
        footprint_gco2e_displayed DECIMAL(38,0) NOT NULL COMMENT 'Sum of the grams as displayed, row by row.'
        residual_bytes   DECIMAL(38,0) NOT NULL COMMENT 'What display rounding adds: the displayed volume less the exact one.'
        residual_gco2e   DECIMAL(38,12) NOT NULL COMMENT 'What display rounding adds: the displayed grams less the exact ones.'
    """,
    key=("publication_id", "grouped_by", "name"),
    checks={"group_is_known": "grouped_by IN ('all', 'network', 'brand', 'segment')"},
    statistics=("publication_id", "usage_month"),
    history_days=HISTORY_DAYS,
)

RESTATEMENTS = Table(
    name="restatements",
    comment="One row per restatement, network and cause: what changed the figures of a month. Rows whose publication_id is not in publications do not count.",
    text="""
        publication_id   BIGINT    NOT NULL COMMENT 'Publication that restated the month.'
        usage_month      DATE      NOT NULL COMMENT 'Month restated.'
        revision         INT       NOT NULL COMMENT 'Revision it became; the difference is to the one before.'
        network          STRING    NOT NULL COMMENT 'fixed or mobile.'
        cause            STRING    NOT NULL COMMENT 'late_usage: records that count now and did not; withdrawn: records that no longer count; subscriptions: holders, activity, network or brand corrected; factors; hypotheses: which octets count; code: the same inputs under the code of now; rounding: of single products to 12 places.'
        octets           BIGINT    NOT NULL COMMENT 'Change of the volume by this cause.'
        gco2e            DECIMAL(38,24) NOT NULL COMMENT 'Change of the grams by this cause, exact; the causes add up to the difference of the two publications.'
        subscriptions    BIGINT    NOT NULL COMMENT 'Subscriptions of the network that this cause touches.'
    """,
    key=("publication_id", "network", "cause"),
    checks={
        "cause_is_known": "cause IN ('late_usage', 'withdrawn', 'subscriptions', 'factors', 'hypotheses', 'code', 'rounding')",
        "restates_a_revision": "revision > 1",
    },
    statistics=("publication_id", "usage_month"),
    history_days=HISTORY_DAYS,
)

CORRECTIONS = Table(
    name="corrections",
    comment="One row per restatement and subscription that billing is told of: what it was told before, and what stands now.",
    text="""
        subscription_key STRING    NOT NULL COMMENT 'Pseudonym of the subscription, as in published.'
        usage_month      DATE      NOT NULL COMMENT 'Month restated.'
        from_revision    INT       NOT NULL COMMENT 'Revision corrected.'
        to_revision      INT       NOT NULL COMMENT 'Revision that stands now.'
        publication_id   BIGINT    NOT NULL COMMENT 'Publication that restated the month.'
        reason           STRING    NOT NULL COMMENT 'Why the month was restated.'
        data_volume_bytes_before BIGINT     COMMENT 'Bytes before; null if the subscription was not published.'
        data_volume_bytes_after BIGINT      COMMENT 'Bytes now; null if the subscription is no longer published.'
        data_volume_gb_displayed_before BIGINT COMMENT 'Decimal gigabytes displayed before; null as above.'
        data_volume_gb_displayed_after BIGINT COMMENT 'Decimal gigabytes to display now; null as above.'
        footprint_gco2e_before DECIMAL(24,12) COMMENT 'Grams of CO2 equivalent before, unrounded; null as above.'
        footprint_gco2e_after DECIMAL(24,12) COMMENT 'Grams of CO2 equivalent now, unrounded; null as above.'
        footprint_gco2e_displayed_before BIGINT COMMENT 'Grams displayed before; null as above.'
        footprint_gco2e_displayed_after BIGINT COMMENT 'Grams to display now; null as above.'
    """,
    key=("publication_id", "subscription_key"),
    checks={"corrects_an_earlier_revision": "from_revision < to_revision"},
    partitioned_by=("usage_month",),
    statistics=("usage_month", "publication_id"),
    history_days=HISTORY_DAYS,
)

STAGE_RUNS = Table(
    name="stage_runs",
    comment="One row per stage of a month that ended its work, with how long it took. A stage that stopped on the way has none.",
    text="""
        usage_month      DATE      NOT NULL COMMENT 'Month the stage was called for; land and accept take files of any month.'
        stage            STRING    NOT NULL COMMENT 'land, accept, meter, estimate, verify, publish or restate.'
        began_at         TIMESTAMP NOT NULL COMMENT 'When its work began: Spark had started, and the lake was held.'
        ended_at         TIMESTAMP NOT NULL COMMENT 'When its work was done.'
        code_version     STRING    NOT NULL COMMENT 'Version of the code.'
    """,
    key=("usage_month", "stage", "began_at"),
    checks={"ends_after_it_began": "began_at <= ended_at"},
    history_days=HISTORY_DAYS,
)

METHOD_TEXTS = Table(
    name="method_texts",
    comment="Summary of each calculation method in each language, for display beside a figure.",
    text="""
        method_id        STRING    NOT NULL COMMENT 'Method, as in published.'
        language         STRING    NOT NULL COMMENT 'Language of the text, ISO 639-1.'
        text             STRING    NOT NULL COMMENT 'Summary of the method.'
    """,
    key=("method_id", "language"),
)

KEYS = Table(
    name="keys",
    comment="Fingerprints of the pseudonymisation keys this lake was written with. Never a key.",
    text="""
        key_name         STRING    NOT NULL COMMENT 'identifier or serving.'
        serves_from      DATE      NOT NULL COMMENT 'First month it serves; it serves until the next key of its name does.'
        fingerprint      STRING    NOT NULL COMMENT 'SHA-256 of a fixed label under the key, first 16 hexadecimal digits.'
        registered_at    TIMESTAMP NOT NULL COMMENT 'When the key was registered.'
    """,
    key=("key_name", "serves_from"),
)

ERASURES = Table(
    name="erasures",
    comment="What was erased and why: that figures are gone is known, not whose they were.",
    text="""
        kind             STRING    NOT NULL COMMENT 'records or figures of a whole month, or the figures of a subscription.'
        usage_month      DATE      NOT NULL COMMENT 'Month erased from.'
        reason           STRING    NOT NULL COMMENT 'Why.'
        erased_at        TIMESTAMP NOT NULL COMMENT 'When it was decided; the rows go at once, Delta''s old files with the next upkeep.'
    """,
    key=("kind", "usage_month", "erased_at"),
    checks={"kind_is_known": "kind IN ('records', 'figures', 'subscription')"},
    history_days=HISTORY_DAYS,
)

TABLES = (
    LANDED,
    BATCHES,
    ACCEPTED,
    READINGS,
    REJECTED,
    SUBSCRIPTIONS,
    FILE_BALANCES,
    SEQUENCES,
    DELTAS,
    CARRIED,
    COUNTER_BALANCES,
    METERED,
    SUBSCRIBED,
    ESTIMATED,
    EVIDENCE,
    EVIDENCE_RECEIVED,
    EVIDENCE_DAYS,
    EVIDENCE_FACTORS,
    VERDICTS,
    REVISIONS,
    PUBLISHED,
    PUBLICATIONS,
    PUBLISHED_TOTALS,
    RESTATEMENTS,
    CORRECTIONS,
    STAGE_RUNS,
    KEYS,
    ERASURES,
)
"""Every Delta table of the lake. FACTORS is a declaration only: factors live in data files and are broadcast. METHOD_TEXTS, which
come from them too, are in PostgreSQL alone."""
