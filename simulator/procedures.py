"""Dossiers of land procedures with their steps and deadlines, and the indicators of the digital programme."""

from __future__ import annotations

import re
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np

from simulator.files import write_csv, write_xlsx
from simulator.indicators import NAMES
from simulator.manifest import Manifest
from simulator.province import Province, read_seed
from simulator.size import Size

_PROCEDURES = (
    ("DK01", "Đăng ký, cấp giấy chứng nhận lần đầu", 20),
    ("DK02", "Đăng ký biến động chuyển nhượng", 8),
    ("DK03", "Cấp đổi giấy chứng nhận", 7),
    ("DK04", "Tách thửa, hợp thửa", 12),
    ("DK05", "Chuyển mục đích sử dụng đất", 15),
    ("DK06", "Đăng ký thế chấp", 1),
)
_STEPS = (
    ("Tiếp nhận", "Trung tâm Phục vụ hành chính công"),
    ("Thẩm định", "Chi nhánh Văn phòng Đăng ký đất đai"),
    ("Trình ký", "Văn phòng Đăng ký đất đai"),
    ("Trả kết quả", "Trung tâm Phục vụ hành chính công"),
)
_WAITING = (
    ("Chờ công dân bổ sung hồ sơ", "Chi nhánh Văn phòng Đăng ký đất đai", "Chờ công dân"),
    ("Chờ thông báo nghĩa vụ tài chính", "Thuế cơ sở", "Chờ thông báo thuế"),
)


def write(out: Path, province: Province, seed: int, end: date, size: Size, manifest: Manifest) -> None:
    """Writes dossiers and steps (CSV) of the year before `end`; some are late, some open and overdue."""
    rng = np.random.default_rng([seed, 17])
    waits = np.random.default_rng([seed, 29])
    dossiers: list[list[Any]] = []
    steps: list[list[Any]] = []
    for i in range(size.dossiers):
        code, name, days = _PROCEDURES[int(rng.integers(len(_PROCEDURES)))]
        commune = province.communes[int(rng.integers(len(province.communes)))]
        received = end - timedelta(days=int(rng.integers(0, 330)))
        due = received + timedelta(days=days)
        taken = max(1, round(days * float(rng.lognormal(-0.25, 0.35))))
        finished: date | None = received + timedelta(days=taken)
        status = "Đã trả"
        if (finished and finished > end) or rng.random() < 0.015:
            finished, status = None, "Đang xử lý"
        identity = f"{received:%y%m%d}-{i + 1:06d}"
        dossiers.append(
            [
                identity,
                code,
                name,
                commune.code,
                commune.new_code,
                f"{received:%d/%m/%Y}",
                f"{due:%d/%m/%Y}",
                f"{finished:%d/%m/%Y}" if finished else None,
                status,
                "Trực tuyến" if rng.random() < 0.62 else "Trực tiếp",
                None,
            ]
        )
        start = datetime.combine(received, datetime.min.time()) + timedelta(hours=8)
        each, number = taken / len(_STEPS), 0
        waited = _WAITING[int(waits.integers(2))] if waits.random() < 0.1 else None
        for place, (step, unit) in enumerate(_STEPS, 1):
            stop = start + timedelta(days=each)
            done = finished is not None or (stop.date() <= end and place < 3)
            # who waits for a citizen or a notice of tax does so in the second half of the assessment
            parts = [(step, unit, "Xử lý", start, stop)]
            if waited and place == 2 and done:
                middle = start + timedelta(days=each / 2)
                parts = [(step, unit, "Xử lý", start, middle), (*waited, middle, stop)]
            for name_vi, office, kind, began, ended in parts:
                number += 1
                due_at = began + timedelta(days=days / len(_STEPS))
                times = [f"{t:%d/%m/%Y %H:%M}" for t in (began, due_at, ended)]
                steps.append([identity, number, name_vi, office, kind, *times[:2], times[2] if done else None])
            if not done:
                break
            start = stop
    dossiers[3][5] = "32/13/2026"
    manifest.trap("dossier", "a date that is none", dossiers[3][0], rows=1, reason="received_on_unreadable")
    stamp = f"{end:%Y%m%d}"
    write_csv(
        out / "dossier" / f"ho_so_{stamp}.csv",
        [
            "Mã hồ sơ",
            "Mã thủ tục",
            "Tên thủ tục",
            "Mã xã (cũ)",
            "Mã xã",
            "Ngày tiếp nhận",
            "Ngày hẹn trả",
            "Ngày trả",
            "Trạng thái",
            "Hình thức",
            "Mã thửa",
        ],
        dossiers,
    )
    header = ["Mã hồ sơ", "Bước", "Tên bước", "Đơn vị", "Loại bước", "Bắt đầu", "Hạn", "Kết thúc"]
    write_csv(out / "dossier_step" / f"buoc_{stamp}.csv", header, steps)
    _write_register(out, stamp, manifest)
    manifest.add("dossier", 1, len(dossiers))
    manifest.add("dossier_step", 1, len(steps))


