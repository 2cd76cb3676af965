-- Who read content. Rows are only added, and removed by age.
CREATE TABLE audit (
    id INTEGER PRIMARY KEY,
    at INTEGER NOT NULL,
    who TEXT NOT NULL,
    action TEXT NOT NULL,
    trace_id BLOB,
    span_id BLOB
) STRICT;
