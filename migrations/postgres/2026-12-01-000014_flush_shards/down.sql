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
        IF v_row.paused_at IS NOT NULL
            OR v_row.lease_until > clock_timestamp() AND v_row.nonce IS DISTINCT FROM p_mine
        THEN
            RETURN;
        END IF;
        BEGIN
            UPDATE shard_position p
                SET epoch = p.epoch + 1, nonce = p_nonce, leader = p_leader,
                    lease_until = clock_timestamp() + p_ttl
                WHERE p.shard = p_shard AND p.paused_at IS NULL
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

DO $$
BEGIN
    EXECUTE (SELECT 'DROP FUNCTION ' || oid::regprocedure FROM pg_proc
        WHERE proname = 'axs_flush' AND pronamespace = current_schema()::regnamespace
            AND pronargs = 91);
END $$;
