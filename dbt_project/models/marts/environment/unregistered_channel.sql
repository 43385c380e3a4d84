-- days on which values came that no period of the channel register asked for
with day as (
    select *
    from {{ ref('reading_daily') }}
    where {{ is_unregistered() }}
),

unregistered_day as (
    select
        day.station_id,
        day.parameter,
        day.day,
        day.unexpected,
        compliance.mean_compared,
        compliance.limit_key,
        compliance.limit_share,
        compliance.limit_confidence,
        row_number() over (
            partition by day.station_id, day.parameter
            order by compliance.limit_share desc nulls last, day.day asc
        ) = 1 as is_worst
    from day
    inner join {{ ref('compliance_daily') }} as compliance
        on day.station_id = compliance.station_id and day.parameter = compliance.parameter and day.day = compliance.day
),

channel as (
    select
        station_id,
        parameter,
        min(day) as first_day,
        max(day) as last_day,
        count(*) as days,
        sum(unexpected) as readings,
        bool_or(limit_key is not null) as has_limit,
        max(day) filter (is_worst) as worst_day,
        max(mean_compared) filter (is_worst) as worst_mean,
        max(limit_share) filter (is_worst) as worst_limit_share,
        max(limit_confidence) filter (is_worst) as limit_confidence
    from unregistered_day
    group by station_id, parameter
)

select
    channel.station_id,
    station.station_name,
    station.matrix,
    station.matrix_vi,
    station.commune_code,
    station.commune_name,
    channel.parameter,
    parameter.parameter_name_vi,
    parameter.unit,
    channel.first_day,
    channel.last_day,
    cast(channel.days as integer) as days,
    cast(channel.readings as bigint) as readings,
    nullif(
        concat_ws(
            ', ',
            case when station.matrix = 'ambient_air' and channel.parameter in ({{ aqi_parameter_list() }}) then 'VN_AQI' end,
            case when station.matrix = 'surface_water' and {{ is_of_wqi('channel.parameter') }} then 'VN_WQI' end,
            case when channel.has_limit then 'đánh giá theo quy chuẩn' end
        ),
        ''
    ) as missing_from_vi,
    coalesce(channel.worst_limit_share > 1, false) as would_exceed,
    channel.worst_day,
    channel.worst_mean,
    channel.worst_limit_share,
    channel.limit_confidence,
    {{ limit_confidence_vi('channel.limit_confidence') }} as limit_confidence_vi,
    case
        when
            (channel.station_id, channel.parameter) in (
                select registered.station_id, registered.parameter from {{ ref('stg_station_channel') }} as registered
            )
            then 'Danh mục thông số hoặc danh mục trạm chỉ có thông số này vào thời gian khác'
        else 'Danh mục thông số không có thông số này của trạm'
    end as reason_vi
from channel
left join {{ ref('dim_station') }} as station on channel.station_id = station.station_id
left join {{ ref('dim_parameter') }} as parameter on station.matrix = parameter.matrix and channel.parameter = parameter.parameter
order by channel.station_id, channel.parameter
