-- Typed rows of a station source become readings: canonical station, parameter and unit, and what the file itself says of the value.
-- Range and time in use are judged by the marts (reading_qc), so that it does not matter when a register arrives.
-- A row that cannot be placed keeps NULL in matrix, parameter, unit or measured_at; the suite `reading` says so.
CREATE OR REPLACE TEMP TABLE spelling AS
WITH spelled AS (
    SELECT DISTINCT station_id, parameter AS name_in_file, unit AS unit_in_file FROM {typed}
),
placed AS (
    SELECT
        s.station_id AS code, coalesce(k.station_id, s.station_id) AS station_id, s.name_in_file, s.unit_in_file, k.matrix,
        -- a spelling that the register gives to two parameters is none
        CASE WHEN own.station_id IS NULL THEN coalesce(canonical.parameter, alias.parameter) ELSE own.parameter END AS parameter
    FROM spelled AS s
    LEFT JOIN known_station AS k ON s.station_id = k.code
    -- the station's own spelling first, then the canonical symbol, then the spellings seen in the country
    LEFT JOIN known_name AS own ON k.station_id = own.station_id AND clean_text(s.name_in_file) = own.name_in_file
    LEFT JOIN (SELECT DISTINCT matrix, parameter FROM seed_parameter) AS canonical
        ON canonical.matrix = k.matrix AND canonical.parameter = clean_text(s.name_in_file)
    LEFT JOIN seed_parameter_alias AS alias ON alias.name_in_file = clean_text(s.name_in_file)
)
SELECT
    p.code, p.station_id, p.name_in_file, p.unit_in_file, p.matrix,
    c.parameter, u.unit, CAST(u.factor AS DECIMAL(16, 10)) AS factor, CAST(u."offset" AS DECIMAL(16, 10)) AS shift
FROM placed AS p
-- a parameter is known where the matrix of the station has it
LEFT JOIN seed_parameter AS c ON c.matrix = p.matrix AND c.parameter = p.parameter
LEFT JOIN seed_unit_alias AS u
    ON u.unit = c.unit AND u.unit_text = coalesce(clean_text(p.unit_in_file), '') AND u.parameter IN ('', c.parameter)
QUALIFY row_number() OVER (PARTITION BY p.code, p.name_in_file, p.unit_in_file ORDER BY u.parameter DESC NULLS LAST) = 1;

CREATE OR REPLACE TABLE {into} AS
WITH scaled AS (
    SELECT
        t.* EXCLUDE (station_id, parameter, unit, value, status),
        -- a station's files may bear a former code: its series stays one
        coalesce(s.station_id, t.station_id) AS station_id,
        -- what depends on an unknown is not judged: one reason a row, the first
        s.matrix, CASE WHEN s.matrix IS NULL THEN coalesce(t.parameter, '') ELSE s.parameter END AS parameter,
        CASE WHEN s.parameter IS NULL THEN coalesce(t.unit, '') ELSE s.unit END AS unit,
        t.parameter AS name_in_file, t.unit AS unit_in_file,
        nullif(t.status, '') AS status,
        CASE
            WHEN s.factor = 1 AND s.shift = 0 THEN t.value
            ELSE TRY_CAST(CAST(t.value AS DECIMAL(22, 6)) * s.factor + s.shift AS DECIMAL(18, 6))
        END AS value_reported
    FROM {typed} AS t
    LEFT JOIN spelling AS s
        ON t.station_id = s.code
        AND t.parameter IS NOT DISTINCT FROM s.name_in_file
        AND t.unit IS NOT DISTINCT FROM s.unit_in_file
),
reasoned AS (
    SELECT
        *,
        CASE
            WHEN status = '02' THEN 'status_device_error'
            WHEN status = '01' THEN 'status_calibrating'
            WHEN status IS NOT NULL AND status <> '00' THEN 'status_unknown'
            WHEN value_reported IS NULL AND len(_notes) > 0 THEN 'value_unreadable'
            WHEN value_reported IS NULL THEN 'value_missing'
            WHEN status IS NULL THEN 'status_missing'
        END AS reason
    FROM scaled
)
SELECT
    station_id, parameter, measured_at, CAST({span_minutes} AS SMALLINT) AS span_minutes,
    -- status 02 comes with a 0 that means nothing: never kept as a figure
    CASE WHEN status = '02' THEN NULL ELSE value_reported END AS value_reported,
    CASE WHEN coalesce(reason, 'status_missing') = 'status_missing' THEN value_reported END AS value_valid,
    status, reason,
    matrix, unit, name_in_file, unit_in_file,
    _received_at + INTERVAL {future_minutes} MINUTE AS latest_time,
    _source, _delivery_id, _line, _as_of, _received_at, _day, _reasons, _details, _notes
FROM reasoned;
