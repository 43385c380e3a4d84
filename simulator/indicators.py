"""Names of the programme's percentage targets as the office that reports on them writes them (QĐ 355/QĐ-STNMT, mục II và III)."""

from __future__ import annotations

NAMES = {
    "R009": "Dịch vụ công trực tuyến mức độ 3, 4 xác thực một lần, dùng được trên nhiều thiết bị",
    "R010": "Dịch vụ công trực tuyến tích hợp trên Cổng Dịch vụ công quốc gia",
    "R011": "Hồ sơ thủ tục hành chính số hóa khi tiếp nhận và xử lý trên môi trường mạng",
    "R012": "Hồ sơ công việc xử lý trên môi trường mạng (trừ bí mật nhà nước)",
    "R013": "Văn bản phát hành được ký số (trừ văn bản mật)",
    "R014": "Báo cáo tổng hợp, định kỳ, thống kê thực hiện trên môi trường mạng",
    "R015": "Hoạt động kiểm tra, thanh tra thực hiện qua môi trường số",
    "R016": "Phí, lệ phí của ngành thu bằng phương thức điện tử",
    "R017": "Công chức, viên chức dùng công nghệ thông tin để trao đổi, xử lý công việc",
    "R018": "Huyện, thị xã, thành phố hoàn thành cơ sở dữ liệu đất đai và đưa vào sử dụng",
    "R019": "Khu, cụm công nghiệp lắp trạm quan trắc nước thải tự động, kết nối về Sở",
    "R020": "Nước thải nhóm a: cơ sở có nguy cơ gây ô nhiễm, xả từ 500 m³/ngày, đã lắp trạm",
    "R021": "Nước thải nhóm b: cơ sở xử lý chất thải, dùng phế liệu nhập khẩu, đã lắp trạm",
    "R022": "Nước thải nhóm c: cơ sở khác xả từ 1.000 m³/ngày, đã lắp trạm",
    "R023": "Nước thải nhóm d: cơ sở tái phạm xả nước thải vượt quy chuẩn, đã lắp trạm",
    "R024": "Khí thải nhóm a: cơ sở lưu lượng khí thải lớn (Phụ lục I NĐ 40/2019/NĐ-CP), đã lắp trạm",
    "R025": "Khí thải nhóm b: lò đốt chất thải nguy hại, chất thải rắn tập trung, đã lắp trạm",
    "R026": "Khí thải nhóm c: cơ sở dùng phế liệu nhập khẩu, đã lắp trạm",
    "R027": "Khí thải nhóm d: cơ sở tái phạm xả khí thải vượt quy chuẩn, đã lắp trạm",
    "R028": "Số liệu nước mặt, không khí tự động truyền về Trung tâm điều hành thông minh (IOC)",
    "R029": "Chế độ báo cáo môi trường kết nối, chia sẻ trên hệ thống báo cáo của UBND tỉnh",
    "R030": "Kiểm tra, thanh tra môi trường thực hiện qua môi trường số",
    "R033": "Cắt giảm thành phần hồ sơ thủ tục hành chính",
    "R034": "Dịch vụ hành chính giao dịch trực tuyến, tích hợp với Cổng Dịch vụ công quốc gia",
    "R036": "Thiết bị điều tra, quan trắc, đo đạc dùng công nghệ số, thu nhận trực tiếp dữ liệu số",
    "R037": "Thiết bị quan trắc, đo đạc ứng dụng Internet vạn vật (IoT)",
    "R039": "Kiểm tra, thanh tra thực hiện qua môi trường số (tầm nhìn 2030)",
    "R041": "Công chức, viên chức được đào tạo kỹ năng số",
    "R046": "Khu, cụm công nghiệp đang hoạt động có trạm quan trắc tự động truyền về Sở",
}
"""Requirement id of the reference table -> name of the indicator; units are per cent."""
