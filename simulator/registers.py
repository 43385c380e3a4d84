"""The registers of stations and their channels as their keepers hand them over, one way for all that make some."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from simulator.files import write_csv, write_xlsx

STATION = {
    "station_id": "Mã trạm",
    "station_name": "Tên trạm",
    "facility_id": "Mã cơ sở",
    "matrix": "Loại trạm",
    "old_commune": "Mã xã (cũ)",
    "commune": "Mã xã (mới)",
    "lon": "Kinh độ",
    "lat": "Vĩ độ",
    "standard": "Quy chuẩn",
    "standard_class": "Cột",
    "kq": "Kq",
    "kf": "Kf",
    "kp": "Kp",
    "kv": "Kv",
    "in_use_from": "Ngày vận hành",
    "in_use_to": "Ngày dừng",
    "contact": "Đầu mối liên hệ",
    "former_codes": "Mã cũ",
    "permit": "Giấy phép môi trường",
    "calibrated_on": "Ngày hiệu chuẩn",
    "verified_until": "Hạn kiểm định",
}
PERIOD = {
    "station_id": "Mã trạm",
    "valid_from": "Hiệu lực từ",
    "valid_to": "Hiệu lực đến",
    "standard": "Quy chuẩn",
    "standard_class": "Cột",
    "kq": "Kq",
    "kf": "Kf",
    "kp": "Kp",
    "kv": "Kv",
    "reference_oxygen": "O2 tham chiếu (%)",
    "permit": "Giấy phép môi trường",
}
CHANNEL = {
    "station_id": "Mã trạm",
    "parameter": "Thông số",
    "unit": "Đơn vị",
    "minutes": "Chu kỳ (phút)",
    "valid_from": "Hiệu lực từ",
    "valid_to": "Hiệu lực đến",
    "name_in_file": "Tên trong tệp",
    "range_min": "Ngưỡng dưới",
    "range_max": "Ngưỡng trên",
}


def _cells(columns: Mapping[str, str], rows: Iterable[Mapping[str, Any]]) -> Iterable[list[Any]]:
    for row in rows:
        if unknown := set(row) - set(columns):
            raise KeyError(f"no column of the register: {', '.join(sorted(unknown))}")
        yield [row.get(name) for name in columns]


def write_station_register(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A workbook with the columns of contract `station_register`; a row names those of STATION that it fills."""
    write_xlsx(path, "Trạm", list(STATION.values()), _cells(STATION, rows))


def write_channel_register(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A CSV with the columns of contract `station_channel_register`; a row names those of CHANNEL that it fills."""
    write_csv(path, list(CHANNEL.values()), _cells(CHANNEL, rows))


def write_period_register(path: Path, rows: Iterable[Mapping[str, Any]]) -> None:
    """A CSV with the columns of contract `station_period_register`; a row names those of PERIOD that it fills."""
    write_csv(path, list(PERIOD.values()), _cells(PERIOD, rows))
