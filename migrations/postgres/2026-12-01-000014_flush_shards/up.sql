-- A flush of several shards is one statement: a process that leads many of them has something to
-- flush in each of them all the time, and most of what a small flush costs is the statement. All of
-- it is done or nothing; where one shard's flush is refused, the program sends each by itself.
--
-- Arrays become rows by unnest in the select list, all of them in step: in FROM each has a function
-- scan of its own, whose start and whose copy of the values cost three times as much.
--
-- The function for one shard stays for programs of the schema before, which still run while the
-- processes are replaced one by one. They differ in the number of arguments.

CREATE FUNCTION axs_flush(
    -- The flushes, by shard.
    p_shard        smallint[],
    p_epoch        bigint[],
    p_nonce        bigint[],
    p_from         bigint[],
    p_to           bigint[],
    p_anchor       bytea[],
    p_applied      int8multirange[],
    p_passed_at    timestamptz[],
    p_applied_at   timestamptz[],
    p_last_result  bigint[],
    p_state_hash   bytea[],
    p_published_to bigint[],
    p_ttl          interval[],
    -- Balances that stand, by (shard, account, asset).
    p_set_shard         smallint[],
    p_set_account_id    bigint[],
    p_set_asset_id      integer[],
    p_set_expected      bigint[],
    p_set_version       bigint[],
    p_set_last_position bigint[],
    p_set_available     numeric[],
    p_set_frozen        numeric[],
    -- New balances, by (shard, account, asset).
    p_new_shard         smallint[],
    p_new_account_id    bigint[],
    p_new_asset_id      integer[],
    p_new_version       bigint[],
    p_new_last_position bigint[],
    p_new_available     numeric[],
    p_new_frozen        numeric[],
    -- New accounts, and those whose status changed.
    p_open_shard        smallint[],
    p_open_account_id   bigint[],
    p_open_user_id      numeric[],
    p_open_status       smallint[],
    p_open_at           timestamptz[],
    p_status_shard      smallint[],
    p_status_account_id bigint[],
    p_status            smallint[],
    -- The parts of the journal: slices of what follows.
    p_part_shard        smallint[],
    p_part_from         bigint[],
    p_part_epoch        bigint[],
    p_part              smallint[],
    p_part_command_first integer[],
    p_part_command_last integer[],
    p_part_reject_first integer[],
    p_part_reject_last  integer[],
    p_part_entry_first  integer[],
    p_part_entry_last   integer[],
    p_part_min_seq      bigint[],
    p_part_max_seq      bigint[],
    p_part_first        bigint[],
    p_part_last         bigint[],
    p_seq               bigint[],
    p_position          bigint[],
    p_previous_result   bigint[],
    p_outcome_at        timestamptz[],
    p_account_id        bigint[],
    p_kind              smallint[],
    p_outcome           smallint[],
    p_content_hash      bytea,
    p_reject_command    smallint[],
    p_reject_leg        smallint[],
    p_reject_account_id bigint[],
    p_reject_asset_id   integer[],
    p_reject_had        numeric[],
    p_reject_needed     numeric[],
    p_entry_command     smallint[],
    p_entry_leg         smallint[],
    p_entry_fallback    boolean[],
    p_entry_account_id  bigint[],
    p_entry_asset_id    integer[],
    p_entry_available_delta numeric[],
    p_entry_frozen_delta    numeric[],
    p_entry_available_after numeric[],
    p_entry_frozen_after    numeric[],
    p_entry_version     bigint[],
    p_entry_previous    bigint[],
    p_mark_shard        smallint[],
    p_mark_account_id   bigint[],
    p_mark_asset_id     integer[],
    p_mark_version      bigint[],
    p_mark_position     bigint[],
    p_mark_applied_at   timestamptz[],
    p_reversal_target   bigint[],
    p_reversed_by       bigint[],
    p_dead_shard        smallint[],
    p_dead_position     bigint[],
    p_dead_reason       smallint[],
    p_dead_message      text[],
    p_dead_parks        bigint[],
    p_dead_log_time     timestamptz[],
    p_dead_key          bytea[],
    p_dead_value        bytea[]
) RETURNS boolean LANGUAGE plpgsql SET "axs.flushing" = 'on' AS $$
DECLARE
    v_shards CONSTANT integer := cardinality(p_shard);
    v_row    shard_position;
    v_count  bigint;
    v_detail text;
