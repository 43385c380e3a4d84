-- the shape of what is told; a build cannot know what it will hold back, so the serving file has the rows (lake/serving.py)
select
    cast(null as varchar) as table_name,
    cast(null as varchar) as title_vi,
    cast(null as timestamp) as since,
    cast(null as varchar) as reason_vi
where false
