"""Spatial questions and their answers' columns, shared by our jobs and the peers; standard library only.

The tables hold WKB in Parquet; each engine sees them as views with a geometry. The questions of SpatialBench are those of Apache Sedona
SpatialBench without a zone (1, 3, 5, 7, 8, 9, 12), written for these views.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Answer:
    """Columns of an answer: those that pair rows, those that must be equal, those that must be near."""

    key: tuple[str, ...]
    equal: tuple[str, ...] = ()
    near: tuple[str, ...] = ()


LAND = {"parcel": ("parcel_id", "geom"), "commune": ("commune_code", "geom"), "place": ("parcel_id", "geom"), "office": ("commune_code", "geom")}
"""Tables of the land questions: key, geometry. A place is a point in a parcel, an office one in a commune."""

LAND_ANSWERS = {
    "overlay": Answer(("parcel_id", "commune_code"), (), ("area",)),
    "within": Answer(("commune_code",), ("places",)),
    "overlap": Answer(("first_id", "second_id"), (), ("area",)),
    "nearest": Answer(("parcel_id",), ("commune_code",), ("distance",)),
}
LAND_QUERIES = {
    "overlay": """
        SELECT p.parcel_id, c.commune_code, ST_Area(ST_Intersection(p.geom, c.geom)) AS area
        FROM parcel AS p JOIN commune AS c ON ST_Intersects(p.geom, c.geom)""",
    "within": """
        SELECT c.commune_code, count(*) AS places
        FROM place AS p JOIN commune AS c ON ST_Within(p.geom, c.geom) GROUP BY c.commune_code""",
    "overlap": """
        SELECT a.parcel_id AS first_id, b.parcel_id AS second_id, ST_Area(ST_Intersection(a.geom, b.geom)) AS area
        FROM parcel AS a JOIN parcel AS b ON ST_Intersects(a.geom, b.geom) AND a.parcel_id < b.parcel_id""",
    "nearest": """
        SELECT p.parcel_id, o.commune_code, ST_Distance(p.geom, o.geom) AS distance
        FROM place AS p JOIN office AS o ON ST_KNN(p.geom, o.geom, 1, FALSE)""",
}
"""As Sedona and SedonaDB take them."""
DUCKDB_NEAREST = """
    SELECT p.parcel_id, arg_min(o.commune_code, ST_Distance(p.geom, o.geom)) AS commune_code, min(ST_Distance(p.geom, o.geom)) AS distance
    FROM place AS p, office AS o GROUP BY p.parcel_id"""
POSTGIS_NEAREST = """
    SELECT p.parcel_id, o.commune_code, ST_Distance(p.geom, o.geom) AS distance
    FROM place AS p CROSS JOIN LATERAL (SELECT * FROM office ORDER BY office.geom <-> p.geom LIMIT 1) AS o"""

TRIPS = {"trip": {"pickup": "t_pickuploc", "dropoff": "t_dropoffloc"}, "customer": {}, "building": {"boundary": "b_boundary"}}
"""Tables of SpatialBench that the questions need: name of a geometry, the column of its WKB."""

CENTRE, BOX = "POINT (-111.7610 34.8697)", "POLYGON ((-111.9060 34.7347, -111.6160 34.7347, -111.6160 35.0047, -111.9060 35.0047, -111.9060 34.7347))"
METRE = 0.000009
"""In degrees, as SpatialBench counts."""
TRIP_ANSWERS = {
    "q1": Answer(("t_tripkey",), ("t_pickuptime",), ("lon", "lat", "distance")),
    "q3": Answer(("month",), ("trips",), ("distance", "seconds", "fare")),
    "q5": Answer(("c_custkey", "month"), ("c_name", "dropoffs"), ("hull",)),
    "q7": Answer(("t_tripkey",), (), ("reported", "line", "ratio")),
    "q8": Answer(("b_buildingkey",), ("b_name", "pickups"), ()),
    "q9": Answer(("first", "second"), (), ("area", "other_area", "overlap", "iou")),
    "q12": Answer(("t_tripkey",), (), ("distance",)),
}
TRIP_QUERIES = {
    "q1": f"""
        SELECT t_tripkey, t_pickuptime, ST_X(pickup) AS lon, ST_Y(pickup) AS lat, ST_Distance(pickup, ST_GeomFromText('{CENTRE}')) AS distance
        FROM trip WHERE ST_DWithin(pickup, ST_GeomFromText('{CENTRE}'), 0.45) ORDER BY distance, t_tripkey LIMIT 100""",
    "q3": f"""
        SELECT date_trunc('month', t_pickuptime) AS month, count(t_tripkey) AS trips, avg(CAST(t_distance AS DOUBLE)) AS distance,
            avg(date_part('epoch', t_dropofftime) - date_part('epoch', t_pickuptime)) AS seconds, avg(CAST(t_fare AS DOUBLE)) AS fare
        FROM trip WHERE ST_DWithin(pickup, ST_GeomFromText('{BOX}'), 0.045) GROUP BY 1""",
    "q5": """
        SELECT c_custkey, c_name, date_trunc('month', t_pickuptime) AS month, count(*) AS dropoffs, ST_Area(ST_ConvexHull(ST_Collect_Agg(dropoff))) AS hull
        FROM trip JOIN customer ON t_custkey = c_custkey GROUP BY 1, 2, 3 HAVING count(*) > 5 ORDER BY dropoffs DESC, c_custkey, month LIMIT 100""",
    "q7": f"""
        SELECT t_tripkey, reported, line, reported / nullif(line, 0) AS ratio
        FROM (SELECT t_tripkey, CAST(t_distance AS DOUBLE) AS reported, ST_Length(ST_MakeLine(pickup, dropoff)) / {METRE} AS line FROM trip) AS t
        ORDER BY ratio DESC NULLS LAST, reported DESC, t_tripkey LIMIT 100""",
    "q8": """
        SELECT b_buildingkey, b_name, count(*) AS pickups
        FROM trip JOIN building ON ST_DWithin(pickup, boundary, 0.0045) GROUP BY 1, 2 ORDER BY pickups DESC, b_buildingkey LIMIT 100""",
    "q9": """
        SELECT *, overlap / (area + other_area - overlap) AS iou
        FROM (
            SELECT a.b_buildingkey AS first, b.b_buildingkey AS second, ST_Area(a.boundary) AS area, ST_Area(b.boundary) AS other_area,
                ST_Area(ST_Intersection(a.boundary, b.boundary)) AS overlap
            FROM building AS a JOIN building AS b ON a.b_buildingkey < b.b_buildingkey AND ST_Intersects(a.boundary, b.boundary)
        ) AS pair
        ORDER BY iou DESC, first, second LIMIT 100""",
    "q12": """
        SELECT t_tripkey, avg(distance) AS distance
        FROM (SELECT t_tripkey, ST_Distance(pickup, boundary) AS distance FROM trip JOIN building ON ST_KNN(pickup, boundary, 5, FALSE)) AS near
        GROUP BY t_tripkey ORDER BY distance DESC, t_tripkey LIMIT 100""",
}
"""As SedonaDB takes them."""
DUCKDB_Q12 = """
    SELECT t_tripkey, avg(near.distance) AS distance
    FROM trip, LATERAL (SELECT ST_Distance(pickup, boundary) AS distance FROM building ORDER BY distance LIMIT 5) AS near
    GROUP BY t_tripkey ORDER BY 2 DESC, t_tripkey LIMIT 100"""


def views(kind: str) -> dict[str, str]:
    """Of `land` or `trips`: table, and the SELECT of its view over `{table}`, a relation of the Parquet columns."""
    if kind == "land":
        return {table: f"SELECT {key}, ST_GeomFromWKB(geom) AS geom FROM {{table}}" for table, (key, _) in LAND.items()}
    return {table: "SELECT *" + "".join(f", ST_GeomFromWKB({c}) AS {g}" for g, c in made.items()) + " FROM {table}" for table, made in TRIPS.items()}


def queries(kind: str) -> dict[str, str]:
    """The questions of `land` or `trips`."""
    return LAND_QUERIES if kind == "land" else TRIP_QUERIES


def answers(kind: str) -> dict[str, Answer]:
    """The columns of their answers."""
    return LAND_ANSWERS if kind == "land" else TRIP_ANSWERS


def for_duckdb(kind: str, query: str) -> str:
    """A question as DuckDB takes it: it has no join by k nearest, and its aggregates have other names."""
    if query == "nearest":
        return DUCKDB_NEAREST
    if query == "q12":
        return DUCKDB_Q12
    return queries(kind)[query].replace("ST_Collect_Agg(dropoff)", "ST_Collect(list(dropoff))")
