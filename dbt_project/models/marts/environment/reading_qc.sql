{{ config(
    tags=['live'],
    materialized='incremental',
    incremental_strategy='append',
    on_schema_change='fail',
    partitioned_by=['year(day)', 'month(day)'],
    meta={'serve': false, 'scale_out': true},
    pre_hook="{{ delete_judged_anew() }}",
) }}
{%- set window = recompute_window() %}
{%- set tests = [
    'status', 'range', 'spike', 'rate_of_change', 'flat_line', 'repeated_record', 'time_slip', 'stuck_clock', 'consistency', 'neighbours',
    'level', 'dependence'
] %}
{%- set flags = 'flag_' ~ tests | join(',\n            flag_') %}
{%- set gap = var('qc_gap_minutes') ~ ' * interval 1 minute' %}

-- the register's ranges, of the channels that have one: whatever came first, the register or the reading
with register_range as (
    select station_id, parameter, span_from, span_to, register_min, register_max
    from {{ ref('int_qc_bound') }}
    where register_min is not null or register_max is not null
),

-- 0 is "not evaluated" until the end, so that the worst flag of a reading is simply the greatest
reading as (
    select
        reading.station_id,
        station.matrix,
        reading.parameter,
        reading.measured_at,
        {{ environment_day('reading.measured_at') }} as day,
        reading.value_reported,
        reading.value_valid as value_read,
        cast(
            case
                when reading.value_reported is null then 9
                -- a layout without status says nothing about its values
                when coalesce(reading.status, '') = '' then 0
                when reading.status = '00' then 1
                when reading.status in ('01', '02') then 4
                else 3
            end as tinyint
        ) as flag_status,
        cast(case when reading.conflict then 3 when reading.conflict is null then 0 else 1 end as tinyint) as flag_stuck_clock,
        coalesce(
            reading.value_reported < register_range.register_min or reading.value_reported > register_range.register_max, false
        ) as is_out_of_range,
        not coalesce({{ environment_day('reading.measured_at') }} >= station.in_use_from, true)
        or not coalesce({{ environment_day('reading.measured_at') }} <= station.in_use_to, true) as is_not_in_use,
        date_diff('second', cast(cast(reading.measured_at as date) as timestamp), reading.measured_at) % (reading.span_minutes * 60) <> 0 as is_off_grid,
        date_diff('second', reading._received_at, reading.measured_at) as seconds_ahead
    from {{ ref('stg_reading') }} as reading
    left join {{ ref('dim_station') }} as station on reading.station_id = station.station_id
    left join register_range
        on
            reading.station_id = register_range.station_id
            and reading.parameter = register_range.parameter
            and reading.measured_at > register_range.span_from
            and reading.measured_at <= register_range.span_to
    where
        reading.measured_at <= {{ as_of() }}
        {% if window.all -%}
            and reading.measured_at > {{ whole_from() }} - interval 2 day
            and reading.measured_at < {{ whole_to() }} + interval 3 day
        {%- else -%}
            and reading.measured_at > timestamp '{{ window.first_day }} 00:00:00' - interval 2 day
        {%- endif %}
),

near as (
    select
        *,
        case when not is_out_of_range and not is_not_in_use then value_read end as value_valid,
        coalesce({{ is_judged_anew('station_id', 'matrix', 'day', window) }}, false) as is_judged
    from reading
    where {{ is_judged_anew('station_id', 'matrix', 'day', window, margin=1) }}
),

-- values that status and registers leave stand beside each other; the others are no neighbours
series as (
    select
        *,
        lag(value_valid) over in_time as previous_value,
        lag(measured_at) over in_time as previous_at,
        lead(value_valid) over in_time as next_value,
        lead(measured_at) over in_time as next_at
    from near
    window in_time as (partition by station_id, parameter, value_valid is null order by measured_at)
),

gap as (
    select
        *,
        coalesce(previous_at >= measured_at - {{ gap }}, false) as has_previous,
        coalesce(next_at <= measured_at + {{ gap }}, false) as has_next
    from series
),

-- minutes, DECIMAL and comparisons without division are the same to the bit in any order; the sums of values of 18 digits need more
linked as (
    select
        * exclude (previous_value, previous_at, next_value, next_at, has_previous, has_next),
        -- twice the distance from the middle of both neighbours
        case when has_previous and has_next then abs(2 * cast(value_valid as decimal(20, 6)) - previous_value - next_value) end as distance,
        case when has_previous then abs(cast(value_valid as decimal(20, 6)) - previous_value) * 3600 end as change,
        case when has_previous then cast(date_diff('second', previous_at, measured_at) as integer) end as seconds_since,
        coalesce(has_previous and previous_value = value_valid, false) as is_same,
        coalesce(has_next and next_value = value_valid, false) as stays_same
    from gap
),

-- the few that stand still are put in order once more, not all
flat as (
    select
        *,
        max(case when not is_same then measured_at end) over (
            partition by station_id, parameter
            order by measured_at
            rows between unbounded preceding and current row
        ) as unchanged_since
    from linked
    where is_same or stays_same
    union all
    select
        *,
        case when value_valid is not null then measured_at end as unchanged_since
    from linked
    where not (is_same or stays_same)
),

