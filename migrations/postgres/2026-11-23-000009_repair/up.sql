-- Repair of balance rows from the journal, by an operator, while nobody leads the shard.

CREATE FUNCTION axs_repair_balances(
    p_shard         smallint,
    -- Of the snapshot that was compared: nothing may have happened since.
    p_epoch         bigint,
    p_next_position bigint,
    -- By (account, asset). Version 0: there must be no row.
    p_account_id    bigint[],
    p_asset_id      integer[],
    p_version       bigint[],
    p_last_position bigint[],
    p_available     numeric[],
    p_frozen        numeric[],
    p_state_hash    bytea,
    p_operator      text,
    p_reason        text
) RETURNS bigint LANGUAGE plpgsql SET "axs.flushing" = 'on' SET "axs.repairing" = 'on' AS $$
DECLARE
    v_row     shard_position;
    v_changes jsonb;
BEGIN
    -- Waits for a take-over or a flush under way, and holds the next one up.
    SELECT * INTO v_row FROM shard_position p WHERE p.shard = p_shard FOR UPDATE;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no shard %', p_shard USING ERRCODE = 'AX005', CONSTRAINT = 'AX005';
    END IF;
    IF v_row.paused_at IS NULL OR v_row.lease_until > clock_timestamp() THEN
        RAISE EXCEPTION 'shard % is led, or may be: pause it first', p_shard
            USING ERRCODE = 'AX001', CONSTRAINT = 'AX001';
    END IF;
    IF (v_row.epoch, v_row.next_position) <> (p_epoch, p_next_position) THEN
        RAISE EXCEPTION 'shard % went on to epoch % and position % meanwhile: compare again',
            p_shard, v_row.epoch, v_row.next_position
            USING ERRCODE = 'AX001', CONSTRAINT = 'AX001';
    END IF;
    IF p_reason = '' THEN
        RAISE EXCEPTION 'a repair of balances needs a reason'
            USING ERRCODE = 'check_violation', CONSTRAINT = '23514';
    END IF;

    SELECT jsonb_agg(jsonb_build_object('account_id', u.account_id, 'asset_id', u.asset_id,
            'before', to_jsonb(b) - 'shard' - 'account_id' - 'asset_id',
            'after', CASE WHEN u.version > 0 THEN jsonb_build_object('version', u.version,
                'last_position', u.last_position, 'available', u.available, 'frozen', u.frozen)
                END) ORDER BY u.account_id, u.asset_id)
        INTO v_changes
        FROM unnest(p_account_id, p_asset_id, p_version, p_last_position, p_available, p_frozen)
            AS u (account_id, asset_id, version, last_position, available, frozen)
        LEFT JOIN balance b ON b.shard = p_shard AND b.account_id = u.account_id
            AND b.asset_id = u.asset_id;
    DELETE FROM balance b USING unnest(p_account_id, p_asset_id) AS u (account_id, asset_id)
        WHERE b.shard = p_shard AND b.account_id = u.account_id AND b.asset_id = u.asset_id;
    INSERT INTO balance (account_id, version, last_position, asset_id, shard, available, frozen)
        SELECT u.account_id, u.version, u.last_position, u.asset_id, p_shard, u.available, u.frozen
        FROM unnest(p_account_id, p_asset_id, p_version, p_last_position, p_available, p_frozen)
            AS u (account_id, asset_id, version, last_position, available, frozen)
        WHERE u.version > 0;
    UPDATE shard_position SET state_hash = p_state_hash WHERE shard = p_shard;
    PERFORM axs_audit(p_operator, 'repair_balances', p_shard, p_reason, jsonb_build_object(
        'epoch', p_epoch, 'next_position', p_next_position,
        'state_hash_before', encode(v_row.state_hash, 'hex'),
        'state_hash', encode(p_state_hash, 'hex'), 'balances', v_changes));
    RETURN cardinality(p_account_id);
END $$;
COMMENT ON FUNCTION axs_repair_balances IS
    'Makes balance rows as the journal says, while the shard is paused and nobody leads it, and '
    'leaves a row in audit with what was there before.';
