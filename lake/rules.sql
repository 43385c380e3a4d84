-- Rules that Python and dbt both ask of the lake, as macros of its catalog: one text, which an analyst can read and call too.
-- `_bring_up` (lake/lake.py) makes them anew where this file or schema.sql changed. A macro here reads no table: `tnmt sql` does not look into it.

-- When a source was heard of last: its newest published delivery up to the moment. What was refused, or came later, is no news then.
CREATE OR REPLACE MACRO lake.ops.last_published(status, received_at, moment) AS
    max(received_at) FILTER (status = 'published' AND received_at <= moment);

-- How a source stands at a moment: never heard of, fresh or late. It is late once more whole minutes have passed than its contract
-- allows (cadence + lateness), so that the minutes people are shown tell why; a source without a cadence is never late.
CREATE OR REPLACE MACRO lake.ops.standing(last_received_at, cadence_minutes, lateness_minutes, moment) AS
    struct_pack(
        minutes_since := date_sub('minute', last_received_at, moment),
        allowed_minutes := CAST(cadence_minutes + lateness_minutes AS BIGINT),
        state := CASE
            WHEN last_received_at IS NULL THEN 'never'
            WHEN date_sub('minute', last_received_at, moment) > cadence_minutes + lateness_minutes THEN 'late'
            ELSE 'fresh'
        END
    );