-- from here on only what is judged; an incremental build sees one day before it, which may begin with a hole, so longer is not told apart
judged as (
    select
        * exclude (unchanged_since, is_same, stays_same, is_judged),
        case
            when unchanged_since is not null
                then cast(least(date_diff('minute', unchanged_since, measured_at), 1440 - {{ var('qc_gap_minutes') }}) as integer)
        end as flat_minutes
    from flat
    where is_judged
),

record as (
    select station_id, measured_at, min(flat_minutes) as repeated_minutes
    from judged
    where value_valid is not null
    group by station_id, measured_at
    having count(*) >= 3
),

pair as (
    select
        station_id,
        measured_at,
        max(case when parameter = 'PM2.5' then value_valid end) as pm25,
        max(case when parameter = 'PM10' then value_valid end) as pm10,
        max(case when parameter = 'NO' then value_valid end) as no,
        max(case when parameter = 'NO2' then value_valid end) as no2,
        max(case when parameter = 'NOx' then value_valid end) as nox,
        max(case when parameter = 'Flow_in' then value_valid end) as flow_in,
        max(case when parameter = 'Flow_out' then value_valid end) as flow_out
    from near
    where parameter in ('PM2.5', 'PM10', 'NO', 'NO2', 'NOx', 'Flow_in', 'Flow_out') and value_valid is not null
    group by station_id, measured_at
),

flow as (
    select
        station_id,
        measured_at,
        sum(flow_in) over trailing_day as flow_in,
        sum(flow_out) over trailing_day as flow_out
    from pair
    where flow_in is not null and flow_out is not null
    window trailing_day as (partition by station_id order by measured_at range between interval 1439 minute preceding and current row)
),

-- what is known of all values of a station's moment
moment as (
    select
        station_id,
        measured_at,
        record.repeated_minutes,
        pair.pm25,
        pair.pm10,
        pair.no,
        pair.no2,
        pair.nox,
        flow.flow_in,
        flow.flow_out
    from record
    full outer join pair using (station_id, measured_at)
    left join flow using (station_id, measured_at)
),

apart as (
    select
        here.station_id,
        there.station_id as neighbour_id,
        sqrt(power((here.lat - there.lat) * 111.2, 2) + power((here.lon - there.lon) * 111.2 * cos(radians(here.lat)), 2)) as km
    from {{ ref('dim_station') }} as here
    inner join {{ ref('dim_station') }} as there
        on here.matrix = 'ambient_air' and there.matrix = 'ambient_air' and here.station_id <> there.station_id
),

-- the nearest few: all pairs of a dense network would cost the square of its stations
neighbour_station as (
    select station_id, neighbour_id
    from apart
    where km <= {{ var('qc_neighbour_km') }}
    qualify row_number() over (partition by station_id order by km asc, neighbour_id asc) <= {{ var('qc_neighbours_most') }}
),

air as (
    select judged.station_id, judged.parameter, judged.measured_at, judged.value_valid
    from judged
    inner join {{ ref('int_qc_bound') }} as threshold on {{ within_span('judged', 'threshold') }}
    where judged.matrix = 'ambient_air' and threshold.neighbours_suspect is not null and judged.value_valid is not null
),

neighbours as (
    select air.station_id, air.parameter, air.measured_at, median(cast(other.value_valid as double)) as middle
    from air
    inner join neighbour_station on air.station_id = neighbour_station.station_id
    inner join air as other
        on
            neighbour_station.neighbour_id = other.station_id
            and air.parameter = other.parameter
            and air.measured_at = other.measured_at
    group by air.station_id, air.parameter, air.measured_at
    having count(*) >= 2
),

-- the mean of the day that ends with a value, of the few channels that have such bounds; of less than half a day nothing is said
trailing_mean as (
    select
        near.station_id,
        near.parameter,
        near.measured_at,
        near.value_valid,
        threshold.level_min,
        threshold.level_max,
        sum(near.value_valid) over trailing_day as total,
        count(near.value_valid) over trailing_day as values_of_day,
        min(near.measured_at) over trailing_day as first_at
    from near
    inner join {{ ref('int_qc_bound') }} as threshold on {{ within_span('near', 'threshold') }}
    where (threshold.level_min is not null or threshold.level_max is not null) and near.value_valid is not null
    window trailing_day as (
        partition by near.station_id, near.parameter
        order by near.measured_at
        range between interval 1439 minute preceding and current row
    )
),

level as (
    select
        station_id,
        parameter,
        measured_at,
        case when total < level_min * values_of_day or total > level_max * values_of_day then 3 else 1 end as flag_level
    from trailing_mean
    where first_at <= measured_at - interval 12 hour
),

