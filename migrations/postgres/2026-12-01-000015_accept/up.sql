-- Acceptance of keys that are new, which nearly all are: an INSERT that looks for nothing first and
-- confirms nothing behind takes half of the time. Arrays become rows in the select list, as in
-- axs_flush.
--
-- The function without the last argument stays for programs of the schema before, which still run
-- while the processes are replaced one by one.

CREATE FUNCTION axs_accept(
    p_block_shard     smallint[],
    p_block_nonce     bigint[],
    p_key_hash        bytea[],
    p_content_hash    bytea[],
    p_command_id      bigint[],
    p_account_id      bigint[],
    p_kind            smallint[],
    p_source          text[],
    p_idempotency_key text[],
    p_reference       text[],
    p_created_at      timestamptz[],
    p_body            bytea[],
    -- Most likely no key is known.
    p_expects_new     boolean,
    OUT accepted_at   timestamptz,
    OUT status        smallint[],
    OUT value         bigint[]
) LANGUAGE plpgsql AS $$
DECLARE
    v_items    CONSTANT integer := cardinality(p_key_hash);
    v_ours     boolean[] := array_fill(true, ARRAY[v_items]);
    v_count    bigint;
    v_inserted boolean := false;
    v_standing bigint;
    v_lost     boolean;
    v_row      record;
    v_taken    bigint;
    v_detail   text;
BEGIN
    status := array_fill(0::smallint, ARRAY[v_items]);
    value := array_fill(0::bigint, ARRAY[v_items]);

    -- 1. The blocks. Whoever closes one waits for us, and we see what he did.
    PERFORM FROM sequence_block b WHERE b.nonce = ANY (p_block_nonce) AND b.state = 'open'
        ORDER BY b.nonce FOR SHARE;
    GET DIAGNOSTICS v_count = ROW_COUNT;
    IF v_count <> cardinality(p_block_nonce) THEN
        SELECT u.shard INTO v_row FROM unnest(p_block_shard, p_block_nonce) AS u (shard, nonce)
            WHERE NOT EXISTS (
                SELECT FROM sequence_block b WHERE b.nonce = u.nonce AND b.state = 'open')
            LIMIT 1;
        RAISE EXCEPTION 'a sequence block of shard % is closed', v_row.shard
            USING ERRCODE = 'AX003', DETAIL = v_row.shard;
    END IF;

    -- 2. The keys, in one order for everybody, so that two groups cannot deadlock. Where one is known
    --    the first way leaves dead rows behind, the second costs nearly twice as much.
    IF p_expects_new THEN
        BEGIN
            INSERT INTO idempotency (command_id, key_hash, content_hash)
                SELECT u.command_id, u.key_hash, u.content_hash
                FROM (
                    SELECT unnest(p_command_id) AS command_id, unnest(p_key_hash) AS key_hash,
                        unnest(p_content_hash) AS content_hash
                ) AS u
                WHERE u.command_id <> 0 ORDER BY u.key_hash;
            GET DIAGNOSTICS v_count = ROW_COUNT;
            v_inserted := true;
        EXCEPTION WHEN unique_violation THEN
            -- Undone. The second way finds out which.
        END;
    END IF;
    IF NOT v_inserted THEN
        INSERT INTO idempotency (command_id, key_hash, content_hash)
            SELECT u.command_id, u.key_hash, u.content_hash
            FROM (
                SELECT unnest(p_command_id) AS command_id, unnest(p_key_hash) AS key_hash,
                    unnest(p_content_hash) AS content_hash
            ) AS u
            WHERE u.command_id <> 0 ORDER BY u.key_hash
            ON CONFLICT DO NOTHING;
        GET DIAGNOSTICS v_count = ROW_COUNT;
    END IF;

    -- 3. What stands for the others: in a following statement, because the snapshot of the first
    --    does not see the rows that it waited for.
    IF v_count < v_items THEN
        SELECT array_agg(s.status ORDER BY s.n), array_agg(s.value ORDER BY s.n),
                array_agg(s.status = 0 ORDER BY s.n), count(*) FILTER (WHERE s.status = 0),
                bool_or(s.lost)
            INTO status, value, v_ours, v_standing, v_lost
            FROM (
                SELECT u.n, coalesce(i.command_id, 0) AS value,
                    i.command_id IS NULL AND u.command_id <> 0 AS lost,
                    (CASE
                        WHEN i.command_id IS NULL THEN 4
                        WHEN i.command_id = u.command_id THEN 0
                        WHEN i.content_hash = u.content_hash THEN 1
                        ELSE 2
                    END)::smallint AS status
                FROM unnest(p_key_hash, p_content_hash, p_command_id)
                    WITH ORDINALITY AS u (key_hash, content_hash, command_id, n)
                LEFT JOIN idempotency i ON i.key_hash = u.key_hash
            ) AS s;
        IF v_lost THEN
            RAISE EXCEPTION 'a key was given up by a group that we waited for'
                USING ERRCODE = 'serialization_failure';
        END IF;
        -- More keys name the ids that were sent than were inserted: an earlier send of this group
        -- was committed. Those are duplicates, under the same id.
        IF v_standing > v_count THEN
            FOR v_row IN
                SELECT u.n, c.content_hash = u.content_hash AS same
                FROM unnest(p_command_id, p_content_hash, p_source, p_idempotency_key, v_ours)
                    WITH ORDINALITY AS u (command_id, content_hash, source, key, ours, n)
                JOIN command c ON c.shard = axs_shard_of_command(u.command_id)
                    AND c.seq = axs_seq_of_command(u.command_id)
                    AND c.source = u.source AND c.idempotency_key = u.key
                WHERE u.ours
            LOOP
                v_ours[v_row.n] := false;
                status[v_row.n] := CASE WHEN v_row.same THEN 1 ELSE 2 END;
            END LOOP;
        END IF;
    END IF;

    -- 4. Routes of new accounts: the first stands. An item that came second leaves nothing behind.
    IF 3 = ANY (p_kind) THEN
        INSERT INTO account_route (account_id, shard)
            SELECT u.account_id, axs_shard_of_command(u.command_id)
            FROM unnest(p_account_id, p_command_id, p_kind, v_ours)
                WITH ORDINALITY AS u (account_id, command_id, kind, ours, n)
            WHERE u.kind = 3 AND u.ours ORDER BY u.account_id, u.n
            ON CONFLICT DO NOTHING;
        FOR v_row IN
            SELECT u.n, r.shard
            FROM unnest(p_account_id, p_command_id, p_kind, v_ours)
                WITH ORDINALITY AS u (account_id, command_id, kind, ours, n)
            JOIN account_route r ON r.account_id = u.account_id
            WHERE u.kind = 3 AND u.ours AND r.shard <> axs_shard_of_command(u.command_id)
        LOOP
            v_ours[v_row.n] := false;
            status[v_row.n] := 3;
            value[v_row.n] := v_row.shard;
            DELETE FROM idempotency WHERE key_hash = p_key_hash[v_row.n];
        END LOOP;
    END IF;

    -- 5. The commands that are ours. The time is taken as late as can be.
    accepted_at := clock_timestamp();
    INSERT INTO command (seq, account_id, accepted_at, created_at, shard, kind, content_hash,
            source, idempotency_key, reference, body)
        SELECT axs_seq_of_command(u.command_id), u.account_id, axs_accept.accepted_at, u.created_at,
            axs_shard_of_command(u.command_id), u.kind, u.content_hash, u.source, u.key,
            u.reference, u.body
        FROM (
            SELECT unnest(p_command_id) AS command_id, unnest(p_account_id) AS account_id,
                unnest(p_created_at) AS created_at, unnest(p_kind) AS kind,
                unnest(p_content_hash) AS content_hash, unnest(p_source) AS source,
                unnest(p_idempotency_key) AS key, unnest(p_reference) AS reference,
                unnest(p_body) AS body, unnest(v_ours) AS ours
        ) AS u
        WHERE u.ours;
