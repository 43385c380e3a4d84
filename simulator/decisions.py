"""What the people who check the telemetry decided: approvals of days that are over, corrections of what a probe got wrong."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from pathlib import Path

from simulator.files import write_csv, write_xlsx
from simulator.manifest import Manifest
from simulator.province import Province
from simulator.size import Size

DECIDED_BY = "Trưởng phòng Quan trắc"
PARAMETER = {"wastewater": "COD", "emission": "PM", "surface_water": "NH4", "ambient_air": "PM2.5"}


def write(out: Path, province: Province, end: date, size: Size, manifest: Manifest) -> None:
    """Approvals as a CSV file, adjustments as a workbook; one adjustment lacks its number."""
    first = end - timedelta(days=size.hourly_days + size.file_days - 1)
    approved = first + (end - first) / 2  # the first half; a tenth of the stations is still waiting
    approvals = [
        [f"PD-{n:03d}", s.code, "", f"{first:%d/%m/%Y}", f"{approved:%d/%m/%Y}", grade, "Kiểm duyệt định kỳ", DECIDED_BY, f"{n}/PD-QT"]
        for n, s in enumerate(province.stations, 1)
        for grade in (["Tạm duyệt"] if n % 10 == 0 else ["Đã duyệt"])
    ]
    write_csv(
        out / "approval" / f"phe_duyet_{end:%Y%m%d}.csv",
        ["Mã phê duyệt", "Mã trạm", "Thông số", "Từ ngày", "Đến ngày", "Mức", "Lý do", "Người quyết định", "Văn bản"],
        approvals,
    )
    manifest.add("approval", 1, len(approvals))
    noon = datetime.combine(end, datetime.min.time()) + timedelta(hours=12)
    what = [("Loại bỏ", None, "Đầu đo bẩn, đã vệ sinh"), ("Nhân", 1.05, "Hiệu chuẩn lại: hệ số 1,05"), ("Nhân", None, "Hiệu chuẩn lại")]
    adjustments = [
        [
            f"HC-{n:03d}",
            s.code,
            PARAMETER[s.matrix],
            f"{noon - timedelta(hours=6):%d/%m/%Y %H:%M}",
            f"{noon:%d/%m/%Y %H:%M}",
            action,
            number,
            reason,
            DECIDED_BY,
            f"{n}/BB-QT",
        ]
        for n, (s, (action, number, reason)) in enumerate(zip(province.stations, what, strict=False), 1)
    ]
    write_xlsx(
        out / "adjustment" / f"hieu_chinh_{end:%Y%m%d}.xlsx",
        "Hiệu chỉnh",
        ["Mã hiệu chỉnh", "Mã trạm", "Thông số", "Từ", "Đến", "Cách xử lý", "Số", "Lý do", "Người quyết định", "Văn bản"],
        adjustments,
    )
    manifest.add("adjustment", 1, len(adjustments))
    manifest.trap("adjustment", "number missing", "HC-003", rows=1, reason="number_missing")