-- what an instrument needs another parameter for is no better than that one
dependent as (
    select
        judged.station_id,
        judged.measured_at,
        dependence.parameter,
        max(
            greatest(
                {{ qc_range_flag('judged', 'threshold') }},
                {{ qc_flat_flag('judged', 'threshold') }},
                coalesce(level.flag_level, 0)
            )
        ) as flag_of_others
    from judged
    inner join {{ ref('qc_dependence') }} as dependence on judged.matrix = dependence.matrix and judged.parameter = dependence.depends_on
    left join {{ ref('int_qc_bound') }} as threshold on {{ within_span('judged', 'threshold') }}
    left join level
        on judged.station_id = level.station_id and judged.parameter = level.parameter and judged.measured_at = level.measured_at
    where judged.value_reported is not null
    group by judged.station_id, judged.measured_at, dependence.parameter
),

flagged as (
    select
        judged.station_id,
        judged.parameter,
        judged.measured_at,
        judged.day,
        judged.value_reported,
        judged.value_read,
        judged.value_valid as value_at_gate,
        judged.is_out_of_range,
        judged.is_not_in_use,
        judged.flat_minutes,
        judged.flag_status,
        {{ qc_range_flag('judged', 'threshold') }} as flag_range,
        {{ qc_flag_above('judged.distance', '2 * threshold.spike_suspect', '2 * threshold.spike_fail') }} as flag_spike,
        {{ qc_flag_above(
            'judged.change', 'threshold.rate_suspect * judged.seconds_since', 'threshold.rate_fail * judged.seconds_since') }} as flag_rate_of_change,
        {{ qc_flat_flag('judged', 'threshold') }} as flag_flat_line,
        case
            when moment.repeated_minutes is null or judged.value_valid is null or threshold.repeated_suspect is null then 0
            when moment.repeated_minutes >= threshold.repeated_suspect then 3
            else 1
        end as flag_repeated_record,
        case
            -- a stamp of when the station was not in use, off the grid of its own span, or ahead of its arrival
            when judged.is_not_in_use then 4
            when judged.is_off_grid or judged.seconds_ahead > threshold.slip_suspect * 60 then 3
            when judged.is_off_grid is null and judged.seconds_ahead is null then 0
            else 1
        end as flag_time_slip,
        judged.flag_stuck_clock,
        case
            when judged.value_valid is null or threshold.consistency_max is null then 0
            when judged.parameter in ('PM2.5', 'PM10')
                then case
                    when moment.pm25 is null or moment.pm10 is null then 0
                    when moment.pm25 > moment.pm10 * threshold.consistency_max then 3
                    else 1
                end
            when judged.parameter in ('NO', 'NO2', 'NOx')
                then case
                    when moment.no is null or moment.no2 is null or moment.nox is null then 0
                    when moment.nox < (moment.no + moment.no2) * threshold.consistency_min then 3
                    when moment.nox > (moment.no * 1.533 + moment.no2) * threshold.consistency_max then 3
                    else 1
                end
            when moment.flow_in is null then 0
            when moment.flow_out > moment.flow_in * threshold.consistency_max then 3
            else 1
        end as flag_consistency,
        {{ qc_flag_above('abs(cast(judged.value_valid as double) - neighbours.middle)', 'threshold.neighbours_suspect', 'null') }} as flag_neighbours,
        coalesce(level.flag_level, 0) as flag_level,
        case
            when judged.value_reported is null or coalesce(dependent.flag_of_others, 0) = 0 then 0
            when dependent.flag_of_others >= 3 then 3
            else 1
        end as flag_dependence
    from judged
    left join {{ ref('int_qc_bound') }} as threshold on {{ within_span('judged', 'threshold') }}
    left join level
        on judged.station_id = level.station_id and judged.parameter = level.parameter and judged.measured_at = level.measured_at
    left join dependent
        on
            judged.station_id = dependent.station_id
            and judged.measured_at = dependent.measured_at
            and judged.parameter = dependent.parameter
    left join moment on judged.station_id = moment.station_id and judged.measured_at = moment.measured_at
    left join neighbours
        on
            judged.station_id = neighbours.station_id
            and judged.parameter = neighbours.parameter
            and judged.measured_at = neighbours.measured_at
),

summed as (
    select
        *,
        greatest(
            {{ flags }}
        ) as qc_flag
    from flagged
)

select
    station_id,
    parameter,
    day,
    measured_at,
    value_reported,
    case when qc_flag <> 4 then value_at_gate end as value_valid,
    value_read is not null and qc_flag = 4 as is_withdrawn,
    case
        when value_read is null or qc_flag <> 4 then null
        when is_not_in_use then 'not_in_use'
        when is_out_of_range then 'out_of_range'
        else 'quality'
    end as withdrawn_reason,
    cast(case qc_flag when 0 then 2 else qc_flag end as tinyint) as qc_flag,
    {%- for test in tests %}
        cast(case flag_{{ test }} when 0 then 2 else flag_{{ test }} end as tinyint) as flag_{{ test }},
    {%- endfor %}
    flat_minutes
from summed
where qc_flag >= {{ var('qc_keep_from') }} or {{ var('qc_keep_from') }} <= 2
order by day, station_id, parameter, measured_at
