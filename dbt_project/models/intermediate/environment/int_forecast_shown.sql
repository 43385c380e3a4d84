{{ config(materialized='table') }}

-- what is shown from each origin: the method that erred least at origins before it, and an interval of the errors of what was shown
-- from those. An origin counts once all its steps are over, so that none sees what it is judged by

with kind as (
    {{ forecast_kinds() }}
),

method as (
    {{ forecast_places() }}
),

step as (
    select
        forecast.*,
        {{ forecast_horizon('forecast.kind', 'forecast.step') }} as horizon,
        -- whole gaps before now: one range of every window stands for all kinds
        forecast.origin_number / cast(kind.gap as double) as age,
        -- methods are compared on the same pairs
        {{ forecast_each('forecast.@ is not null', ' and') }} and forecast.observed is not null as is_pair
    from {{ ref('int_forecast') }} as forecast
    inner join kind on forecast.kind = kind.kind
),

origin as (
    select
        station_id,
        parameter,
        kind,
        horizon,
        origin_number,
        age,
        count(*) filter (is_pair) as pairs,
        {{ forecast_each('sum(cast(power(@ - observed, 2) as decimal(38, 12))) filter (is_pair) as @') }}
    from step
    group by station_id, parameter, kind, horizon, origin_number, age
),

backtest as (
    select
        station_id,
        parameter,
        kind,
        horizon,
        origin_number,
        count(*) filter (pairs > 0) over earlier as origins,
        {{ forecast_each('sum(@) over earlier as @') }}
    from origin
    window
        earlier as (
            partition by station_id, parameter, kind, horizon
            order by age desc
            range between unbounded preceding and 1 preceding
        )
),

judged as (
    unpivot backtest
    on {{ forecast_each('@') }}
    into name method value squares
),

choice as (
    select
        judged.*,
        method.is_baseline,
        min(judged.squares) filter (method.is_baseline) over (
            partition by judged.station_id, judged.parameter, judged.kind, judged.horizon, judged.origin_number
        ) as baseline_squares
    from judged
    inner join method on judged.method = method.method
    where judged.origins >= {{ var('forecast_least_origins') }}
    qualify
        row_number() over (
            partition by judged.station_id, judged.parameter, judged.kind, judged.horizon, judged.origin_number
            order by judged.squares, method.place
        ) = 1
),

shown as (
    select
        step.*,
        -- the chosen method may say nothing from this origin
        case choice.method {{ forecast_each("when '@' then step.@", '') }} end as chosen_value,
        choice.method as chosen_method,
        choice.is_baseline,
        cast(choice.origins as integer) as backtest_origins,
        1 - cast(choice.squares as double) / nullif(cast(choice.baseline_squares as double), 0) as skill
    from step
    left join choice
        on
            step.station_id = choice.station_id
            and step.parameter = choice.parameter
            and step.kind = choice.kind
            and step.horizon = choice.horizon
            and step.origin_number = choice.origin_number
),

erred as (
    select
        *,
        chosen_value is not null as is_chosen,
        coalesce(chosen_value, persistence) as value
    from shown
    where coalesce(chosen_value, persistence) is not null
),

-- the errors that a new one is exchangeable with, where the world stays as it was (split conformal prediction)
bounded as (
    select
        *,
        list_sort(list(value - observed) filter (observed is not null) over earlier) as errors
    from erred
    window
        earlier as (
            partition by station_id, parameter, kind, step, is_chosen
            order by age desc
            range between unbounded preceding and 1 preceding
        )
),

placed as (
    select
        *,
        -- of n errors the (n + 1)(1 - a/2)th, and from the other end the same
        cast(ceil((len(errors) + 1) * (1 + {{ var('forecast_interval_share') }}) / 2) as integer) as place
    from bounded
)

select
    station_id,
    parameter,
    kind,
    origin_number,
    origin_at,
    step,
    horizon,
    target_at,
    value,
    case when len(errors) >= {{ var('forecast_least_origins') }} then greatest(least(value - errors[place], value), 0) end as lower_bound,
    case when len(errors) >= {{ var('forecast_least_origins') }} then greatest(value - errors[len(errors) + 1 - place], value) end as upper_bound,
    case when is_chosen then chosen_method else 'persistence' end as method,
    is_chosen,
    is_chosen and not is_baseline as is_model,
    recent_mean is not null as has_models,
    backtest_origins,
    case when is_chosen then skill end as skill,
    observed
from placed
