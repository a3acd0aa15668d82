-- Balances that were found to differ from what was flushed, and changes that were made by hand.

CREATE TABLE drift (
    id         bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    found_at   timestamptz NOT NULL DEFAULT clock_timestamp(),
    seen_at    timestamptz,
    whole_at   timestamptz,
    account_id bigint      NOT NULL,
    version    bigint      NOT NULL,
    blocked_by bigint,
    asset_id   integer     NOT NULL,
    shard      smallint    NOT NULL,
    kind       text        NOT NULL CHECK (kind IN ('touched', 'journal', 'memory', 'redis')),
    detail     text        NOT NULL,
    UNIQUE (account_id, asset_id, version, kind)
);
CREATE INDEX drift_open ON drift (shard, id) WHERE whole_at IS NULL;
COMMENT ON TABLE drift IS
    'Balances that differed: from their journal, from the leader''s memory, in Redis, or touched by '
    'hand. Written by the leader''s detector, and by triggers on balance.';
COMMENT ON COLUMN drift.seen_at IS 'The shard''s leader raised the alarm.';
COMMENT ON COLUMN drift.whole_at IS 'The balance was seen whole again.';
COMMENT ON COLUMN drift.version IS 'Of the balance when it was found.';
COMMENT ON COLUMN drift.blocked_by IS 'The BLOCK_ACCOUNT that was submitted.';

-- axs_flush raises the version of what it updates and removes nothing. Whatever else a session does
-- is noted, although the next flush may put the right amounts back before anybody looks. A function
-- that repairs sets axs.repairing.
CREATE FUNCTION axs_note_touch() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE
    v_how text := 'removed';
BEGIN
    IF current_setting('axs.repairing', true) = 'on' THEN
        RETURN NULL;
    END IF;
    IF TG_OP = 'UPDATE' THEN
        v_how := format('changed: available %s to %s, frozen %s to %s, version %s to %s',
            OLD.available, NEW.available, OLD.frozen, NEW.frozen, OLD.version, NEW.version);
    END IF;
    INSERT INTO drift AS d (account_id, version, asset_id, shard, kind, detail)
        VALUES (OLD.account_id, OLD.version, OLD.asset_id, OLD.shard, 'touched',
            format('%s, by role %s of "%s"', v_how, session_user,
                current_setting('application_name')))
        ON CONFLICT (account_id, asset_id, version, kind) DO UPDATE
            SET found_at = clock_timestamp(), seen_at = NULL, whole_at = NULL,
                detail = EXCLUDED.detail
            WHERE d.whole_at IS NOT NULL;
    RETURN NULL;
END $$;
CREATE TRIGGER balance_touched AFTER UPDATE ON balance FOR EACH ROW
    WHEN (NEW.version <= OLD.version AND NEW IS DISTINCT FROM OLD)
    EXECUTE FUNCTION axs_note_touch();
CREATE TRIGGER balance_removed AFTER DELETE ON balance FOR EACH ROW
    EXECUTE FUNCTION axs_note_touch();
-- Where a session switches triggers off for itself, too.
ALTER TABLE balance ENABLE ALWAYS TRIGGER balance_touched;
ALTER TABLE balance ENABLE ALWAYS TRIGGER balance_removed;
