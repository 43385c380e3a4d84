"""What the national system says of each parcel of a commune, week by week: in group 1 or not, and why not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from simulator.files import write_xlsx
from simulator.manifest import Manifest

MEMBERS = (
    *("xaId", "soHieuToBanDo", "soThuTuThua", "daXuatSoDiaChinhDienTu", "daDongBoBaKhoiThongTin", "chiCoDuLieuThuocTinh"),
    *("trangThaiXacThucChu", "duLieuDangVanHanh247", "thongTinDangKyDapUngNhom1", "thongTinDangKyChuaDapUngNhom1"),
)
HEADER = (
    *("Mã xã", "Số tờ bản đồ", "Số thửa", "Đã xuất sổ địa chính điện tử", "Đã đồng bộ ba khối thông tin", "Chỉ có dữ liệu thuộc tính"),
    *("Trạng thái xác thực chủ", "Dữ liệu đang vận hành", "Đáp ứng nhóm 1", "Lý do chưa đạt nhóm 1"),
)


def write(out: Path, commune: str, parcels: Sequence[dict[str, Any]], rng: np.random.Generator, end: date, manifest: Manifest) -> None:
    """The commune a week ago as JSON, and now as a workbook: some parcels more in group 1; one defect of a code that no list has."""
    matched = rng.random(len(parcels)) < 0.7
    unsigned = rng.random(len(parcels)) < 0.5
    before: list[list[Any]] = []
    for ago, in_order in ((8, 0.3), (0, 0.55)):
        rows: list[list[Any]] = []
        for i, parcel in enumerate(parcels):
            defects = []
            if unsigned[i] and i >= in_order * len(parcels):
                defects.append(f"TINHHINHDANGKY.{90_000 + i}|GIAYCHUNGNHAN.{70_000 + i}_1|HOSOQUET|NOSIGN")
            if not matched[i]:
                defects.append(f"TINHHINHDANGKY.{90_000 + i}|HOGIADINH.{50_000 + i}|CANHAN.{30_000 + i}|loaiDoiTuongId")
            if i == len(parcels) - 1:
                defects.append(f"TINHHINHDANGKY.{90_000 + i}|THUADAT.{i}|MAMOI")
            rows.append([commune, parcel["sheet"], parcel["number"], True, not defects, False, int(matched[i]), True, not defects, defects])
        name = f"phan_loai_{commune}_{end - timedelta(days=ago):%Y%m%d}"
        folder = out / "land_data_group"
        if ago:
            folder.mkdir(parents=True, exist_ok=True)
            text = json.dumps({"tongSo": len(rows), "danhSach": [dict(zip(MEMBERS, row, strict=True)) for row in rows]}, ensure_ascii=False, indent=1)
            (folder / f"{name}.json").write_text(text, encoding="utf-8")
        else:
            write_xlsx(folder / f"{name}.xlsx", "Phân loại", HEADER, [[*row[:-1], "; ".join(row[-1])] for row in rows])
        manifest.add("land_data_group", 1, len(rows))
        manifest.duplicates["land_data_group"] += sum(row in before for row in rows)
        before = rows
    manifest.trap("land_data_group", "defect of a code that no list has", parcels[-1]["id"])
