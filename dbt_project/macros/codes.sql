{#- Derived by `python -m dictionary.derive` from dictionary/codes.yaml: names of codes. A code that its list lacks stands for itself. -#}

{% macro certificate_issue_vi(code) -%}
    case {{ code }}
        when 'serial_twice' then 'Hai giấy cùng số phát hành'
        when 'two_valid_on_parcel' then 'Một chủ có hai giấy đang hiệu lực trên một thửa'
        when 'no_parcel' then 'Thửa ghi trên giấy không có trong dữ liệu'
        when 'parcel_not_unique' then 'Số hiệu ghi trên giấy là của nhiều thửa'
        when 'parcel_retired' then 'Giấy đang hiệu lực của thửa đã hết'
        when 'date_order' then 'Ngày cấp sau ngày của tệp'
        else {{ code }}
    end
{%- endmacro %}

{% macro certificate_status_vi(code) -%}
    case {{ code }}
        when 'valid' then 'Đang hiệu lực'
        when 'revoked' then 'Đã thu hồi'
        else {{ code }}
    end
{%- endmacro %}

{% macro compared_mean_vi(code) -%}
    case {{ code }}
        when '1h' then 'Trung bình 1 giờ'
        when '24h' then 'Trung bình ngày'
        else {{ code }}
    end
{%- endmacro %}

{% macro compliance_status_vi(code) -%}
    case {{ code }}
        when 'compliant' then 'Đạt'
        when 'exceeded' then 'Vượt giới hạn'
        when 'not_judged' then 'Không đánh giá'
        else {{ code }}
    end
{%- endmacro %}

{% macro decision_vi(code) -%}
    case {{ code }}
        when 'reject' then 'Loại bỏ'
        when 'accept' then 'Chấp nhận'
        when 'offset' then 'Cộng'
        when 'scale' then 'Nhân'
        when 'replace' then 'Thay'
        when 'withdraw' then 'Rút lại'
        else {{ code }}
    end
{%- endmacro %}

{% macro defect_basis_vi(code) -%}
    case {{ code }}
        when 'computed' then 'Kho dữ liệu tự tính'
        when 'reported' then 'Hệ thống quốc gia báo'
        else {{ code }}
    end
{%- endmacro %}

{% macro dossier_status_vi(code) -%}
    case {{ code }}
        when 'open' then 'Đang giải quyết'
        when 'finished' then 'Đã trả kết quả'
        when 'returned' then 'Trả lại'
        else {{ code }}
    end
{%- endmacro %}

{% macro forecast_horizon_vi(code) -%}
    case {{ code }}
        when 'all' then 'Mọi tầm'
        when '1-6h' then '1–6 giờ'
        when '7-12h' then '7–12 giờ'
        when '13-24h' then '13–24 giờ'
        when '1d' then '1 ngày'
        when '2d' then '2 ngày'
        else {{ code }}
    end
{%- endmacro %}

{% macro forecast_kind_vi(code) -%}
    case {{ code }}
        when 'hour' then 'Giờ'
        when 'day' then 'Trung bình ngày'
        else {{ code }}
    end
{%- endmacro %}

{% macro forecast_reason_vi(code) -%}
    case {{ code }}
        when 'history' then 'Chưa đủ lịch sử để lập mô hình'
        when 'backtest' then 'Chưa đủ lần dự báo thử để chấm mô hình'
        when 'skill' then 'Không mô hình nào tốt hơn cách đơn giản này'
        else {{ code }}
    end
{%- endmacro %}

{% macro forecast_warning_vi(code) -%}
    case {{ code }}
        when 'will_exceed' then 'Dự báo vượt giới hạn'
        when 'may_exceed' then 'Có thể vượt giới hạn'
        else {{ code }}
    end
{%- endmacro %}

{% macro gap_kind_vi(code) -%}
    case {{ code }}
        when 'sliver' then 'Khe hẹp giữa các thửa'
        when 'open' then 'Khe hẹp hở một đầu'
        when 'hole' then 'Khoảng trống giữa các thửa'
        else {{ code }}
    end
{%- endmacro %}

{% macro grade_vi(code) -%}
    case {{ code }}
        when 'raw' then 'Gốc'
        when 'provisional' then 'Tạm duyệt'
        when 'approved' then 'Đã duyệt'
        else {{ code }}
    end
{%- endmacro %}

{% macro interruption_cause_vi(code) -%}
    case {{ code }}
        when 'receiver' then 'Hệ thống tiếp nhận của Sở'
        when 'rejected' then 'Tệp gửi đến bị cách ly'
        when 'facility' then 'Cả cơ sở mất kết nối'
        when 'station' then 'Trạm không gửi'
        else {{ code }}
    end
{%- endmacro %}

{% macro land_data_defect_vi(code) -%}
    case {{ code }}
        when 'no_certificate' then 'Chưa có giấy chứng nhận đang hiệu lực'
        when 'no_attributes' then 'Thiếu thuộc tính (loại đất, diện tích, số tờ, số thửa)'
        when 'no_geometry' then 'Hình thửa thiếu hoặc không hợp lệ'
        when 'no_scan' then 'Giấy chưa có bản quét đọc được'
        when 'not_signed' then 'Bản quét chưa ký số'
        when 'owner_unmatched' then 'Chủ sử dụng không khớp dữ liệu dân cư'
        when 'owner_unknown' then 'Chủ sử dụng chưa xác thực'
        when 'placeholder' then 'Số vào sổ thiếu hoặc điền cho có'
        else {{ code }}
    end
{%- endmacro %}

{% macro land_use_change_vi(code) -%}
    case {{ code }}
        when 'unchanged' then 'Không đổi'
        when 'changed' then 'Đổi loại đất'
        when 'new' then 'Thửa mới'
        when 'vanished' then 'Thửa không còn'
        when 'not_known_before' then 'Chưa có số liệu của xã ở mốc so sánh'
        else {{ code }}
    end
{%- endmacro %}

{% macro limit_confidence_vi(code) -%}
    case {{ code }}
        when 'verified' then 'đã đối chiếu'
        when 'cross-checked' then 'đối chiếu hai nguồn'
        when 'memory' then 'chưa đối chiếu'
        when 'single-source-doubtful' then 'một nguồn, còn nghi ngờ'
        else {{ code }}
    end
{%- endmacro %}

{% macro lineage_basis_vi(code) -%}
    case {{ code }}
        when 'comparison_table' then 'Bảng đối chiếu'
        when 'identifier' then 'Mã định danh không đổi'
        when 'declared' then 'Hồ sơ khai thửa gốc'
        when 'geometry' then 'Trùng hình, chưa xác nhận'
        else {{ code }}
    end
{%- endmacro %}

{% macro lineage_kind_vi(code) -%}
    case {{ code }}
        when 'split' then 'Tách thửa'
        when 'merge' then 'Hợp thửa'
        when 'reparcel' then 'Chia lại (nhiều thửa thành nhiều thửa)'
        else {{ code }}
    end
{%- endmacro %}

{% macro matrix_vi(code) -%}
    case {{ code }}
        when 'wastewater' then 'Nước thải'
        when 'emission' then 'Khí thải'
        when 'surface_water' then 'Nước mặt'
        when 'ambient_air' then 'Không khí xung quanh'
        else {{ code }}
    end
{%- endmacro %}

{% macro not_judged_vi(code) -%}
    case {{ code }}
        when 'no_limit' then 'Quy chuẩn của trạm không có giới hạn ngày đang hiệu lực cho thông số này'
        when 'no_factor' then 'Danh mục trạm thiếu hệ số (Kq, Kf hoặc Kp, Kv)'
        when 'other_unit' then 'Đơn vị của giới hạn khác đơn vị của thông số'
        when 'running' then 'Ngày chưa hết'
        when 'no_channel' then 'Thông số chưa đăng ký trong danh mục thông số của trạm'
        when 'incomplete' then 'Không đủ số liệu hợp lệ'
        when 'no_oxygen' then 'Không đủ số liệu O2 để quy về O2 tham chiếu'
        else {{ code }}
    end
{%- endmacro %}

{% macro obligation_status_vi(code) -%}
    case {{ code }}
        when 'fulfilled' then 'Đã lắp, đang truyền'
        when 'silent' then 'Đã lắp, không truyền số liệu'
        when 'missing' then 'Chưa lắp'
        else {{ code }}
    end
{%- endmacro %}

{% macro parcel_change_vi(code) -%}
    case {{ code }}
        when 'first' then 'Thửa mới có trong dữ liệu'
        when 'attribute' then 'Sửa thuộc tính'
        when 'boundary' then 'Đổi ranh giới'
        when 'land_use' then 'Đổi loại đất'
        when 'renumbered' then 'Đổi số tờ hoặc số thửa'
        when 'returned' then 'Có lại sau khi vắng'
        when 'retired' then 'Hết vì tách hoặc hợp'
        when 'missing' then 'Vắng không rõ lý do'
        else {{ code }}
    end
{%- endmacro %}

{% macro placement_vi(code) -%}
    case {{ code }}
        when 'inside' then 'Trong xã đã khai'
        when 'astride' then 'Nằm một phần ngoài xã đã khai'
        when 'outside' then 'Nằm ngoài xã đã khai'
        when 'invalid_geometry' then 'Chưa so được: hình học không hợp lệ'
        when 'no_boundary' then 'Chưa so được: chưa có ranh giới xã đã khai'
        when 'other_crs' then 'Chưa so được: khác hệ tọa độ với ranh giới'
        else {{ code }}
    end
{%- endmacro %}

{% macro severity_vi(code) -%}
    case {{ code }}
        when 'error' then 'Phải sửa'
        when 'warning' then 'Cần xem'
        else {{ code }}
    end
{%- endmacro %}

{% macro source_state_vi(code) -%}
    case {{ code }}
        when 'fresh' then 'Đúng hạn'
        when 'late' then 'Quá hạn'
        when 'never' then 'Chưa nhận lần nào'
        else {{ code }}
    end
{%- endmacro %}

{% macro station_status_vi(code) -%}
    case {{ code }}
        when 'online' then 'Đang truyền'
        when 'late' then 'Chậm số liệu'
        when 'offline' then 'Mất kết nối'
        when 'error' then 'Lỗi thiết bị'
        when 'calibrating' then 'Đang hiệu chuẩn'
        else {{ code }}
    end
{%- endmacro %}

{% macro timeliness_vi(code) -%}
    case {{ code }}
        when 'on_time' then 'Đúng hạn'
        when 'late_by_system_only' then 'Chỉ trễ trên phần mềm'
        when 'late' then 'Trễ hạn'
        when 'no_deadline' then 'Chưa có thời hạn'
        when 'unknown' then 'Thiếu ngày'
        when 'returned' then 'Trả lại'
        else {{ code }}
    end
{%- endmacro %}
