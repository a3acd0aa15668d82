-- Commands, what became of them, and the balances.
--
-- The large tables are partitioned by ranges of shards, so that groups of shards can be kept,
-- vacuumed and moved apart; axs_create_partitions makes the partitions when the number of shards
-- is known.

CREATE TABLE sequence (
    shard smallint PRIMARY KEY,
    next  bigint   NOT NULL DEFAULT 1 CHECK (next BETWEEN 1 AND 1::bigint << 48)
) WITH (fillfactor = 50);
COMMENT ON TABLE sequence IS 'The first sequence number of each shard that no block has.';

CREATE TABLE sequence_block (
    nonce     bigint      PRIMARY KEY,
    shard     smallint    NOT NULL,
    first     bigint      NOT NULL,
    last      bigint      NOT NULL,
    leased_at timestamptz NOT NULL,
    state     text        NOT NULL CHECK (state IN ('open', 'closed', 'done')),
    CHECK (first BETWEEN 1 AND last)
);
CREATE INDEX sequence_block_open ON sequence_block (leased_at) WHERE state = 'open';
CREATE INDEX sequence_block_closed ON sequence_block (shard, first) WHERE state = 'closed';
COMMENT ON TABLE sequence_block IS
    'Leases on sequence numbers. open: a writer may use it; closed: nobody may, what is unused '
    'gets sealed; done: each of its numbers is a command or applied.';

CREATE TABLE idempotency (
    command_id   bigint NOT NULL,
    key_hash     bytea  NOT NULL CHECK (octet_length(key_hash) = 16),
    content_hash bytea  NOT NULL CHECK (octet_length(content_hash) = 16),
    PRIMARY KEY (key_hash)
) PARTITION BY HASH (key_hash);
COMMENT ON TABLE idempotency IS
    'Source and key (hashed) of every accepted command, for ever, whatever its shard.';
