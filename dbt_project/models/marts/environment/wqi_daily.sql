with automatic as (
    select station_id, day, case parameter when 'NH4' then 'N-NH4' else parameter end as parameter, unit, mean_valid
    from {{ ref('reading_daily') }}
    where matrix = 'surface_water' and is_complete and day + interval 1 day <= {{ as_of() }}
),

station_day as (
    select distinct station_id, day
    from {{ ref('reading_daily') }}
    where matrix = 'surface_water' and day + interval 1 day <= {{ as_of() }}
),

oxygen as (
    select
        dissolved.station_id,
        dissolved.day,
        'DO_sat' as parameter,
        '%' as unit,
        100 * dissolved.mean_valid / {{ oxygen_saturation('water.mean_valid') }} as mean_valid
    from automatic as dissolved
    inner join automatic as water on dissolved.station_id = water.station_id and dissolved.day = water.day
    where dissolved.parameter = 'DO' and water.parameter = 'Temp'
),

-- saturation that the station reports itself goes before ours
measured as (
    select * from automatic
    union all
    select oxygen.*
    from oxygen
    anti join automatic on oxygen.station_id = automatic.station_id and oxygen.day = automatic.day and oxygen.parameter = automatic.parameter
),

sampled as (
    select station_day.day, result.*
    from station_day
    inner join {{ ref('stg_lab_result') }} as result
        on
            station_day.station_id = result.station_id
            and result.sampled_at < cast(station_day.day + interval 1 day as timestamp)
            and result.sampled_at >= cast(station_day.day as timestamp) + interval 1 day - interval {{ var('lab_valid_days') }} day
),

-- the newest sample of each parameter in the days before, of two at one time the last by its number; below detection half the limit counts
lab as (
    select
        station_id,
        day,
        parameter,
        unit,
        cast(value as double) * case when qualifier = '<' then {{ var('below_detection_share') }} else 1 end as value,
        coalesce(qualifier = '<', false) as is_below_detection,
        sampled_at
    from sampled
    where value is not null
    qualify row_number() over (partition by station_id, day, parameter order by sampled_at desc, sample_id desc) = 1
),

-- what the station measured goes before what was sampled
value as (
    select station_id, day, parameter, unit, mean_valid as value, 'automatic' as origin, false as is_below_detection, null as sampled_at
    from measured
    union all
    select lab.station_id, lab.day, lab.parameter, lab.unit, lab.value, 'lab' as origin, lab.is_below_detection, lab.sampled_at
    from lab
    anti join measured on lab.station_id = measured.station_id and lab.day = measured.day and lab.parameter = measured.parameter
),

indexed as (
    select
        value.*,
        segment.wqi_group,
        round(
            segment.q_from
            + coalesce(
                (segment.q_to - segment.q_from)
                * (value.value - segment.concentration_from) / nullif(cast(segment.concentration_to - segment.concentration_from as double), 0),
                0
            ),
            6
        ) as q
    from value
    inner join {{ ref('int_wqi_segment') }} as segment
        on
            value.parameter = segment.parameter
            and value.unit = segment.unit
            and {{ in_wqi_segment('value.value', 'segment') }}
),

grouped as (
    select
        station_id,
        day,
        count(*) as parameters,
        count(*) filter (origin = 'lab') as parameters_lab,
        count(*) filter (is_below_detection) as parameters_below_detection,
        min(sampled_at) as oldest_sample_at,
        count(distinct wqi_group) as groups,
        string_agg(distinct wqi_group, ', ' order by wqi_group asc) as groups_present,
        {{ wqi_group_list('I') }} as q_1,
        {{ wqi_group_list('II') }} as q_2,
        {{ wqi_group_list('III') }} as q_3,
        {{ wqi_group_list('IV') }} as q_4,
        {{ wqi_group_list('V') }} as q_5,
        max(q) filter (parameter = 'pH') as q_ph,
        max(q) filter (parameter = 'DO_sat') as q_do,
        max(q) filter (parameter = 'N-NH4') as q_nh4,
        max(q) filter (parameter = 'N-NO3') as q_no3
    from indexed
    group by station_id, day
),

-- what came and could not be used is named: a result without figure, a parameter or unit that the tables do not have
sample as (
    select
        sampled.station_id,
        sampled.day,
        count(distinct sampled.sample_id) as samples,
        array_to_string(list_sort(array_agg(distinct sampled.parameter || coalesce(' [' || sampled.unit || ']', '')) filter (
            sampled.value is null
            or (sampled.parameter, sampled.unit) not in (select known.parameter, known.unit from {{ ref('int_wqi_segment') }} as known)
            or sampled.unit is null
        )), ', ') as unused
    from sampled
    group by sampled.station_id, sampled.day
),

