-- What every process of a cluster must agree on, who leads which shard, and who is there.

CREATE TABLE cluster (
    only_row          boolean     PRIMARY KEY DEFAULT true CHECK (only_row),
    shards            smallint    NOT NULL CHECK (shards BETWEEN 1 AND 1024),
    system_identifier bigint      NOT NULL,
    created_at        timestamptz NOT NULL DEFAULT clock_timestamp()
);
COMMENT ON TABLE cluster IS
    'One row: what every process must agree on. The number of shards never changes.';
COMMENT ON COLUMN cluster.system_identifier IS
    'Of the server that the cluster was created on; another one is a copy, or a restored backup.';

CREATE TABLE asset (
    id    integer  PRIMARY KEY CHECK (id > 0),
    code  text     COLLATE "C" NOT NULL UNIQUE CHECK (code ~ '^[A-Z0-9._-]{1,16}$'),
    scale smallint NOT NULL CHECK (scale BETWEEN 0 AND 18)
);
COMMENT ON TABLE asset IS
    'The registry of assets. It only grows: amounts are stored in minor units of the scale.';

CREATE FUNCTION axs_refuse_change() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'table % only grows: % is refused', TG_TABLE_NAME, TG_OP
        USING ERRCODE = 'insufficient_privilege';
END $$;

CREATE TRIGGER asset_only_grows BEFORE UPDATE OR DELETE OR TRUNCATE ON asset
    FOR EACH STATEMENT EXECUTE FUNCTION axs_refuse_change();

CREATE FUNCTION axs_add_asset(p_code text, p_scale smallint, OUT id integer, OUT scale smallint)
LANGUAGE plpgsql AS $$
BEGIN
    -- Ids are dense, so two that add at once take turns. Readers are not held up.
    LOCK TABLE asset IN SHARE ROW EXCLUSIVE MODE;
    INSERT INTO asset SELECT coalesce(max(a.id), 0) + 1, p_code, p_scale FROM asset a
        ON CONFLICT (code) DO NOTHING;
    SELECT a.id, a.scale INTO id, scale FROM asset a WHERE a.code = p_code;
END $$;
COMMENT ON FUNCTION axs_add_asset IS 'Adds an asset, or answers the one that stands.';

-- One row a shard, updated with every flush: pages are half empty so that updates stay on theirs.
CREATE TABLE shard_position (
    shard         smallint       PRIMARY KEY,
    epoch         bigint         NOT NULL DEFAULT 0,
    nonce         bigint         NOT NULL DEFAULT 0,
    leader        text           NOT NULL DEFAULT '',
    lease_until   timestamptz    NOT NULL DEFAULT 'epoch',
    next_position bigint         NOT NULL DEFAULT 0,
    published_to  bigint         NOT NULL DEFAULT 0,
    last_result   bigint         NOT NULL DEFAULT -1,
    anchor        bytea          CHECK (octet_length(anchor) = 16),
    applied       int8multirange NOT NULL DEFAULT '{}',
    applied_at    timestamptz    NOT NULL DEFAULT 'epoch',
    passed_at     timestamptz    NOT NULL DEFAULT 'epoch',
    state_hash    bytea          NOT NULL DEFAULT '\x00000000000000000000000000000000'
                                 CHECK (octet_length(state_hash) = 16),
    last_flush_at timestamptz
) WITH (fillfactor = 50, autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
COMMENT ON TABLE shard_position IS
    'Leadership and progress of each shard. This row alone decides who may flush.';
COMMENT ON COLUMN shard_position.epoch IS
    'Counts take-overs; a flush under an older one is refused.';
COMMENT ON COLUMN shard_position.nonce IS 'Random, of the last take-over.';
COMMENT ON COLUMN shard_position.next_position IS
    'First log position not yet applied: generation << 48 | Kafka offset.';
COMMENT ON COLUMN shard_position.published_to IS 'First position whose results may be unpublished.';
COMMENT ON COLUMN shard_position.last_result IS 'Position of the last result, -1: none.';
COMMENT ON COLUMN shard_position.anchor IS 'Hash of the last consumed record.';
COMMENT ON COLUMN shard_position.applied IS 'Sequence numbers applied, exact and for ever.';
COMMENT ON COLUMN shard_position.applied_at IS 'Of the last outcome; never runs backwards.';
COMMENT ON COLUMN shard_position.passed_at IS 'The greatest TICK applied.';
COMMENT ON COLUMN shard_position.state_hash IS 'Of all balances and accounts, big-endian.';

CREATE TABLE member (
    name     text        PRIMARY KEY,
    draining boolean     NOT NULL,
    seen_at  timestamptz NOT NULL
);
COMMENT ON TABLE member IS 'Processes that want to lead shards, to spread the shards evenly.';
