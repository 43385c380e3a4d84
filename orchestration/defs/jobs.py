"""Jobs: the whole path, the marts by themselves, a day again, the nightly upkeep."""

import dagster as dg

from lake.lake import open_reader
from lake.upkeep.maintain import maintain
from lake.upkeep.verify import damage, data_files, sample
from orchestration.defs.replay import DAYS
from orchestration.defs.resources import ENGINE_TAG, WRITER_POOL, Platform

pipeline = dg.define_asset_job(
    "pipeline",
    selection=dg.AssetSelection.all() - dg.AssetSelection.keys(["ops", "replayed_day"]),
    description="Nhận, kiểm tra, tính và phục vụ tất cả",
)
marts_on_spark = dg.define_asset_job(
    "marts_on_spark",
    selection=dg.AssetSelection.all() - dg.AssetSelection.key_prefixes("raw", "clean", "ops"),
    tags={ENGINE_TAG: "spark"},
    description="Tính và phục vụ các bảng phân tích, phần lớn dần theo dữ liệu chạy trên Spark",
)
replay_day = dg.define_asset_job(
    "replay_day", selection=dg.AssetSelection.keys(["ops", "replayed_day"]), partitions_def=DAYS, description="Tính lại một ngày từ dữ liệu gốc"
)

NIGHTLY_FILES = 2_000
"""Data files that are looked at each night (a few seconds on local disks)."""


@dg.op(pool=WRITER_POOL)
def maintain_lake(context: dg.OpExecutionContext, platform: Platform) -> None:
    """Compaction, expiry and clean-up; then a part of the data files is compared with the catalog, another one each night."""
    s, now = platform.settings(), platform.arrival()
    done = maintain(s, now)
    context.log.info(str(done))
    with open_reader(s) as con:
        found = [str(d) for d in damage(con, s, sample(data_files(con, s), NIGHTLY_FILES, now.toordinal()))]
    if problems := [*done.problems, *(f"damaged file of {d}" for d in found)]:
        raise dg.Failure("; ".join(problems), allow_retries=False)


@dg.job(description="Gom tệp, bỏ phiên bản hết hạn, dọn tệp thừa")
def maintenance() -> None:
    """The nightly upkeep of the lake."""
    maintain_lake()