unregistered as (
    select station_id, day, {{ unregistered_parameters() }} as unregistered_parameters
    from {{ ref('reading_daily') }}
    where matrix = 'surface_water' and {{ is_unregistered() }} and {{ is_of_wqi('parameter') }}
    group by station_id, day
),

computed as (
    select
        *,
        -- a group that is not there is left out: of I, II and III the factor, of V its part of the third root
        coalesce(list_aggregate(q_1, 'product') / 100, 1)
        * coalesce(power(list_aggregate(q_2, 'product'), 1.0 / len(q_2)) / 100, 1)
        * coalesce(power(list_aggregate(q_3, 'product'), 1.0 / len(q_3)) / 100, 1)
        * coalesce(power(power(list_avg(q_4), 2) * list_avg(q_5), 1.0 / 3), list_avg(q_4)) as index_of_groups,
        coalesce(len(q_4), 0) >= 3 as has_group_4,
        coalesce(len(q_4), 0) >= 3 and groups >= 3 and q_5 is not null as is_full
    from grouped
),

rounded as (
    select
        station_day.station_id,
        station_day.day,
        computed.parameters,
        computed.parameters_lab,
        computed.parameters_below_detection,
        computed.oldest_sample_at,
        computed.groups_present,
        computed.q_ph,
        computed.q_do,
        computed.q_nh4,
        computed.q_no3,
        computed.is_full,
        coalesce(computed.groups, 0) as groups,
        computed.q_5 is not null as has_group_5,
        coalesce(sample.samples, 0) as samples,
        sample.unused,
        unregistered.unregistered_parameters,
        case when computed.has_group_4 then cast(floor(round(computed.index_of_groups, 6) + 0.5) as integer) end as index_value
    from station_day
    left join computed on station_day.station_id = computed.station_id and station_day.day = computed.day
    left join sample on station_day.station_id = sample.station_id and station_day.day = sample.day
    left join unregistered on station_day.station_id = unregistered.station_id and station_day.day = unregistered.day
)

select
    rounded.station_id,
    station.station_name,
    station.commune_code,
    station.commune_name,
    rounded.day,
    case when rounded.is_full then rounded.index_value end as wqi,
    case when not coalesce(rounded.is_full, false) then rounded.index_value end as wqi_partial,
    case when rounded.index_value is not null then band.level_vi end as level_vi,
    band.hex as colour,
    case when rounded.parameters_lab > 0 then 'automatic_and_lab' when rounded.parameters > 0 then 'automatic' end as basis,
    rounded.groups_present,
    cast(coalesce(rounded.parameters, 0) as integer) as parameters,
    cast(coalesce(rounded.parameters_lab, 0) as integer) as parameters_lab,
    cast(coalesce(rounded.parameters_below_detection, 0) as integer) as parameters_below_detection,
    rounded.oldest_sample_at,
    rounded.q_ph,
    rounded.q_do,
    rounded.q_nh4,
    rounded.q_no3,
    case
        when coalesce(rounded.is_full, false) then null
        else
            concat_ws(
                '; ',
                case
                    when rounded.index_value is null then 'Nhóm IV có dưới 3 thông số đủ số liệu: không tính được'
                    when not rounded.has_group_5 then 'WQI một phần: thiếu nhóm V (vi sinh)'
                    else 'WQI một phần: có dưới 3 nhóm'
                end,
                case
                    when rounded.samples = 0 then 'chưa có mẫu phòng thí nghiệm trong thời hạn'
                    else rounded.samples || ' mẫu phòng thí nghiệm trong thời hạn, lấy được ' || coalesce(rounded.parameters_lab, 0) || ' thông số'
                end,
                'kết quả không dùng được: ' || rounded.unused,
                'thông số gửi đến mà chưa đăng ký: ' || rounded.unregistered_parameters
            )
    end as reason_vi,
    'memory' as formula_confidence,
    cast(rounded.samples as integer) as lab_samples,
    rounded.unused as lab_results_unused,
    rounded.unregistered_parameters
from rounded
left join {{ ref('dim_station') }} as station on rounded.station_id = station.station_id
left join {{ ref('vn_wqi_band') }} as band on rounded.index_value between band.wqi_min and band.wqi_max
