-- A flush finds each balance by its key, whatever the planner knows. While a table is new and was
-- never analyzed it takes it for empty, and comparing every balance of the shard with every one of
-- the flush looks cheapest. OFFSET 0 makes the shard a part of each row's key: it is no condition
-- by itself, and there is no plan that goes through the shard.

CREATE OR REPLACE FUNCTION axs_flush(
    p_shard        smallint,
    p_epoch        bigint,
    p_nonce        bigint,
    p_from         bigint,
    p_to           bigint,
    p_anchor       bytea,
    p_applied      int8multirange,
    p_passed_at    timestamptz,
    p_applied_at   timestamptz,
    p_last_result  bigint,
    p_state_hash   bytea,
    p_published_to bigint,
    p_ttl          interval,
    -- Balances that stand, by (account, asset).
    p_set_account_id    bigint[],
    p_set_asset_id      integer[],
    p_set_expected      bigint[],
    p_set_version       bigint[],
    p_set_last_position bigint[],
    p_set_available     numeric[],
    p_set_frozen        numeric[],
    -- New balances, by (account, asset).
    p_new_account_id    bigint[],
    p_new_asset_id      integer[],
    p_new_version       bigint[],
    p_new_last_position bigint[],
    p_new_available     numeric[],
    p_new_frozen        numeric[],
    -- New accounts, and those whose status changed.
    p_open_account_id   bigint[],
    p_open_user_id      numeric[],
    p_open_status       smallint[],
    p_open_at           timestamptz[],
    p_status_account_id bigint[],
    p_status            smallint[],
    -- The parts of the journal: slices of what follows.
    p_part_command_last integer[],
    p_part_reject_last  integer[],
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
    p_mark_account_id   bigint[],
    p_mark_asset_id     integer[],
    p_mark_version      bigint[],
    p_mark_position     bigint[],
    p_mark_applied_at   timestamptz[],
    p_reversal_target   bigint[],
    p_reversed_by       bigint[],
    p_dead_position     bigint[],
    p_dead_reason       smallint[],
    p_dead_message      text[],
    p_dead_parks        bigint[],
    p_dead_log_time     timestamptz[],
    p_dead_key          bytea[],
    p_dead_value        bytea[]
) RETURNS boolean LANGUAGE plpgsql SET "axs.flushing" = 'on' AS $$
DECLARE
    v_row    shard_position;
    v_count  bigint;
    v_detail text;
