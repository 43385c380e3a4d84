-- Tables of the lake that the path itself needs. clean.<target> tables are made from the contracts.
CREATE TABLE IF NOT EXISTS lake.ops.layout_done (table_name VARCHAR);

-- Bytes of small files, so that any day can be gated again from raw.
CREATE TABLE IF NOT EXISTS lake.raw.file (delivery_id VARCHAR, source VARCHAR, day DATE, content BLOB);
CREATE TABLE IF NOT EXISTS lake.raw_closed.file (delivery_id VARCHAR, source VARCHAR, day DATE, content BLOB);

-- The ledger only grows: what landed, every arrival of it, and what came of it.
CREATE TABLE IF NOT EXISTS lake.ops.landed (
    delivery_id VARCHAR, source VARCHAR, name VARCHAR, sha256 VARCHAR, bytes BIGINT,
    received_at TIMESTAMP, as_of TIMESTAMP, day DATE, stored VARCHAR
);
CREATE TABLE IF NOT EXISTS lake.ops.arrival (delivery_id VARCHAR, source VARCHAR, name VARCHAR, day DATE, arrived_at TIMESTAMP);
CREATE TABLE IF NOT EXISTS lake.ops.outcome (
    delivery_id VARCHAR, source VARCHAR, day DATE, status VARCHAR, reason VARCHAR,
    rows_read BIGINT, rows_accepted BIGINT, rows_duplicate BIGINT, rows_quarantined BIGINT,
    published_at TIMESTAMP, run_id VARCHAR, seq BIGINT
);
-- Landed and not yet gated. Emptied by each publish, so that a run never looks through the whole ledger.
-- `only_waiting`: of the delivery only the quarantined rows are gated again, as a register changed that they wait for.
CREATE TABLE IF NOT EXISTS lake.ops.pending (delivery_id VARCHAR, source VARCHAR, day DATE);
ALTER TABLE lake.ops.pending ADD COLUMN IF NOT EXISTS only_waiting BOOLEAN;
DROP TABLE IF EXISTS lake.ops.waiting;
-- Rows that lost to a row of another value under the same key in the same delivery: which of the two is meant it does not say.
CREATE TABLE IF NOT EXISTS lake.ops.conflict (delivery_id VARCHAR, source VARCHAR, day DATE, rows BIGINT);
-- What lies in an inbox and is never taken, as of the last look (ingestion/landing.py, `unclaimed`); folder '' is the inbox itself.
CREATE TABLE IF NOT EXISTS lake.ops.unclaimed (folder VARCHAR, name VARCHAR, bytes BIGINT, seen_at TIMESTAMP);
-- What a publish changed; marts recompute exactly this.
CREATE TABLE IF NOT EXISTS lake.ops.affected (seq BIGINT, source VARCHAR, target VARCHAR, unit VARCHAR, day DATE);
CREATE TABLE IF NOT EXISTS lake.ops.build (
    build_id VARCHAR, affected_to BIGINT, as_of TIMESTAMP, project_hash VARCHAR, finished_at TIMESTAMP
);
-- `part`: the part of the dbt project that was built (marts/build.py, part_of); NULL is the whole of it
ALTER TABLE lake.ops.build ADD COLUMN IF NOT EXISTS part VARCHAR;
-- Builds that began and did not end: their tables (NULL is all). Rows that one of them made may have broken a test that nobody has judged.
CREATE TABLE IF NOT EXISTS lake.ops.building (build_id VARCHAR, tables VARCHAR[], began_at TIMESTAMP);
-- What each mart, table and seed is made of (dbt_project/macros/built.sql): the newest publish seen, the moment, the hash of what decides it.
CREATE TABLE IF NOT EXISTS lake.ops.built (model VARCHAR, affected_to BIGINT, as_of TIMESTAMP, hash VARCHAR, part VARCHAR);
-- What the last builds held back: tables that stay as they were, since when, and the model that failed.
CREATE TABLE IF NOT EXISTS lake.ops.held (model VARCHAR, cause VARCHAR, reason VARCHAR, since TIMESTAMP, is_built BOOLEAN);
CREATE TABLE IF NOT EXISTS lake.ops.pin (snapshot_id BIGINT, purpose VARCHAR, pinned_at TIMESTAMP, until TIMESTAMP);
ALTER TABLE lake.ops.pin ADD COLUMN IF NOT EXISTS until TIMESTAMP;
-- Homes that may write into this lake: one, or several that share data path, token key and landing folder.
CREATE TABLE IF NOT EXISTS lake.ops.home (
    home_id VARCHAR, host VARCHAR, path VARCHAR, data_path VARCHAR, key_fingerprint VARCHAR, landing VARCHAR
);
CREATE TABLE IF NOT EXISTS lake.ops.gate_result (
    run_id VARCHAR, source VARCHAR, seq BIGINT, deliveries BIGINT, rows_read BIGINT, success BOOLEAN, bad_share DOUBLE,
    failed VARCHAR[], seconds DOUBLE, judged_at TIMESTAMP
);
CREATE TABLE IF NOT EXISTS lake.ops.closed_access (accessed_at TIMESTAMP, os_user VARCHAR, reason VARCHAR, statement VARCHAR);
CREATE TABLE IF NOT EXISTS lake.ops.handover (
    handover_id VARCHAR, receiver VARCHAR, agreement VARCHAR, product VARCHAR, snapshot_id BIGINT, period_from DATE, period_to DATE,
    rows BIGINT, files VARCHAR[], sha256 VARCHAR[], handed_over_at TIMESTAMP, expires_on DATE, requested_by VARCHAR, status VARCHAR, package VARCHAR
);
-- preparing (logged, not yet at its place), handed_over, abandoned; `package` is the folder below extracts/
ALTER TABLE lake.ops.handover ADD COLUMN IF NOT EXISTS package VARCHAR;
CREATE TABLE IF NOT EXISTS lake.ops.source (
    source VARCHAR, title_vi VARCHAR, description_vi VARCHAR, owner_unit VARCHAR, owner_contact VARCHAR, terms VARCHAR, target VARCHAR,
    load VARCHAR, sensitivity VARCHAR, cadence_minutes INTEGER, lateness_minutes INTEGER, tolerated_bad_share DOUBLE, retention_days INTEGER
);
-- `datings`: the ways in which its contract read the time of a delivery, the one in force last
ALTER TABLE lake.ops.source ADD COLUMN IF NOT EXISTS datings VARCHAR[];
CREATE TABLE IF NOT EXISTS lake.ops.source_column (
    source VARCHAR, column_name VARCHAR, headers VARCHAR[], type VARCHAR, is_personal BOOLEAN
);

