-- Reading: what a leader loads, and the journal as plain SQL.

CREATE FUNCTION axs_shard_of_account(p_account_id bigint) RETURNS smallint
LANGUAGE sql STABLE AS $$
    SELECT CASE
        WHEN p_account_id >= 1::bigint << 62 THEN (p_account_id - (1::bigint << 62))::smallint
        ELSE (SELECT r.shard FROM account_route r WHERE r.account_id = p_account_id)
    END
$$;
COMMENT ON FUNCTION axs_shard_of_account IS
    'By its route; the clearing account of a shard by its id.';

CREATE FUNCTION axs_part_of_command(p_shard smallint, p_seq bigint) RETURNS SETOF journal
LANGUAGE sql STABLE AS $$
    SELECT * FROM journal j
    WHERE j.shard = p_shard AND j.max_seq >= p_seq AND j.max_seq < p_seq + 65536
        AND j.min_seq <= p_seq AND p_seq = ANY (j.seq)
    ORDER BY j.max_seq LIMIT 1
$$;
COMMENT ON FUNCTION axs_part_of_command IS 'The part of the journal that a sequence number is in.';

CREATE VIEW entry AS
    SELECT axs_command_id(j.shard, c.seq) AS command_id, j.shard, c.position, c.applied_at,
        e.leg, e.fallback, e.account_id, e.asset_id, e.available_delta, e.frozen_delta,
        e.available_after, e.frozen_after, e.version, e.previous AS previous_position, j.epoch
    FROM journal j
    CROSS JOIN LATERAL unnest(j.entry_command, j.entry_leg, j.entry_fallback, j.entry_account_id,
        j.entry_asset_id, j.entry_available_delta, j.entry_frozen_delta, j.entry_available_after,
        j.entry_frozen_after, j.entry_version, j.entry_previous)
        AS e (command, leg, fallback, account_id, asset_id, available_delta, frozen_delta,
            available_after, frozen_after, version, previous)
    JOIN LATERAL unnest(j.seq, j.position, j.applied_at)
        WITH ORDINALITY AS c (seq, position, applied_at, n) ON c.n = e.command;
COMMENT ON VIEW entry IS
    'Every entry of the journal. It unpacks all of it: for one balance use axs_entries.';

CREATE FUNCTION axs_outcome(p_command_id bigint) RETURNS TABLE (
    command_id bigint, shard smallint, "position" bigint, epoch bigint, applied_at timestamptz,
    account_id bigint, kind smallint, outcome smallint, content_hash bytea,
    reject_leg smallint, reject_account_id bigint, reject_asset_id integer, reject_had numeric,
    reject_needed numeric, reversed_by bigint
) LANGUAGE sql STABLE AS $$
    SELECT p_command_id, j.shard, j.position[n], j.epoch, j.applied_at[n], j.account_id[n],
        j.kind[n], j.outcome[n], substring(j.content_hash FROM 16 * (n - 1) + 1 FOR 16),
        j.reject_leg[r], j.reject_account_id[r], nullif(j.reject_asset_id[r], 0), j.reject_had[r],
        j.reject_needed[r],
        (SELECT v.reversed_by FROM reversal v WHERE v.target = p_command_id)
    FROM axs_part_of_command(axs_shard_of_command(p_command_id), axs_seq_of_command(p_command_id))
        AS j
    CROSS JOIN LATERAL array_position(j.seq, axs_seq_of_command(p_command_id)) AS n
    CROSS JOIN LATERAL array_position(j.reject_command, n::smallint) AS r
$$;
COMMENT ON FUNCTION axs_outcome IS
    'What became of a command: outcome 0 applied, else its reject code. No row: nothing yet.';

