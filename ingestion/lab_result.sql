-- Typed rows of a laboratory become results: station, parameter and unit by register and reference, figures in the parameter's unit.
-- What is not known keeps NULL in matrix, parameter or unit; the suite `lab_result` says so. Case and blanks of a spelling do not count.
CREATE OR REPLACE TABLE {into} AS
WITH folded AS (
    SELECT t.*, lower(replace(t.parameter, ' ', '')) AS parameter_text,
        lower(replace(replace(coalesce(t.unit, ''), ' ', ''), 'μ', 'µ')) AS unit_text
    FROM {typed} AS t
),
spelling AS (
    SELECT lower(replace(parameter, ' ', '')) AS text, parameter FROM seed_lab_parameter
    UNION
    SELECT lower(replace(text, ' ', '')), parameter FROM seed_lab_alias
),
named AS (
    SELECT f.*, s.parameter AS known_parameter, p.unit AS known_unit
    FROM folded AS f
    LEFT JOIN spelling AS s ON f.parameter_text = s.text
    LEFT JOIN seed_lab_parameter AS p ON s.parameter = p.parameter
),
measured AS (
    SELECT DISTINCT lower(replace(replace(unit_text, ' ', ''), 'μ', 'µ')) AS text, unit, CAST(factor AS DECIMAL(16, 10)) AS factor FROM seed_lab_unit
)
SELECT
    n.* EXCLUDE (parameter_text, unit_text, known_parameter, known_unit)
    REPLACE (
        coalesce(k.station_id, n.station_id) AS station_id,
        n.known_parameter AS parameter,
        -- what depends on an unknown is not judged: one reason a row
        CASE WHEN n.known_parameter IS NULL THEN coalesce(n.unit, '') ELSE u.unit END AS unit,
        CASE WHEN u.factor = 1 THEN n.value ELSE TRY_CAST(CAST(n.value AS DECIMAL(22, 6)) * u.factor AS DECIMAL(18, 6)) END AS value,
        CASE WHEN u.factor = 1 THEN n.detection_limit
            ELSE TRY_CAST(CAST(n.detection_limit AS DECIMAL(22, 6)) * u.factor AS DECIMAL(18, 6)) END AS detection_limit
    ),
    k.matrix
FROM named AS n
LEFT JOIN known_station AS k ON n.station_id = k.code
LEFT JOIN measured AS u ON n.unit_text = u.text AND n.known_unit = u.unit