def _write_register(out: Path, stamp: str, manifest: Manifest) -> None:
    """Terms of the procedures: longer before the two levels of government of 1 July 2025, and without a term for none."""
    rows: list[list[Any]] = []
    for code, name, days in _PROCEDURES:
        for since, term, authority, basis in (
            (date(2024, 8, 1), days + 3, "Văn phòng Đăng ký đất đai", "Nghị định 101/2024/NĐ-CP (dữ liệu mẫu)"),
            (date(2025, 7, 1), days, "Chi nhánh Văn phòng Đăng ký đất đai", "Nghị định 151/2025/NĐ-CP (dữ liệu mẫu)"),
        ):
            rows.append([code, name, authority, term, since, basis])
    header = ["Mã thủ tục", "Tên thủ tục", "Cơ quan giải quyết", "Thời hạn (ngày làm việc)", "Hiệu lực từ", "Căn cứ"]
    write_xlsx(out / "procedure_register" / f"thu_tuc_{stamp}.xlsx", "Thủ tục", header, rows)
    manifest.add("procedure_register", 1, len(rows))


def write_programme(out: Path, reference: Path, seed: int, end: date, manifest: Manifest) -> None:
    """Quarterly reports on those targets of the programme (QĐ 355/QĐ-STNMT) that are a percentage."""
    rng = np.random.default_rng([seed, 19])
    rows = []
    for row in read_seed(reference, "requirement"):
        match = re.match(r"^(?:from )?(\d{1,3}) %", row["requirement_value"])
        if row["kind"] != "target" or not match:
            continue
        target, reached = float(match.group(1)), float(rng.uniform(0.35, 0.7))
        for back in range(7, -1, -1):
            month = (end.year * 12 + end.month - 1) // 3 * 3 - 3 * back
            year, first = divmod(month - 3, 12)
            last = date(year + (first + 3) // 12, (first + 3) % 12 + 1, 1) - timedelta(days=1)
            reached = min(1.02, reached + float(rng.uniform(0.0, 0.06)))
            rows.append(
                [
                    row["requirement_id"],
                    NAMES.get(row["requirement_id"], row["requirement"]),
                    "%",
                    f"{last.year}-Q{(last.month + 2) // 3}",
                    last,
                    target,
                    None if rng.random() < 0.04 else round(target * reached, 1),
                    "Văn phòng Sở",
                    None,
                ]
            )
    write_xlsx(
        out / "programme_indicator" / f"chi_tieu_{end:%Y%m%d}.xlsx",
        "Chỉ tiêu",
        ["Mã chỉ tiêu", "Tên chỉ tiêu", "Đơn vị tính", "Kỳ", "Ngày cuối kỳ", "Mục tiêu", "Thực hiện", "Đơn vị báo cáo", "Ghi chú"],
        rows,
    )
    manifest.add("programme_indicator", 1, len(rows))
