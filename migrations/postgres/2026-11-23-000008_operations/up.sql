-- What operators do to shards. Each act is one statement, and leaves a row in audit.

CREATE TABLE audit (
    id       bigint      GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    at       timestamptz NOT NULL DEFAULT clock_timestamp(),
    operator text        NOT NULL,
    role     text        NOT NULL DEFAULT session_user,
    action   text        NOT NULL,
    shard    smallint,
    reason   text        NOT NULL,
    details  jsonb       NOT NULL
);
SELECT axs_guard('audit');
COMMENT ON TABLE audit IS 'What operators did, by hand and by `axs`. Append-only.';
COMMENT ON COLUMN audit.operator IS 'Who called the program: user@host.';
COMMENT ON COLUMN audit.role IS 'Under which role of PostgreSQL.';
COMMENT ON COLUMN audit.details IS 'What was there before, and what is there since.';

ALTER TABLE shard_position
    ADD COLUMN paused_at       timestamptz,
    ADD COLUMN paused_by       text   NOT NULL DEFAULT '',
    ADD COLUMN interventions   bigint NOT NULL DEFAULT 0,
    ADD COLUMN recovered_epoch bigint NOT NULL DEFAULT 0;
COMMENT ON COLUMN shard_position.paused_at IS 'Set: nobody may lead, until it is resumed.';
COMMENT ON COLUMN shard_position.interventions IS
    'Counts what operators did to the shard: processes that stopped it try again.';
COMMENT ON COLUMN shard_position.recovered_epoch IS
    'Set by a recovery: results of earlier epochs may be beyond next_position.';

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
COMMENT ON FUNCTION axs_acquire IS
    'Takes a shard over: raises the epoch and reads the state in one statement. No row: another '
    'one''s lease runs, or the shard is paused.';

CREATE FUNCTION axs_audit(
    p_operator text, p_action text, p_shard smallint, p_reason text, p_details jsonb
) RETURNS void LANGUAGE sql AS $$
    INSERT INTO audit (operator, action, shard, reason, details)
        VALUES (p_operator, p_action, p_shard, p_reason, p_details)
$$;

