DROP FUNCTION axs_adopt_server, axs_move_log, axs_recover, axs_adopt, axs_unknown, axs_rebase,
    axs_fence, axs_resume, axs_pause, axs_audit;
CREATE OR REPLACE FUNCTION axs_acquire(
    p_shard smallint, p_leader text, p_mine bigint, p_nonce bigint, p_ttl interval
) RETURNS SETOF shard_position LANGUAGE plpgsql SET lock_timeout = '300ms' AS $$
DECLARE
    v_row shard_position;
BEGIN
    FOR attempt IN 1 .. 2 LOOP
        -- Looks before it waits: a flush of a leader in its lease is not disturbed.
        SELECT * INTO v_row FROM shard_position p WHERE p.shard = p_shard;
        IF NOT FOUND THEN
            RAISE EXCEPTION 'there is no shard %', p_shard
                USING ERRCODE = 'AX005', CONSTRAINT = 'AX005';
        END IF;
        IF v_row.lease_until > clock_timestamp() AND v_row.nonce IS DISTINCT FROM p_mine THEN
            RETURN;
        END IF;
        BEGIN
            UPDATE shard_position p
                SET epoch = p.epoch + 1, nonce = p_nonce, leader = p_leader,
                    lease_until = clock_timestamp() + p_ttl
                WHERE p.shard = p_shard
                    AND (p.lease_until <= clock_timestamp() OR p.nonce = p_mine)
                RETURNING p.* INTO v_row;
            IF FOUND THEN
                PERFORM set_config('application_name',
                    format('axs-shard-%s-e%s', p_shard, v_row.epoch), false);
                RETURN NEXT v_row;
            END IF;
            RETURN;
        EXCEPTION WHEN lock_not_available THEN
            PERFORM pg_terminate_backend(a.pid, 1000) FROM pg_stat_activity a
                WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
                    AND a.application_name = format('axs-shard-%s-e%s', p_shard, v_row.epoch);
        END;
    END LOOP;
    RAISE EXCEPTION 'the row of shard % is held by a session that could not be ended', p_shard
        USING ERRCODE = 'lock_not_available', CONSTRAINT = '55P03';
END $$;
COMMENT ON FUNCTION axs_acquire IS
    'Takes a shard over: raises the epoch and reads the state in one statement. No row: another '
    'one''s lease runs.';
ALTER TABLE shard_position
    DROP COLUMN paused_at,
    DROP COLUMN paused_by,
    DROP COLUMN interventions,
    DROP COLUMN recovered_epoch;
DROP TABLE audit;
