"""Laboratory results of water samples, a month apart, as the laboratory hands them over."""

from __future__ import annotations

import random
from datetime import date, datetime, timedelta
from pathlib import Path

from simulator.files import write_xlsx
from simulator.manifest import Manifest
from simulator.province import Province

# parameter, unit, low, high, decimals, detection limit
RESULTS = (
    ("BOD5", "mg/L", 3, 18, 1, 1.0),
    ("COD", "mg/L", 8, 35, 1, 3.0),
    ("P-PO4", "mg/L", 0.02, 0.4, 3, 0.01),
    ("N-NO2", "mg/L", 0.005, 0.06, 3, 0.004),
    ("As", "mg/L", 0.001, 0.012, 4, 0.002),
    ("Pb", "mg/L", 0.001, 0.02, 4, 0.003),
    ("Cu", "mg/L", 0.01, 0.15, 3, 0.02),
    ("Aldrin", "µg/L", 0.0, 0.008, 4, 0.01),
    ("Coliform", "MPN/100mL", 500, 9000, 0, 3),
    ("E.coli", "MPN/100mL", 5, 180, 0, 3),
)


def write(out: Path, province: Province, seed: int, end: date, manifest: Manifest) -> None:
    """Two monthly workbooks; one result that cannot be read, and one not detected without a limit."""
    rng = random.Random(f"{seed}-laboratory")
    stations = [s for s in province.stations if s.matrix == "surface_water"]
    if not stations:
        return
    for month in (2, 1):
        on = datetime.combine(end, datetime.min.time()) - timedelta(days=30 * month - 12) + timedelta(hours=9)
        rows = []
        for station in stations:
            for parameter, unit, low, high, decimals, limit in RESULTS:
                value = rng.uniform(low, high)
                text = rng.choice(("KPH", f"<{limit}")) if value < limit else f"{value:.{decimals}f}".replace(".", ",")
                sample = f"NM-{on:%y%m}-{station.code}"
                rows.append(
                    [sample, station.code, f"{on:%d/%m/%Y %H:%M}", parameter, text, unit, limit, "SMEWW:2017", "VIMCERTS 000", f"PKQ-{on:%y%m}"]
                )
        if month == 1:
            rows[0][4] = "vết"
            rows[7][4], rows[7][6] = "KPH", None
            manifest.trap("lab_result", "a word for a result", rows[0][0], rows=1, reason="value_unreadable")
            manifest.trap("lab_result", "not detected without a limit", rows[7][0], rows=1, reason="detection_limit_missing")
        write_xlsx(
            out / "lab_result" / f"ket_qua_{on:%Y%m}.xlsx",
            "Kết quả",
            [
                "Mã mẫu",
                "Mã trạm",
                "Lúc lấy mẫu",
                "Thông số",
                "Kết quả",
                "Đơn vị",
                "Giới hạn phát hiện",
                "Phương pháp",
                "Phòng thí nghiệm",
                "Số phiếu",
            ],
            rows,
        )
        manifest.add("lab_result", 1, len(rows))
