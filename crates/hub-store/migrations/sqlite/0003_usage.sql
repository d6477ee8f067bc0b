-- One row a request. A key may be deleted and a model removed; what they used stays.
CREATE TABLE usage (
    at_ms             BIGINT  NOT NULL,
    request_id        TEXT    NOT NULL,
    key_id            TEXT,
    model             TEXT    NOT NULL,
    task              TEXT    NOT NULL,
    endpoint          TEXT    NOT NULL,
    prompt_tokens     BIGINT  NOT NULL,
    completion_tokens BIGINT  NOT NULL,
    queue_ms          BIGINT  NOT NULL,
    prefill_ms        BIGINT  NOT NULL,
    decode_ms         BIGINT  NOT NULL,
    status            INTEGER NOT NULL,
    error_kind        TEXT
);

CREATE INDEX usage_at ON usage (at_ms);
