-- Models the hub may load, and where their files are.
CREATE TABLE models (
    name           TEXT   NOT NULL PRIMARY KEY,
    source         TEXT   NOT NULL,
    path           TEXT   NOT NULL,
    task           TEXT   NOT NULL,
    format         TEXT   NOT NULL,
    family         TEXT   NOT NULL,
    weights        TEXT   NOT NULL,
    parameters     BIGINT NOT NULL,
    bytes          BIGINT NOT NULL,
    context_tokens BIGINT NOT NULL,
    details        TEXT   NOT NULL,
    created_at_ms  BIGINT NOT NULL
);
