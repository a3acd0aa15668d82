-- A load looks each account up by its key, whatever the planner knows. While a table is new and was
-- never analyzed it takes it for empty, and going through the whole shard for every account looks
-- cheapest: that plan was kept for up to a minute, and opening accounts took a second a batch.
-- OFFSET 0 keeps the lookup by itself.

CREATE OR REPLACE FUNCTION axs_load(
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
            CROSS JOIN LATERAL (SELECT * FROM account a WHERE a.shard = p_shard
                AND a.account_id = u.id OFFSET 0) AS a;
        SELECT array_agg(b.account_id), array_agg(b.asset_id), array_agg(b.available),
                array_agg(b.frozen), array_agg(b.version), array_agg(b.last_position)
            INTO balance_account_id, balance_asset_id, available, frozen, version, last_position
            FROM unnest(v_accounts) AS u (id)
            CROSS JOIN LATERAL (SELECT * FROM balance b WHERE b.shard = p_shard
                AND b.account_id = u.id OFFSET 0) AS b;
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
