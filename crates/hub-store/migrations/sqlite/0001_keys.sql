-- API keys. The secret is never stored, only its SHA-256.
CREATE TABLE api_keys (
    id              TEXT   NOT NULL PRIMARY KEY,
    name            TEXT   NOT NULL,
    prefix          TEXT   NOT NULL,
    secret_sha256   BLOB   NOT NULL UNIQUE,
    created_at_ms   BIGINT NOT NULL,
    last_used_at_ms BIGINT,
    revoked_at_ms   BIGINT
);

-- A revoked key gives its name free.
CREATE UNIQUE INDEX api_keys_active_name ON api_keys (name) WHERE revoked_at_ms IS NULL;
