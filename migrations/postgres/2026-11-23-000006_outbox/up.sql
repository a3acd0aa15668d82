-- The outbox: commands that were passed over, and numbers that nobody can use.

CREATE FUNCTION axs_unused(p_shard smallint, p_numbers int8multirange) RETURNS int8multirange
LANGUAGE sql STABLE AS $$
    SELECT p_numbers - coalesce(range_agg(int8range(c.seq, c.seq + 1)), '{}')
    FROM unnest(p_numbers) AS gap
    JOIN command c ON c.shard = p_shard AND c.seq >= lower(gap) AND c.seq < upper(gap)
$$;
COMMENT ON FUNCTION axs_unused IS 'Those of the numbers that are no commands.';

-- Most closed blocks that one call looks at.
CREATE FUNCTION axs_closed_blocks(p_shard smallint) RETURNS SETOF sequence_block
LANGUAGE sql STABLE AS $$
    SELECT * FROM sequence_block b WHERE b.shard = p_shard AND b.state = 'closed'
    ORDER BY b.first LIMIT 100
$$;

CREATE FUNCTION axs_close_old_blocks(p_age interval) RETURNS bigint LANGUAGE plpgsql AS $$
DECLARE
    v_closed bigint;
BEGIN
    SELECT axs_close_blocks(coalesce(array_agg(b.nonce), '{}')) INTO v_closed
        FROM sequence_block b
        WHERE b.state = 'open' AND b.leased_at <= clock_timestamp() - p_age;
    -- A following statement, which sees what closing waited for. Blocks without a number left to
    -- seal are never looked at again.
    UPDATE sequence_block b SET state = 'done'
        FROM shard_position p CROSS JOIN LATERAL axs_closed_blocks(p.shard) AS c
        WHERE b.nonce = c.nonce AND b.state = 'closed' AND isempty(axs_unused(c.shard,
            int8multirange(int8range(c.first, c.last, '[]')) - p.applied));
    RETURN v_closed;
END $$;
COMMENT ON FUNCTION axs_close_old_blocks IS
    'Closes every block leased longer ago, whoever holds it; how many.';

CREATE FUNCTION axs_outbox_view(
    p_shard smallint, p_margin interval, p_limit integer, p_scan integer,
    OUT now timestamptz, OUT wal_position bigint, OUT passed_at timestamptz,
    OUT pending_count bigint, OUT oldest_pending_at timestamptz,
    OUT pending bigint[], OUT seal_first bigint[], OUT seal_last bigint[]
) LANGUAGE plpgsql STABLE AS $$
#variable_conflict use_column
DECLARE
    v_applied int8multirange;
    v_gaps    int8multirange;
BEGIN
    SELECT clock_timestamp(), (pg_current_wal_insert_lsn() - '0/0'::pg_lsn)::bigint, p.passed_at,
            p.applied, int8multirange(int8range(1, s.next)) - p.applied
        INTO now, wal_position, passed_at, v_applied, v_gaps
        FROM shard_position p JOIN sequence s ON s.shard = p.shard
        WHERE p.shard = p_shard;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no shard %', p_shard
            USING ERRCODE = 'AX005', CONSTRAINT = 'AX005';
    END IF;
    -- The numbers missing in the applied set, the lowest first, the open end included.
    WITH missing AS MATERIALIZED (
        SELECT c.seq, c.accepted_at
        FROM unnest(v_gaps) AS gap
        CROSS JOIN LATERAL (
            SELECT c.seq, c.accepted_at FROM command c
            WHERE c.shard = p_shard AND c.seq >= lower(gap) AND c.seq < upper(gap)
                AND NOT EXISTS (SELECT FROM dead_letter d
                    WHERE d.parks = axs_command_id(p_shard, c.seq) AND d.state = 'parked')
            ORDER BY c.seq LIMIT p_scan
        ) AS c
        LIMIT p_scan
    )
    SELECT count(*), min(m.accepted_at), ARRAY (
            SELECT d.seq FROM missing d WHERE d.accepted_at < passed_at - p_margin
            ORDER BY d.accepted_at, d.seq LIMIT p_limit)
        INTO pending_count, oldest_pending_at, pending
        FROM missing m;
    SELECT array_agg(lower(gap) ORDER BY gap), array_agg(upper(gap) - 1 ORDER BY gap)
        INTO seal_first, seal_last
        FROM axs_closed_blocks(p_shard) AS b
        CROSS JOIN LATERAL unnest(axs_unused(p_shard,
            int8multirange(int8range(b.first, b.last, '[]')) - v_applied)) AS gap;
END $$;
COMMENT ON FUNCTION axs_outbox_view IS
    'What of a shard is pending, and which numbers can be sealed, of one snapshot.';
