{#-
    NowCast of PM2.5 and PM10: the mean of the last twelve hours of a station, the newer ones weighing more the more they vary. Two of the last
    three hours are needed (QĐ 1459/QĐ-TCMT mục 2.2).

    `hours` names a relation of station_id, parameter, hour_end and mean_valid (µg/m³; NULL where an hour does not count). One row a station,
    parameter and hour: concentration in µg/m³, and how many of the twelve hours there were.
-#}
{% macro nowcast(hours) -%}
(
    with particle_hour as (
        -- every hour stands here, also those that nothing was due in: c2 is the hour before, not the row before; and one more, since
        -- two of the last three hours are enough where the newest is missing
        select station_id, parameter, unnest(generate_series(min(hour_end), max(hour_end) + interval 1 hour, interval 1 hour)) as hour_end
        from {{ hours }} as hour
        where parameter in ('PM2.5', 'PM10')
        group by station_id, parameter
    ),

    -- c1 is the hour itself, c12 the one eleven hours before
    twelve as (
        select
            particle_hour.station_id,
            particle_hour.parameter,
            particle_hour.hour_end,
            list(hour.mean_valid) over (
                partition by particle_hour.station_id, particle_hour.parameter
                order by particle_hour.hour_end desc
                rows between current row and 11 following
            ) as c
        from particle_hour
        left join {{ hours }} as hour
            on
                particle_hour.station_id = hour.station_id
                and particle_hour.parameter = hour.parameter
                and particle_hour.hour_end = hour.hour_end
    ),

    two_of_the_last_three as (
        -- w* = least / greatest of the twelve; never below one half
        select *, greatest(0.5, coalesce(list_min(c) / nullif(list_max(c), 0), 1)) as w
        from twelve
        where list_count(c[1:3]) >= 2
    )

    select
        station_id,
        parameter,
        hour_end,
        list_count(c) as hours,
        round(
            list_sum(list_transform(range(1, len(c) + 1), lambda i: c[i] * power(w, i - 1)))
            / list_sum(list_transform(range(1, len(c) + 1), lambda i: case when c[i] is not null then power(w, i - 1) end))
            -- with w = 1/2 the decree sums c_i / 2^i without dividing; the weights of twelve hours make 1 - 2^-12
            * case when w > 0.5 then 1 else 1 - power(0.5, 12) end,
            6
        ) as concentration
    from two_of_the_last_three
)
{%- endmacro %}
