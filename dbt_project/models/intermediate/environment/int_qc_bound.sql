-- what a value of a channel is judged by at any time: the register's range, and the thresholds of its station or else of its kind
{%- set bounds = qc_bounds() %}
{%- set tests = bounds.values() | map(attribute=0) | unique | list %}
with channel as (
    select
        station_id,
        parameter,
        range_min,
        range_max,
        valid_from,
        -- the next period ends the one before
        least(
            coalesce(valid_to, timestamp '9999-12-31 00:00:00'),
            lead(valid_from) over (partition by station_id, parameter order by valid_from asc, _source asc, _line asc)
        ) as valid_to
    from {{ ref('stg_station_channel') }}
),

own as (
    select
        station_id,
        parameter,
        test,
        suspect_min,
        suspect_max,
        cast(valid_from as timestamp) as valid_from,
        least(
            cast(coalesce(valid_to, date '9999-12-30') + 1 as timestamp),
            cast(lead(valid_from) over (partition by station_id, parameter, test order by valid_from) as timestamp)
        ) as valid_to
    from {{ ref('stg_station_qc_threshold') }}
),

known as (
    select distinct matrix, parameter
    from {{ ref('qc_threshold') }}
),

one as (
    select station.station_id, known.parameter
    from {{ ref('stg_station') }} as station
    inner join known on station.matrix = known.matrix
    union
    select station_id, parameter from channel
),

bound as (
    select station_id, parameter, timestamp '0001-01-01 00:00:00' as bound_at from one
    union
    select station_id, parameter, valid_from from channel
    union
    select station_id, parameter, valid_to from channel
    union
    select own.station_id, own.parameter, own.valid_from from own inner join one using (station_id, parameter)
    union
    select own.station_id, own.parameter, own.valid_to from own inner join one using (station_id, parameter)
),

span as (
    select
        station_id,
        parameter,
        bound_at as span_from,
        coalesce(lead(bound_at) over (partition by station_id, parameter order by bound_at), timestamp '9999-12-31 00:00:00') as span_to
    from bound
),

kind as (
    select
        {%- for name, from in bounds.items() %}
            max(case when test = '{{ from[0] }}' then {{ from[1] }} end) as {{ name }},
        {%- endfor %}
        matrix,
        parameter
    from {{ ref('qc_threshold') }}
    group by matrix, parameter
),

own_span as (
    select
        {%- for name, from in bounds.items() if from[1].startswith('suspect') %}
            max(case when own.test = '{{ from[0] }}' then own.{{ from[1] }} end) as {{ name }},
        {%- endfor %}
        {%- for test in tests %}
            max(case when own.test = '{{ test }}' then 1 end) as has_{{ test }},
        {%- endfor %}
        span.station_id,
        span.parameter,
        span.span_from
    from span
    inner join own
        on
            span.station_id = own.station_id
            and span.parameter = own.parameter
            and span.span_from >= own.valid_from
            and span.span_to <= own.valid_to
    group by span.station_id, span.parameter, span.span_from
)

select
    span.station_id,
    span.parameter,
    span.span_from,
    span.span_to,
    {%- for name, from in bounds.items() %}
        {{ qc_bound_in_force(name, from[0], from[1]) }} as {{ name }},
    {%- endfor %}
    channel.range_min as register_min,
    channel.range_max as register_max
from span
left join {{ ref('stg_station') }} as station on span.station_id = station.station_id
left join kind on station.matrix = kind.matrix and span.parameter = kind.parameter
left join own_span on span.station_id = own_span.station_id and span.parameter = own_span.parameter and span.span_from = own_span.span_from
left join channel
    on
        span.station_id = channel.station_id
        and span.parameter = channel.parameter
        and span.span_from >= channel.valid_from
        and span.span_to <= channel.valid_to
where span.span_from < span.span_to