-- Deliveries that spoke for a scope of a snapshot target (a commune, or a whole source); the one with the greatest (as_of, received_at, delivery_id) counts.
CREATE TABLE IF NOT EXISTS lake.ops.scope (
    source VARCHAR, target VARCHAR, scope_key VARCHAR, delivery_id VARCHAR, as_of TIMESTAMP, received_at TIMESTAMP
);

-- What the registers said of codes and of spellings when a source of readings was last gated: a change of it re-gates what it moves.
CREATE TABLE IF NOT EXISTS lake.ops.resolution (
    source VARCHAR, seq BIGINT, code VARCHAR, station_id VARCHAR, matrix VARCHAR, name_in_file VARCHAR, parameter VARCHAR
);

-- Rows that could not be placed. Personal columns are masked here; the closed twin holds the text as it came.
CREATE TABLE IF NOT EXISTS lake.quarantine.row (
    delivery_id VARCHAR, source VARCHAR, target VARCHAR, day DATE, line INTEGER, raw_text VARCHAR,
    reasons VARCHAR[], details VARCHAR, received_at TIMESTAMP
);
CREATE TABLE IF NOT EXISTS lake.quarantine_closed.row (
    delivery_id VARCHAR, source VARCHAR, target VARCHAR, day DATE, line INTEGER, raw_text VARCHAR,
    reasons VARCHAR[], details VARCHAR, received_at TIMESTAMP
);

-- One row a delivery: the ledger as people ask for it.
CREATE VIEW IF NOT EXISTS lake.ops.delivery AS
SELECT
    l.delivery_id, l.source, l.name, l.sha256, l.bytes, l.received_at, l.as_of, l.day,
    coalesce(o.status, 'landed') AS status, o.reason,
    o.rows_read, o.rows_accepted, o.rows_duplicate, o.rows_quarantined, o.published_at, o.run_id, l.stored
FROM lake.ops.landed AS l
LEFT JOIN (
    SELECT * FROM lake.ops.outcome
    QUALIFY row_number() OVER (PARTITION BY day, delivery_id ORDER BY seq DESC) = 1
) AS o ON l.day = o.day AND l.delivery_id = o.delivery_id;