BEGIN
    -- 1. Fence, position and applied set. It takes the row's lock, so that a take-over waits for
    --    the end of this statement, and this one for the end of a take-over.
    UPDATE shard_position p
        SET next_position = p_to, anchor = p_anchor, applied = p.applied + p_applied,
            passed_at = greatest(p.passed_at, p_passed_at),
            applied_at = greatest(p.applied_at, p_applied_at),
            last_result = p_last_result, state_hash = p_state_hash,
            published_to = greatest(p.published_to, p_published_to),
            lease_until = clock_timestamp() + p_ttl, last_flush_at = clock_timestamp()
        WHERE p.shard = p_shard AND p.epoch = p_epoch AND p.nonce = p_nonce
            AND p.next_position = p_from AND NOT p.applied && p_applied;
    IF NOT FOUND THEN
        SELECT * INTO v_row FROM shard_position p WHERE p.shard = p_shard;
        IF v_row.epoch = p_epoch AND v_row.nonce = p_nonce AND v_row.next_position >= p_to THEN
            RETURN true;
        END IF;
        RAISE EXCEPTION USING ERRCODE = 'AX001', MESSAGE = format(
            'shard %s is under epoch %s at position %s; the flush goes from %s to %s under epoch '
            '%s or adds numbers again',
            p_shard, v_row.epoch, v_row.next_position, p_from, p_to, p_epoch);
    END IF;

    -- 2. Balances by expected version, in the order of their keys.
    IF cardinality(p_set_account_id) > 0 THEN
        UPDATE balance b
            SET version = u.version, last_position = u.last_position, available = u.available,
                frozen = u.frozen
            FROM (
                SELECT p_shard AS shard, *
                FROM unnest(p_set_account_id, p_set_asset_id, p_set_expected, p_set_version,
                        p_set_last_position, p_set_available, p_set_frozen)
                    AS u (account_id, asset_id, expected, version, last_position, available,
                        frozen)
                OFFSET 0
            ) AS u
            WHERE b.shard = u.shard AND b.account_id = u.account_id AND b.asset_id = u.asset_id
                AND b.version = u.expected;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        PERFORM axs_check_count('balances', v_count, cardinality(p_set_account_id));
    END IF;
    IF cardinality(p_new_account_id) > 0 THEN
        INSERT INTO balance (account_id, version, last_position, asset_id, shard, available, frozen)
            SELECT u.account_id, u.version, u.last_position, u.asset_id, p_shard, u.available,
                u.frozen
            FROM unnest(p_new_account_id, p_new_asset_id, p_new_version, p_new_last_position,
                    p_new_available, p_new_frozen)
                AS u (account_id, asset_id, version, last_position, available, frozen)
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        PERFORM axs_check_count('new balances', v_count, cardinality(p_new_account_id));
    END IF;

    -- 3. Accounts.
    IF cardinality(p_open_account_id) > 0 THEN
        INSERT INTO account (account_id, user_id, opened_at, shard, status)
            SELECT u.account_id, u.user_id, u.opened_at, p_shard, u.status
            FROM unnest(p_open_account_id, p_open_user_id, p_open_at, p_open_status)
                AS u (account_id, user_id, opened_at, status)
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        PERFORM axs_check_count('new accounts', v_count, cardinality(p_open_account_id));
    END IF;
    IF cardinality(p_status_account_id) > 0 THEN
        UPDATE account a SET status = u.status
            FROM (
                SELECT p_shard AS shard, *
                FROM unnest(p_status_account_id, p_status) AS u (account_id, status)
                OFFSET 0
            ) AS u
            WHERE a.shard = u.shard AND a.account_id = u.account_id;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        PERFORM axs_check_count('accounts', v_count, cardinality(p_status_account_id));
    END IF;

    -- 4. What happened. A part is the slice from behind the last one's end to its own.
    IF cardinality(p_seq) > 0 THEN
        INSERT INTO journal
            SELECT p_from, p_epoch, u.min_seq, u.max_seq, u.first, u.last, p_shard, u.part,
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
                SELECT n AS part, min_seq, max_seq, first, last, c2, r2, e2,
                    coalesce(p_part_command_last[n - 1], 0) + 1 AS c1,
                    coalesce(p_part_reject_last[n - 1], 0) + 1 AS r1,
                    coalesce(p_part_entry_last[n - 1], 0) + 1 AS e1
                FROM unnest(p_part_command_last, p_part_reject_last, p_part_entry_last,
                        p_part_min_seq, p_part_max_seq, p_part_first, p_part_last)
                    WITH ORDINALITY AS part (c2, r2, e2, min_seq, max_seq, first, last, n)
            ) AS u;
    END IF;
    IF cardinality(p_mark_account_id) > 0 THEN
        INSERT INTO balance_mark (account_id, version, position, applied_at, asset_id, shard)
            SELECT u.account_id, u.version, u.position, u.applied_at, u.asset_id, p_shard
            FROM unnest(p_mark_account_id, p_mark_version, p_mark_position, p_mark_applied_at,
                    p_mark_asset_id)
                AS u (account_id, version, position, applied_at, asset_id);
    END IF;

    -- 5. What is rare.
    IF cardinality(p_reversal_target) > 0 THEN
        INSERT INTO reversal (target, reversed_by)
            SELECT * FROM unnest(p_reversal_target, p_reversed_by)
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_count = ROW_COUNT;
        PERFORM axs_check_count('reversals', v_count, cardinality(p_reversal_target));
    END IF;
    IF cardinality(p_dead_position) > 0 THEN
        INSERT INTO dead_letter (shard, position, reason, message, parks, log_time, key, value)
            SELECT p_shard, * FROM unnest(p_dead_position, p_dead_reason, p_dead_message,
                p_dead_parks, p_dead_log_time, p_dead_key, p_dead_value);
    END IF;
    RETURN false;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
    RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM, DETAIL = v_detail,
        CONSTRAINT = SQLSTATE;
END $$;