EXCEPTION WHEN OTHERS THEN
    GET STACKED DIAGNOSTICS v_detail = PG_EXCEPTION_DETAIL;
    IF SQLSTATE = '23505' THEN
        -- Everything above is undone: a command that has one of the ids, under another key.
        SELECT u.command_id INTO v_taken
            FROM unnest(p_command_id, p_key_hash) AS u (command_id, key_hash)
            JOIN command c ON c.shard = axs_shard_of_command(u.command_id)
                AND c.seq = axs_seq_of_command(u.command_id)
            WHERE NOT EXISTS (SELECT FROM idempotency i
                WHERE i.key_hash = u.key_hash AND i.command_id = u.command_id)
            LIMIT 1;
        -- None: the group itself has an id twice.
        SELECT coalesce(v_taken, (SELECT u.id FROM unnest(p_command_id) AS u (id)
            WHERE u.id <> 0 GROUP BY u.id HAVING count(*) > 1 LIMIT 1)) INTO v_taken;
        IF v_taken IS NOT NULL THEN
            RAISE EXCEPTION 'command id % is in use', v_taken
                USING ERRCODE = 'AX004', CONSTRAINT = 'AX004', DETAIL = v_taken;
        END IF;
    END IF;
    RAISE EXCEPTION USING ERRCODE = SQLSTATE, MESSAGE = SQLERRM, DETAIL = v_detail,
        CONSTRAINT = SQLSTATE;
END $$;
COMMENT ON FUNCTION axs_accept(smallint[], bigint[], bytea[], bytea[], bigint[], bigint[],
    smallint[], text[], text[], text[], timestamptz[], bytea[], boolean) IS
    'Accepts a group of commands, all in one statement. Status of each item: 0 accepted, '
    '1 duplicate (value: the id that stands), 2 conflict (the same), 3 the account''s route is in '
    'another shard (value), 4 sent without an id (0) and its key is not known. Keys are distinct.';
