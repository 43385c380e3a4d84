"""The peers of the spatial figures, in the environment of the peers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.bench.measure import MEMORY_GB, cold_and_warm, main
from tests.bench.spatial_queries import BOX, CENTRE, LAND, METRE, TRIPS, queries, views


def sedonadb(kind: str, folder: str, questions: list[str], out: str, warm: int, threads: int) -> dict[str, Any]:
    """Questions by SedonaDB; answers go to `<out>/<question>/sedonadb.parquet`, not timed."""
    import pyarrow.parquet as pq
    import sedonadb

    sd = sedonadb.connect()
    sd.options.memory_limit = f"{MEMORY_GB}gb"
    sd.sql(f"SET datafusion.execution.target_partitions = {threads}").execute()
    for table, view in views(kind).items():
        sd.read_parquet(f"{folder}/{table}.parquet").to_view(f"{table}_file")
        sd.sql(view.format(table=f"{table}_file")).to_view(table)
    found = {}
    for question in questions:
        sql = queries(kind)[question]
        used, table = cold_and_warm(lambda sql=sql: sd.sql(sql).to_arrow_table(), [Path(folder)], warm)
        place = Path(out) / question
        place.mkdir(parents=True, exist_ok=True)
        pq.write_table(table, place / "sedonadb.parquet")
        found[question] = {**used, "rows": table.num_rows}
    return {"found": found}


def geopandas(kind: str, folder: str, questions: list[str], out: str, warm: int, threads: int) -> dict[str, Any]:
    """Questions by GeoPandas. One thread, no limit of memory."""
    asked = _Land(folder) if kind == "land" else _Trips(folder)
    found = {}
    for question in questions:
        used, frame = cold_and_warm(getattr(asked, question), [Path(folder)], warm)
        place = Path(out) / question
        place.mkdir(parents=True, exist_ok=True)
        frame.to_parquet(place / "geopandas.parquet", index=False)
        found[question] = {**used, "rows": len(frame)}
    return {"found": found}


class _Land:
    """The land questions."""

    def __init__(self, folder: str) -> None:
        import geopandas  # noqa: F401  # before the clock

        self.folder = folder

    def table(self, name: str) -> Any:
        return _frame(self.folder, name, LAND[name], {"geom": "geom"}).set_geometry("geom")

    def overlay(self) -> Any:
        parcel, commune = self.table("parcel"), self.table("commune")
        pairs = parcel.sjoin(commune, predicate="intersects")
        pairs["area"] = pairs.geometry.intersection(commune.geometry.loc[pairs["index_right"]], align=False).area
        return pairs[["parcel_id", "commune_code", "area"]]

    def within(self) -> Any:
        pairs = self.table("place").sjoin(self.table("commune"), predicate="within")
        return pairs.groupby("commune_code").size().rename("places").reset_index()

    def overlap(self) -> Any:
        parcel = self.table("parcel")
        pairs = parcel.sjoin(parcel, predicate="intersects", lsuffix="first", rsuffix="second")
        pairs = pairs[pairs["parcel_id_first"] < pairs["parcel_id_second"]]
        pairs["area"] = pairs.geometry.intersection(parcel.geometry.loc[pairs["index_second"]], align=False).area
        return pairs.rename(columns={"parcel_id_first": "first_id", "parcel_id_second": "second_id"})[["first_id", "second_id", "area"]]

    def nearest(self) -> Any:
        return self.table("place").sjoin_nearest(self.table("office"), distance_col="distance")[["parcel_id", "commune_code", "distance"]]


class _Trips:
    """The questions of SpatialBench."""

    def __init__(self, folder: str) -> None:
        import geopandas  # noqa: F401  # before the clock

        self.folder = folder

    def table(self, name: str, columns: tuple[str, ...], *shapes: str) -> Any:
        return _frame(self.folder, name, (*columns, *(TRIPS[name][s] for s in shapes)), {s: TRIPS[name][s] for s in shapes})

    def q1(self) -> Any:
        from shapely import from_wkt

        trip = self.table("trip", ("t_tripkey", "t_pickuptime"), "pickup")
        trip["distance"] = trip["pickup"].distance(from_wkt(CENTRE))
        near = trip[trip["distance"] <= 0.45].sort_values(["distance", "t_tripkey"]).head(100)
        return near.assign(lon=near["pickup"].x, lat=near["pickup"].y)[["t_tripkey", "t_pickuptime", "lon", "lat", "distance"]]

    def q3(self) -> Any:
        from shapely import from_wkt

        trip = self.table("trip", ("t_tripkey", "t_pickuptime", "t_dropofftime", "t_distance", "t_fare"), "pickup")
        near = trip[trip["pickup"].dwithin(from_wkt(BOX), 0.045)]
        return (
            near.assign(
                month=_month(near["t_pickuptime"]),
                seconds=(near["t_dropofftime"] - near["t_pickuptime"]).dt.total_seconds(),
                distance=near["t_distance"].astype(float),
                fare=near["t_fare"].astype(float),
            )
            .groupby("month", as_index=False)
            .agg(trips=("t_tripkey", "count"), distance=("distance", "mean"), seconds=("seconds", "mean"), fare=("fare", "mean"))
        )

    def q5(self) -> Any:
        import geopandas as gpd
        from shapely import MultiPoint

        trip = self.table("trip", ("t_custkey", "t_pickuptime"), "dropoff")
        customer = self.table("customer", ("c_custkey", "c_name"))
        joined = trip.assign(month=_month(trip["t_pickuptime"])).merge(customer, left_on="t_custkey", right_on="c_custkey")
        key = ["c_custkey", "c_name", "month"]
        joined["dropoffs"] = joined.groupby(key)["t_custkey"].transform("size")
        often = joined[joined["dropoffs"] > 5].groupby(key).agg(dropoffs=("dropoffs", "first"), points=("dropoff", list)).reset_index()
        first = often.sort_values(["dropoffs", "c_custkey", "month"], ascending=[False, True, True]).head(100)
        return first.assign(hull=gpd.GeoSeries(first["points"].map(MultiPoint)).convex_hull.area).drop(columns="points")

    def q7(self) -> Any:
        import numpy as np
        from shapely import get_coordinates, linestrings

        trip = self.table("trip", ("t_tripkey", "t_distance"), "pickup", "dropoff")
        ends = np.stack([get_coordinates(trip["pickup"].array), get_coordinates(trip["dropoff"].array)], axis=1)
        trip["reported"] = trip["t_distance"].astype(float)
        trip["line"] = _length(linestrings(ends)) / METRE
        trip["ratio"] = trip["reported"] / trip["line"].where(trip["line"] != 0)
        order = trip.sort_values(["ratio", "reported", "t_tripkey"], ascending=[False, False, True], na_position="last")
        return order.head(100)[["t_tripkey", "reported", "line", "ratio"]]

    def q8(self) -> Any:
        trip = self.table("trip", ("t_tripkey",), "pickup").set_geometry("pickup")
        building = self.table("building", ("b_buildingkey", "b_name"), "boundary").set_geometry("boundary")
        pairs = building.sjoin(trip, predicate="dwithin", distance=0.0045)
        found = pairs.groupby(["b_buildingkey", "b_name"]).size().rename("pickups").reset_index()
        return found.sort_values(["pickups", "b_buildingkey"], ascending=[False, True]).head(100)

    def q9(self) -> Any:
        building = self.table("building", ("b_buildingkey",), "boundary").set_geometry("boundary")
        pairs = building.sjoin(building, predicate="intersects", lsuffix="first", rsuffix="second")
        pairs = pairs[pairs["b_buildingkey_first"] < pairs["b_buildingkey_second"]].rename(
            columns={"b_buildingkey_first": "first", "b_buildingkey_second": "second"}
        )
        other = building.geometry.loc[pairs["index_second"]]
        pairs["area"], pairs["other_area"] = pairs.geometry.area, other.area.to_numpy()
        pairs["overlap"] = pairs.geometry.intersection(other, align=False).area
        pairs["iou"] = pairs["overlap"] / (pairs["area"] + pairs["other_area"] - pairs["overlap"])
        order = pairs.sort_values(["iou", "first", "second"], ascending=[False, True, True]).head(100)
        return order[["first", "second", "area", "other_area", "overlap", "iou"]]

    def q12(self) -> Any:
        """Pickup by pickup: GeoPandas has no join by k nearest."""
        import numpy as np
        from shapely import distance

        trip = self.table("trip", ("t_tripkey",), "pickup")
        building = self.table("building", ("b_buildingkey",), "boundary")["boundary"].to_numpy()
        trip["distance"] = [float(np.partition(distance(point, building), 4)[:5].mean()) for point in trip["pickup"].array]
        return trip.sort_values(["distance", "t_tripkey"], ascending=[False, True]).head(100)[["t_tripkey", "distance"]]


def _frame(folder: str, name: str, columns: tuple[str, ...], shapes: dict[str, str]) -> Any:
    """Columns of a table, its WKB as geometry."""
    import geopandas as gpd
    import pandas as pd

    frame = pd.read_parquet(f"{folder}/{name}.parquet", columns=list(columns))
    made = {shape: gpd.GeoSeries.from_wkb(frame[column]) for shape, column in shapes.items()}
    return gpd.GeoDataFrame(frame.drop(columns=list(shapes.values())).assign(**made))


def _length(lines: Any) -> Any:
    from shapely import length

    return length(lines)


def _month(times: Any) -> Any:
    return times.dt.to_period("M").dt.to_timestamp()


if __name__ == "__main__":
    main({"sedonadb": sedonadb, "geopandas": geopandas})