CREATE FUNCTION axs_pause(p_shard smallint, p_operator text, p_reason text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shard_position SET paused_at = clock_timestamp(), paused_by = p_operator
        WHERE shard = p_shard AND paused_at IS NULL;
    IF FOUND THEN
        PERFORM axs_audit(p_operator, 'pause', p_shard, p_reason, '{}');
    END IF;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION axs_pause IS
    'Nobody takes the shard over any more, and its leader hands it over. False: it is paused.';

CREATE FUNCTION axs_resume(p_shard smallint, p_operator text, p_reason text) RETURNS boolean
LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shard_position
        SET paused_at = NULL, paused_by = '', interventions = interventions + 1
        WHERE shard = p_shard AND paused_at IS NOT NULL;
    IF FOUND THEN
        PERFORM axs_audit(p_operator, 'resume', p_shard, p_reason, '{}');
    END IF;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION axs_resume IS 'The shard may be led again. False: it was not paused.';

CREATE FUNCTION axs_fence(p_shard smallint, p_nonce bigint, p_operator text, p_reason text)
RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    UPDATE shard_position
        SET epoch = epoch + 1, nonce = p_nonce,
            lease_until = least(lease_until, clock_timestamp())
        WHERE shard = p_shard AND paused_at IS NOT NULL;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'shard % is not paused', p_shard
            USING ERRCODE = 'AX001', CONSTRAINT = 'AX001';
    END IF;
    PERFORM axs_audit(p_operator, 'fence', p_shard, p_reason, '{}');
END $$;
COMMENT ON FUNCTION axs_fence IS
    'Ends the lease of a paused shard whose leader does not hand it over: its flushes are refused.';

CREATE FUNCTION axs_rebase(
    p_shard smallint, p_from bigint, p_to bigint, p_nonce bigint, p_operator text, p_reason text
) RETURNS boolean LANGUAGE plpgsql AS $$
DECLARE
    v_row shard_position;
BEGIN
    UPDATE shard_position p
        SET next_position = p_to, anchor = NULL, epoch = p.epoch + 1, nonce = p_nonce,
            lease_until = least(p.lease_until, clock_timestamp()),
            interventions = p.interventions + 1
        WHERE p.shard = p_shard AND p.next_position = p_from
        RETURNING p.* INTO v_row;
    IF FOUND THEN
        PERFORM axs_audit(p_operator, 'rebase', p_shard, p_reason,
            jsonb_build_object('from', p_from, 'to', p_to, 'epoch', v_row.epoch));
        RETURN true;
    END IF;
    SELECT * INTO v_row FROM shard_position p WHERE p.shard = p_shard;
    IF v_row.next_position >= p_to THEN
        RETURN false;
    END IF;
    RAISE EXCEPTION 'shard % went on from position % to % meanwhile: look again', p_shard, p_from,
        v_row.next_position USING ERRCODE = 'AX001', CONSTRAINT = 'AX001';
END $$;
COMMENT ON FUNCTION axs_rebase IS
    'The shard goes on at a position of a later generation; whoever leads is fenced. What is '
    'pending is produced again by the outbox. False: it went on there already.';

CREATE FUNCTION axs_unknown(
    p_shard smallint, p_command_id bigint[], p_key_hash bytea[], p_content_hash bytea[]
) RETURNS smallint[] LANGUAGE sql STABLE AS $$
    SELECT array_agg((CASE
            WHEN c.content_hash = u.content_hash THEN 1
            WHEN c.seq IS NOT NULL THEN 2
            WHEN i.command_id <> u.command_id THEN 3
            ELSE 0
        END)::smallint ORDER BY u.n)
    FROM unnest(p_command_id, p_key_hash, p_content_hash)
        WITH ORDINALITY AS u (command_id, key_hash, content_hash, n)
    LEFT JOIN command c ON c.shard = p_shard AND c.seq = axs_seq_of_command(u.command_id)
    LEFT JOIN idempotency i ON i.key_hash = u.key_hash
$$;
COMMENT ON FUNCTION axs_unknown IS
    'What is known of commands that stand in the log: 0 nothing, 1 it was accepted, 2 its number '
    'has another content, 3 its key is that of another command.';

CREATE FUNCTION axs_adopt(
    p_shard           smallint,
    p_key_hash        bytea[],
    p_content_hash    bytea[],
    p_command_id      bigint[],
    p_account_id      bigint[],
    p_kind            smallint[],
    p_source          text[],
    p_idempotency_key text[],
    p_reference       text[],
    p_created_at      timestamptz[],
    p_accepted_at     timestamptz[],
    p_body            bytea[]
) RETURNS smallint[] LANGUAGE plpgsql AS $$
DECLARE
    v_known CONSTANT smallint[] :=
        axs_unknown(p_shard, p_command_id, p_key_hash, p_content_hash);
BEGIN
    INSERT INTO idempotency (command_id, key_hash, content_hash)
        SELECT u.command_id, u.key_hash, u.content_hash
        FROM unnest(p_command_id, p_key_hash, p_content_hash, v_known)
            AS u (command_id, key_hash, content_hash, known)
        WHERE u.known = 0 ORDER BY u.key_hash
        ON CONFLICT DO NOTHING;
    INSERT INTO account_route (account_id, shard)
        SELECT u.account_id, p_shard
        FROM unnest(p_account_id, p_kind, v_known) AS u (account_id, kind, known)
        WHERE u.kind = 3 AND u.known = 0 ORDER BY u.account_id
        ON CONFLICT DO NOTHING;
    INSERT INTO command (seq, account_id, accepted_at, created_at, shard, kind, content_hash,
            source, idempotency_key, reference, body)
        SELECT axs_seq_of_command(u.command_id), u.account_id, u.accepted_at, u.created_at,
            p_shard, u.kind, u.content_hash, u.source, u.key, u.reference, u.body
        FROM unnest(p_command_id, p_account_id, p_accepted_at, p_created_at, p_kind,
                p_content_hash, p_source, p_idempotency_key, p_reference, p_body, v_known)
            AS u (command_id, account_id, accepted_at, created_at, kind, content_hash, source,
                key, reference, body, known)
        WHERE u.known = 0;
    RETURN v_known;
END $$;
COMMENT ON FUNCTION axs_adopt IS
    'Stores commands that stand in the log and have no row, as they were accepted; answers what '
    'was known of each before (axs_unknown), and leaves those alone.';

CREATE FUNCTION axs_recover(
    p_shard smallint, p_epoch bigint, p_next bigint, p_nonce bigint, p_operator text, p_reason text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_next bigint;
    v_row  shard_position;
BEGIN
    UPDATE sequence_block SET state = 'closed' WHERE shard = p_shard AND state = 'open';
    SELECT next INTO v_next FROM sequence WHERE shard = p_shard FOR UPDATE;
    IF v_next < p_next THEN
        INSERT INTO sequence_block
            VALUES (p_nonce, p_shard, v_next, p_next - 1, clock_timestamp(), 'closed');
        UPDATE sequence SET next = p_next WHERE shard = p_shard;
    END IF;
    UPDATE shard_position p
        SET epoch = greatest(p.epoch + 1, p_epoch), nonce = p_nonce,
            recovered_epoch = greatest(p.epoch + 1, p_epoch),
            lease_until = least(p.lease_until, clock_timestamp()),
            interventions = p.interventions + 1
        WHERE p.shard = p_shard
        RETURNING p.* INTO v_row;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no shard %', p_shard
            USING ERRCODE = 'AX005', CONSTRAINT = 'AX005';
    END IF;
    PERFORM axs_audit(p_operator, 'recover', p_shard, p_reason, jsonb_build_object(
        'epoch', v_row.epoch, 'sequence_before', v_next, 'sequence', greatest(v_next, p_next)));
END $$;
COMMENT ON FUNCTION axs_recover IS
    'After the database came back from an earlier time: no number below p_next and no epoch below '
    'p_epoch is used again, no block is open, whoever leads is fenced.';

CREATE FUNCTION axs_move_log(
    p_prefix text, p_cluster_id text, p_operator text, p_reason text
) RETURNS void LANGUAGE plpgsql AS $$
DECLARE
    v_row cluster;
BEGIN
    SELECT * INTO v_row FROM cluster;
    UPDATE cluster SET kafka_topic_prefix = p_prefix,
        kafka_cluster_id = coalesce(p_cluster_id, kafka_cluster_id);
    PERFORM axs_audit(p_operator, 'move log', NULL, p_reason, jsonb_build_object(
        'prefix_before', v_row.kafka_topic_prefix, 'prefix', p_prefix,
        'cluster_before', v_row.kafka_cluster_id, 'cluster', p_cluster_id));
END $$;
COMMENT ON FUNCTION axs_move_log IS
    'The positions are of another log from now on: of these topics, in this Kafka cluster.';

CREATE FUNCTION axs_adopt_server(p_operator text, p_reason text) RETURNS boolean
LANGUAGE plpgsql AS $$
DECLARE
    v_row cluster;
BEGIN
    SELECT * INTO v_row FROM cluster FOR UPDATE;
    UPDATE cluster SET system_identifier = s.system_identifier FROM pg_control_system() s
        WHERE cluster.system_identifier <> s.system_identifier;
    IF FOUND THEN
        PERFORM axs_audit(p_operator, 'adopt server', NULL, p_reason,
            jsonb_build_object('system_before', v_row.system_identifier));
    END IF;
    RETURN FOUND;
END $$;
COMMENT ON FUNCTION axs_adopt_server IS
    'The cluster is on this server from now on. False: it was already.';
