"""From a delivery to a checked batch: contracts, readers, landing, load.

Objects of the writing connection that one file makes and another reads, in the order of a batch. Each is made anew for every batch, and none
outlives its connection.

batch_deliveries    load.py          publish.py, merge.py, cast.py    the deliveries of the batch: id, day, moment, arrival
cut                 readers/         load.py, cast.py                 rows as the file has them, all text, with _delivery_id and _line
typed               cast.py          targets.py                       the same with the contract's names and types, and what could not be read
known_station       targets.py       reading.sql, lab_result.sql, registers.py    codes of stations, former ones too, by the registers
known_name          targets.py       reading.sql, registers.py        spellings of parameters that a station has of its own
seed_…              targets.py       reading.sql, lab_result.sql      reference data, as text
memory.main.batch   targets.py       quality/, publish.py, load.py    rows that the gate judges; quality/ adds their reasons
batch, good, speaking   publish.py   merge.py                         views of it: all rows, those that pass, those of deliveries that speak for a scope
incoming            merge.py         versions.py                      the good rows with every column that the target has
mine, touched       merge.py         versions.py                      scopes that the deliveries of the batch speak for, now and (touched) at an earlier gating
merged              merge.py         publish.py                       rows of the batch (_delivery_id, _line) that are told as accepted
changed             merge.py         publish.py                       keys, units and days that the publish changed: what ops.affected names
differing           merge.py         publish.py                       keys on which deliveries differ
"""