BEGIN
    -- Nobody waits for a lock of somebody else's shard: the flushes are then sent one by one.
    IF v_shards > 1 THEN
        PERFORM set_config('lock_timeout', '20ms', true);
    END IF;

    -- 1. Fence, position and applied set. It takes the row's lock, so that a take-over waits for
    --    the end of this statement, and this one for the end of a take-over.
    UPDATE shard_position p
        SET next_position = u.next_position, anchor = u.anchor, applied = p.applied + u.applied,
            passed_at = greatest(p.passed_at, u.passed_at),
            applied_at = greatest(p.applied_at, u.applied_at),
            last_result = u.last_result, state_hash = u.state_hash,
            published_to = greatest(p.published_to, u.published_to),
            lease_until = clock_timestamp() + u.ttl, last_flush_at = clock_timestamp()
        FROM (
            SELECT unnest(p_shard) AS shard, unnest(p_epoch) AS epoch, unnest(p_nonce) AS nonce,
                unnest(p_from) AS position, unnest(p_to) AS next_position,
                unnest(p_anchor) AS anchor, unnest(p_applied) AS applied,
                unnest(p_passed_at) AS passed_at, unnest(p_applied_at) AS applied_at,
                unnest(p_last_result) AS last_result, unnest(p_state_hash) AS state_hash,
                unnest(p_published_to) AS published_to, unnest(p_ttl) AS ttl
        ) AS u
        WHERE p.shard = u.shard AND p.epoch = u.epoch AND p.nonce = u.nonce
            AND p.next_position = u.position AND NOT p.applied && u.applied;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count < v_shards THEN
        IF v_shards > 1 THEN
            RAISE EXCEPTION USING ERRCODE = 'AX001', MESSAGE = format(
                'of %s flushes together %s are not what comes next', v_shards, v_shards - v_count);
        END IF;
        SELECT * INTO v_row FROM shard_position p WHERE p.shard = p_shard[1];
        IF v_row.epoch = p_epoch[1] AND v_row.nonce = p_nonce[1] AND v_row.next_position >= p_to[1]
        THEN
            RETURN true;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'AX001', MESSAGE = format(
            'shard %s is under epoch %s at position %s; the flush goes from %s to %s under epoch '
            '%s or adds numbers again',
            p_shard[1], v_row.epoch, v_row.next_position, p_from[1], p_to[1], p_epoch[1]);
    END IF;

    -- 2. Balances by expected version, in the order of their keys.
    IF cardinality(p_set_account_id) > 0 THEN
        UPDATE balance b
            SET version = u.version, last_position = u.last_position, available = u.available,
                frozen = u.frozen
            FROM (
                SELECT unnest(p_set_shard) AS shard, unnest(p_set_account_id) AS account_id,
                    unnest(p_set_asset_id) AS asset_id, unnest(p_set_expected) AS expected,
                    unnest(p_set_version) AS version,
                    unnest(p_set_last_position) AS last_position,
                    unnest(p_set_available) AS available, unnest(p_set_frozen) AS frozen
            ) AS u
            WHERE b.shard = u.shard AND b.account_id = u.account_id AND b.asset_id = u.asset_id
                AND b.version = u.expected
                -- Always so. The planner takes it for few rows, and then goes by the key, too, where
                -- it saw the table with hardly any row and has not looked since.
                AND u.expected > 0 AND u.account_id > 0 AND u.asset_id > 0;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count <> cardinality(p_set_account_id) THEN
            PERFORM axs_check_count('balances', v_count, cardinality(p_set_account_id));
        END IF;
    END IF;
    IF cardinality(p_new_account_id) > 0 THEN
        INSERT INTO balance (account_id, version, last_position, asset_id, shard, available, frozen)
            SELECT unnest(p_new_account_id), unnest(p_new_version), unnest(p_new_last_position),
                unnest(p_new_asset_id), unnest(p_new_shard), unnest(p_new_available),
                unnest(p_new_frozen)
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count <> cardinality(p_new_account_id) THEN
            PERFORM axs_check_count('new balances', v_count, cardinality(p_new_account_id));
        END IF;
    END IF;

    -- 3. Accounts.
    IF cardinality(p_open_account_id) > 0 THEN
        INSERT INTO account (account_id, user_id, opened_at, shard, status)
            SELECT unnest(p_open_account_id), unnest(p_open_user_id), unnest(p_open_at),
                unnest(p_open_shard), unnest(p_open_status)
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count <> cardinality(p_open_account_id) THEN
            PERFORM axs_check_count('new accounts', v_count, cardinality(p_open_account_id));
        END IF;
    END IF;
    IF cardinality(p_status_account_id) > 0 THEN
        UPDATE account a SET status = u.status
            FROM (
                SELECT unnest(p_status_shard) AS shard, unnest(p_status_account_id) AS account_id,
                    unnest(p_status) AS status
            ) AS u
            WHERE a.shard = u.shard AND a.account_id = u.account_id;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count <> cardinality(p_status_account_id) THEN
            PERFORM axs_check_count('accounts', v_count, cardinality(p_status_account_id));
        END IF;
    END IF;

    -- 4. What happened, in parts.
    IF cardinality(p_seq) > 0 THEN
        INSERT INTO journal
            SELECT u.flush_from, u.epoch, u.min_seq, u.max_seq, u.first, u.last, u.shard, u.part,
                u.c2 - u.c1 + 1,
                p_seq[c1:c2], p_position[c1:c2], p_previous_result[c1:c2], p_outcome_at[c1:c2],
                p_account_id[c1:c2], p_kind[c1:c2], p_outcome[c1:c2],
                substring(p_content_hash FROM 16 * (c1 - 1) + 1 FOR 16 * (c2 - c1 + 1)),
                p_reject_command[r1:r2], p_reject_leg[r1:r2], p_reject_account_id[r1:r2],
                p_reject_asset_id[r1:r2], p_reject_had[r1:r2], p_reject_needed[r1:r2],
                p_entry_command[e1:e2], p_entry_leg[e1:e2], p_entry_fallback[e1:e2],
                p_entry_account_id[e1:e2], p_entry_asset_id[e1:e2],
                p_entry_available_delta[e1:e2], p_entry_frozen_delta[e1:e2],
                p_entry_available_after[e1:e2], p_entry_frozen_after[e1:e2],
                p_entry_version[e1:e2], p_entry_previous[e1:e2]
            FROM (
                SELECT unnest(p_part_shard) AS shard, unnest(p_part_from) AS flush_from,
                    unnest(p_part_epoch) AS epoch, unnest(p_part) AS part,
                    unnest(p_part_min_seq) AS min_seq, unnest(p_part_max_seq) AS max_seq,
                    unnest(p_part_first) AS first, unnest(p_part_last) AS last,
                    unnest(p_part_command_first) AS c1, unnest(p_part_command_last) AS c2,
                    unnest(p_part_reject_first) AS r1, unnest(p_part_reject_last) AS r2,
                    unnest(p_part_entry_first) AS e1, unnest(p_part_entry_last) AS e2
            ) AS u;
    END IF;
    IF cardinality(p_mark_account_id) > 0 THEN
        INSERT INTO balance_mark (account_id, version, position, applied_at, asset_id, shard)
            SELECT unnest(p_mark_account_id), unnest(p_mark_version), unnest(p_mark_position),
                unnest(p_mark_applied_at), unnest(p_mark_asset_id), unnest(p_mark_shard);
    END IF;

    -- 5. What is rare.
    IF cardinality(p_reversal_target) > 0 THEN
        INSERT INTO reversal (target, reversed_by)
            SELECT * FROM unnest(p_reversal_target, p_reversed_by)
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        IF v_count <> cardinality(p_reversal_target) THEN
            PERFORM axs_check_count('reversals', v_count, cardinality(p_reversal_target));
        END IF;
    END IF;
    IF cardinality(p_dead_position) > 0 THEN
        INSERT INTO dead_letter (shard, position, reason, message, parks, log_time, key, value)
            SELECT * FROM unnest(p_dead_shard, p_dead_position, p_dead_reason, p_dead_message,
                p_dead_parks, p_dead_log_time, p_dead_key, p_dead_value);
    END IF;
    RETURN false;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM, DETAIL = v_detail,
        CONSTRAINT = SQLSTATE;
END $$;

-- A session that flushes several shards is named axs-flushes. One that hangs and may be what holds the
-- row of a shard whose lease ran out is ended, as the session of the shard's own leader is. Whose row it
-- is cannot be seen: what it did in axs_flush stands under a subtransaction, and the lock on that is
-- given up before the commit. A flush whose session was ended is sent again.
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
                    AND (a.application_name = format('axs-shard-%s-e%s', p_shard, v_row.epoch)
                        OR a.application_name = 'axs-flushes' AND a.backend_xid IS NOT NULL
                            AND a.xact_start < clock_timestamp() - interval '300 milliseconds');
        END;
    END LOOP;
    RAISE EXCEPTION 'the row of shard % is held by a session that could not be ended', p_shard
        USING ERRCODE = 'lock_not_available', CONSTRAINT = '55P03';
END $$;