DO $$
BEGIN
    FOR i IN 0..15 LOOP
        EXECUTE format('CREATE TABLE idempotency_p%1$s PARTITION OF idempotency
            FOR VALUES WITH (MODULUS 16, REMAINDER %1$s)', i);
    END LOOP;
END $$;

CREATE TABLE account_route (
    account_id bigint   PRIMARY KEY,
    shard      smallint NOT NULL
);
COMMENT ON TABLE account_route IS
    'Where an account is, or will be. Written by acceptance of OPEN_ACCOUNT only: the first '
    'stands.';

CREATE TABLE command (
    seq             bigint      NOT NULL,
    account_id      bigint      NOT NULL,
    accepted_at     timestamptz NOT NULL,
    created_at      timestamptz,
    shard           smallint    NOT NULL,
    kind            smallint    NOT NULL,
    content_hash    bytea       NOT NULL,
    source          text        NOT NULL,
    idempotency_key text        NOT NULL,
    reference       text        NOT NULL,
    body            bytea       NOT NULL,
    PRIMARY KEY (shard, seq)
) PARTITION BY RANGE (shard);
COMMENT ON TABLE command IS
    'The ledger: every accepted command, as accepted. Append-only; it is pending while its number '
    'is not in shard_position.applied. Its id is shard << 48 | seq.';

CREATE TABLE account (
    account_id bigint      NOT NULL,
    user_id    numeric(20) NOT NULL,
    opened_at  timestamptz NOT NULL,
    shard      smallint    NOT NULL,
    status     smallint    NOT NULL CHECK (status BETWEEN 1 AND 3),
    PRIMARY KEY (shard, account_id)
) PARTITION BY RANGE (shard);
COMMENT ON TABLE account IS 'Accounts as of the last flush. Status 1 open, 2 blocked, 3 closed.';

-- From 2^62 on accounts are AXS's own: clearing accounts, without a floor.
CREATE TABLE balance (
    account_id    bigint         NOT NULL,
    version       bigint         NOT NULL CHECK (version > 0),
    last_position bigint         NOT NULL,
    asset_id      integer        NOT NULL,
    shard         smallint       NOT NULL,
    available     numeric(38, 0) NOT NULL,
    frozen        numeric(38, 0) NOT NULL,
    PRIMARY KEY (shard, account_id, asset_id),
    CONSTRAINT balance_available_floor CHECK (available >= 0 OR account_id >= 1::bigint << 62),
    CONSTRAINT balance_frozen_floor CHECK (frozen >= 0 OR account_id >= 1::bigint << 62)
) PARTITION BY RANGE (shard);
COMMENT ON TABLE balance IS 'Balances as of the last flush, in minor units. Written by axs_flush.';
COMMENT ON COLUMN balance.version IS 'Rises by one with every entry.';
COMMENT ON COLUMN balance.last_position IS 'Of the last command that changed it.';

-- A part of at most a few hundred commands of one flush. Its sequence numbers span < 65,536, so
-- that a number s is in a part with min_seq <= s <= max_seq < s + 65,536.
CREATE TABLE journal (
    flush_from            bigint                           NOT NULL,
    epoch                 bigint                           NOT NULL,
    min_seq               bigint                           NOT NULL,
    max_seq               bigint                           NOT NULL,
    first_position        bigint                           NOT NULL,
    last_position         bigint                           NOT NULL,
    shard                 smallint                         NOT NULL,
    part                  smallint                         NOT NULL,
    commands              smallint                         NOT NULL,
    seq                   bigint[]         COMPRESSION lz4 NOT NULL,
    position              bigint[]         COMPRESSION lz4 NOT NULL,
    previous_result       bigint[]         COMPRESSION lz4 NOT NULL,
    applied_at            timestamptz[]    COMPRESSION lz4 NOT NULL,
    account_id            bigint[]         COMPRESSION lz4 NOT NULL,
    kind                  smallint[]       COMPRESSION lz4 NOT NULL,
    outcome               smallint[]       COMPRESSION lz4 NOT NULL,
    content_hash          bytea            COMPRESSION lz4 NOT NULL,
    reject_command        smallint[]       COMPRESSION lz4 NOT NULL,
    reject_leg            smallint[]       COMPRESSION lz4 NOT NULL,
    reject_account_id     bigint[]         COMPRESSION lz4 NOT NULL,
    reject_asset_id       integer[]        COMPRESSION lz4 NOT NULL,
    reject_had            numeric[]        COMPRESSION lz4 NOT NULL,
    reject_needed         numeric[]        COMPRESSION lz4 NOT NULL,
    entry_command         smallint[]       COMPRESSION lz4 NOT NULL,
    entry_leg             smallint[]       COMPRESSION lz4 NOT NULL,
    entry_fallback        boolean[]        COMPRESSION lz4 NOT NULL,
    entry_account_id      bigint[]         COMPRESSION lz4 NOT NULL,
    entry_asset_id        integer[]        COMPRESSION lz4 NOT NULL,
    entry_available_delta numeric[]        COMPRESSION lz4 NOT NULL,
    entry_frozen_delta    numeric[]        COMPRESSION lz4 NOT NULL,
    entry_available_after numeric[]        COMPRESSION lz4 NOT NULL,
    entry_frozen_after    numeric[]        COMPRESSION lz4 NOT NULL,
    entry_version         bigint[]         COMPRESSION lz4 NOT NULL,
    entry_previous        bigint[]         COMPRESSION lz4 NOT NULL,
    PRIMARY KEY (shard, flush_from, part),
    CHECK (max_seq - min_seq < 65536),
    CHECK (octet_length(content_hash) = 16 * commands)
) PARTITION BY RANGE (shard);
CREATE INDEX journal_seq ON journal (shard, max_seq, min_seq);
COMMENT ON TABLE journal IS
    'What happened, in parts; read it through the view entry, axs_entries and axs_outcome. '
    'Append-only.';
COMMENT ON COLUMN journal.outcome IS '0: applied, else the reject code.';
COMMENT ON COLUMN journal.previous_result IS 'Position of the shard''s result before, -1: none.';
COMMENT ON COLUMN journal.content_hash IS '16 bytes a command, one behind the other.';
COMMENT ON COLUMN journal.reject_command IS 'Index in seq, from 1, of each rejected command.';
COMMENT ON COLUMN journal.reject_asset_id IS '0: none.';
COMMENT ON COLUMN journal.entry_command IS 'Index in seq, from 1, of each entry''s command.';
COMMENT ON COLUMN journal.entry_previous IS
    'Position of the same balance''s last entry in an earlier command, -1: none.';

CREATE TABLE balance_mark (
    account_id bigint      NOT NULL,
    version    bigint      NOT NULL,
    position   bigint      NOT NULL,
    applied_at timestamptz NOT NULL,
    asset_id   integer     NOT NULL,
    shard      smallint    NOT NULL,
    PRIMARY KEY (shard, account_id, asset_id, version)
) PARTITION BY RANGE (shard);
CREATE INDEX balance_mark_time ON balance_mark (shard, account_id, asset_id, applied_at, version);
COMMENT ON TABLE balance_mark IS
    'Where every 256th version of a balance stands, so that a reader of its history can jump.';

CREATE TABLE reversal (
    target      bigint PRIMARY KEY,
    reversed_by bigint NOT NULL
);
COMMENT ON TABLE reversal IS 'A command is reversed once. Both are command ids.';

CREATE TABLE dead_letter (
    shard    smallint    NOT NULL,
    position bigint      NOT NULL,
    reason   smallint    NOT NULL,
    message  text        NOT NULL,
    parks    bigint,
    log_time timestamptz NOT NULL,
    key      bytea       NOT NULL,
    value    bytea       NOT NULL,
    state    text        NOT NULL DEFAULT 'parked'
                         CHECK (state IN ('parked', 'redriven', 'discarded')),
    PRIMARY KEY (shard, position)
);
CREATE INDEX dead_letter_parks ON dead_letter (parks) WHERE parks IS NOT NULL AND state = 'parked';
COMMENT ON TABLE dead_letter IS 'Records of the log that could not be taken, with their bytes.';
COMMENT ON COLUMN dead_letter.parks IS 'The accepted command that waits for an operator.';

-- Guards against hand-made SQL. Adjustments are commands.

CREATE FUNCTION axs_refuse_write() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF current_setting('axs.flushing', true) IS DISTINCT FROM 'on' THEN
        RAISE EXCEPTION 'table % is written by axs_flush only: send a command', TG_TABLE_NAME
            USING ERRCODE = 'insufficient_privilege';
    END IF;
    RETURN NULL;
END $$;

-- Statement triggers fire for the table that is named, so each partition has its own.
CREATE FUNCTION axs_guard(p_table text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    IF p_table ~ '^(account|balance)(_p\d+)?$' THEN
        EXECUTE format('CREATE TRIGGER %I BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION axs_refuse_write()',
            p_table || '_by_flush', p_table);
    ELSE
        EXECUTE format('CREATE TRIGGER %I BEFORE UPDATE OR DELETE OR TRUNCATE ON %I
            FOR EACH STATEMENT EXECUTE FUNCTION axs_refuse_change()',
            p_table || '_only_grows', p_table);
    END IF;
END $$;

SELECT axs_guard(name) FROM unnest(
    '{account,balance,command,journal,balance_mark,reversal,account_route}'::text[]) AS name;

CREATE FUNCTION axs_create_partitions(p_bounds integer[]) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_options CONSTANT jsonb := '{
        "account": "fillfactor = 90",
        "balance": "fillfactor = 80, autovacuum_vacuum_scale_factor = 0.05",
        "command": "autovacuum_vacuum_insert_scale_factor = 0.1",
        "journal": "toast_tuple_target = 8160",
        "balance_mark": "fillfactor = 100"}';
    v_table text;
    v_name text;
BEGIN
    -- Partitions that stand are left as they are: an operator may have arranged them otherwise.
    IF EXISTS (SELECT FROM pg_inherits WHERE inhparent = 'balance'::regclass) THEN
        RETURN 0;
    END IF;
    FOR v_table IN SELECT jsonb_object_keys(v_options) LOOP
        FOR i IN 1 .. cardinality(p_bounds) LOOP
            v_name := v_table || '_p' || i - 1;
            EXECUTE format('CREATE TABLE %I PARTITION OF %I FOR VALUES FROM (%s) TO (%s) WITH (%s)',
                v_name, v_table, coalesce(p_bounds[i - 1], 0), p_bounds[i], v_options ->> v_table);
            PERFORM axs_guard(v_name);
        END LOOP;
    END LOOP;
    RETURN cardinality(p_bounds);
END $$;
COMMENT ON FUNCTION axs_create_partitions IS
    'Makes a partition for each group of shards, from the upper bounds of the groups: {4,8,16} is '
    '0-3, 4-7, 8-15. Nothing if there are partitions.';