CREATE FUNCTION axs_entries(
    p_account_id bigint, p_asset_id integer, p_from_version bigint DEFAULT NULL,
    p_to_version bigint DEFAULT 1, p_until timestamptz DEFAULT NULL, p_limit integer DEFAULT 100
) RETURNS TABLE (
    command_id bigint, "position" bigint, applied_at timestamptz, reference text, leg smallint,
    fallback boolean, available_delta numeric, frozen_delta numeric, available_after numeric,
    frozen_after numeric, version bigint, previous_position bigint
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_variable
DECLARE
    v_shard    CONSTANT smallint := axs_shard_of_account(p_account_id);
    v_next     bigint;
    v_left     integer := p_limit;
    v_seq      bigint[];
    v_position bigint[];
    v_time     timestamptz[];
    v_command  smallint[];
    v_leg      smallint[];
    v_fallback boolean[];
    v_account  bigint[];
    v_asset    integer[];
    v_available_delta numeric[];
    v_frozen_delta    numeric[];
    v_available_after numeric[];
    v_frozen_after    numeric[];
    v_version  bigint[];
    v_previous bigint[];
    v_index    integer[];
    e          integer;
    n          integer;
BEGIN
    IF p_from_version < p_to_version THEN
        RETURN;
    END IF;
    -- Begins at the first mark behind what is wanted, or at the last entry.
    SELECT m.position INTO v_next FROM (
        (SELECT m.version, m.position FROM balance_mark m
            WHERE m.shard = v_shard AND m.account_id = p_account_id AND m.asset_id = p_asset_id
                AND m.version >= p_from_version ORDER BY m.version LIMIT 1)
        UNION ALL
        (SELECT m.version, m.position FROM balance_mark m
            WHERE m.shard = v_shard AND m.account_id = p_account_id AND m.asset_id = p_asset_id
                AND m.applied_at > p_until ORDER BY m.applied_at, m.version LIMIT 1)
        UNION ALL
        SELECT b.version, b.last_position FROM balance b
            WHERE b.shard = v_shard AND b.account_id = p_account_id AND b.asset_id = p_asset_id
        ) AS m ORDER BY m.version LIMIT 1;
    WHILE v_next >= 0 AND v_left > 0 LOOP
        SELECT j.seq, j.position, j.applied_at, j.entry_command, j.entry_leg, j.entry_fallback,
                j.entry_account_id, j.entry_asset_id, j.entry_available_delta,
                j.entry_frozen_delta, j.entry_available_after, j.entry_frozen_after,
                j.entry_version, j.entry_previous
            INTO v_seq, v_position, v_time, v_command, v_leg, v_fallback,
                v_account, v_asset, v_available_delta,
                v_frozen_delta, v_available_after, v_frozen_after,
                v_version, v_previous
            FROM journal j
            WHERE j.shard = v_shard
                AND j.flush_from = (SELECT max(f.flush_from) FROM journal f
                    WHERE f.shard = v_shard AND f.flush_from <= v_next)
                AND v_next BETWEEN j.first_position AND j.last_position
                AND v_next = ANY (j.position);
        v_index := array_positions(v_account, p_account_id);
        previous_position := NULL;
        -- All of the balance's entries in this part, the latest first, as long as no other part
        -- comes between.
        FOR i IN REVERSE coalesce(cardinality(v_index), 0) .. 1 LOOP
            e := v_index[i];
            n := v_command[e];
            CONTINUE WHEN v_asset[e] <> p_asset_id OR v_position[n] > v_next;
            EXIT WHEN v_position[n] < v_next
                AND v_position[n] IS DISTINCT FROM previous_position;
            IF v_version[e] < p_to_version OR v_left = 0 THEN
                RETURN;
            END IF;
            v_next := v_position[n];
            previous_position := v_previous[e];
            CONTINUE WHEN v_version[e] > p_from_version OR v_time[n] > p_until;
            command_id := axs_command_id(v_shard, v_seq[n]);
            position := v_next;
            applied_at := v_time[n];
            reference := coalesce((SELECT c.reference FROM command c
                WHERE c.shard = v_shard AND c.seq = v_seq[n]), '');
            leg := v_leg[e];
            fallback := v_fallback[e];
            available_delta := v_available_delta[e];
            frozen_delta := v_frozen_delta[e];
            available_after := v_available_after[e];
            frozen_after := v_frozen_after[e];
            version := v_version[e];
            RETURN NEXT;
            v_left := v_left - 1;
        END LOOP;
        IF previous_position IS NULL THEN
            RAISE EXCEPTION 'shard %: the journal has no entry of account %, asset % at position %',
                v_shard, p_account_id, p_asset_id, v_next USING ERRCODE = 'data_corrupted';
        END IF;
        v_next := previous_position;
    END LOOP;
END $$;
COMMENT ON FUNCTION axs_entries IS
    'A balance''s history, the latest first: versions p_from_version down to p_to_version, applied '
    'at p_until or before. It walks from entry to entry, so it costs what it answers.';

CREATE FUNCTION axs_load(
    p_shard    smallint,
    p_accounts bigint[],
    p_targets  bigint[],
    p_hashes   bigint[],
    p_accepted bigint[],
    OUT account_id bigint[], OUT user_id numeric[], OUT status smallint[],
    OUT opened_at timestamptz[],
    OUT balance_account_id bigint[], OUT balance_asset_id integer[], OUT available numeric[],
    OUT frozen numeric[], OUT version bigint[], OUT last_position bigint[],
    OUT target bigint[], OUT target_account_id bigint[], OUT target_kind smallint[],
    OUT target_outcome smallint[], OUT target_reversed_by bigint[],
    OUT entry_target bigint[], OUT entry_leg smallint[], OUT entry_fallback boolean[],
    OUT entry_account_id bigint[], OUT entry_asset_id integer[],
    OUT entry_available_delta numeric[], OUT entry_frozen_delta numeric[],
    OUT entry_available_after numeric[], OUT entry_frozen_after numeric[],
    OUT entry_version bigint[], OUT entry_previous bigint[],
    OUT hash_command_id bigint[], OUT hash bytea[],
    OUT accepted_command_id bigint[], OUT accepted_hash bytea[]
) LANGUAGE plpgsql STABLE AS $$
DECLARE
    v_accounts bigint[] := p_accounts;
BEGIN
    IF cardinality(p_targets) > 0 THEN
        SELECT array_agg(o.command_id), array_agg(o.account_id), array_agg(o.kind),
                array_agg(o.outcome), array_agg(coalesce(o.reversed_by, 0))
            INTO target, target_account_id, target_kind, target_outcome, target_reversed_by
            FROM unnest(p_targets) AS u (id) CROSS JOIN LATERAL axs_outcome(u.id) AS o
            WHERE axs_shard_of_command(u.id) = p_shard;
        SELECT array_agg(u.id), array_agg(e.leg), array_agg(e.fallback), array_agg(e.account_id),
                array_agg(e.asset_id), array_agg(e.available_delta), array_agg(e.frozen_delta),
                array_agg(e.available_after), array_agg(e.frozen_after), array_agg(e.version),
                array_agg(e.previous)
            INTO entry_target, entry_leg, entry_fallback, entry_account_id, entry_asset_id,
                entry_available_delta, entry_frozen_delta, entry_available_after,
                entry_frozen_after, entry_version, entry_previous
            FROM unnest(target) AS u (id)
            CROSS JOIN LATERAL axs_part_of_command(p_shard, axs_seq_of_command(u.id)) AS j
            CROSS JOIN LATERAL unnest(j.entry_command, j.entry_leg, j.entry_fallback,
                j.entry_account_id, j.entry_asset_id, j.entry_available_delta,
                j.entry_frozen_delta, j.entry_available_after, j.entry_frozen_after,
                j.entry_version, j.entry_previous)
                AS e (command, leg, fallback, account_id, asset_id, available_delta, frozen_delta,
                    available_after, frozen_after, version, previous)
            WHERE e.command = array_position(j.seq, axs_seq_of_command(u.id));
        v_accounts := ARRAY (SELECT DISTINCT u.id FROM unnest(v_accounts || entry_account_id)
            AS u (id) ORDER BY u.id);
    END IF;
    IF cardinality(v_accounts) > 0 THEN
        SELECT array_agg(a.account_id), array_agg(a.user_id), array_agg(a.status),
                array_agg(a.opened_at)
            INTO account_id, user_id, status, opened_at
            FROM unnest(v_accounts) AS u (id)
            JOIN account a ON a.shard = p_shard AND a.account_id = u.id;
        SELECT array_agg(b.account_id), array_agg(b.asset_id), array_agg(b.available),
                array_agg(b.frozen), array_agg(b.version), array_agg(b.last_position)
            INTO balance_account_id, balance_asset_id, available, frozen, version, last_position
            FROM unnest(v_accounts) AS u (id)
            JOIN balance b ON b.shard = p_shard AND b.account_id = u.id;
    END IF;
    IF cardinality(p_hashes) > 0 THEN
        SELECT array_agg(o.command_id), array_agg(o.content_hash) INTO hash_command_id, hash
            FROM unnest(p_hashes) AS u (id) CROSS JOIN LATERAL axs_outcome(u.id) AS o
            WHERE axs_shard_of_command(u.id) = p_shard;
    END IF;
    IF cardinality(p_accepted) > 0 THEN
        SELECT array_agg(u.id), array_agg(c.content_hash) INTO accepted_command_id, accepted_hash
            FROM unnest(p_accepted) AS u (id)
            JOIN command c ON c.shard = p_shard AND c.seq = axs_seq_of_command(u.id)
            WHERE axs_shard_of_command(u.id) = p_shard;
    END IF;
END $$;
COMMENT ON FUNCTION axs_load IS
    'What a leader needs before it applies a batch, of one snapshot. What is not there is absent; '
    'an empty list is NULL.';
