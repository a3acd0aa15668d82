-- What a service with a balance table has, in its least: a row for each balance, an entry for each
-- command, a key that makes it idempotent. No API, no events, no cache.
CREATE SCHEMA IF NOT EXISTS baseline;

CREATE TABLE baseline.balance (
    account_id bigint         PRIMARY KEY,
    available  numeric(38, 0) NOT NULL CHECK (available >= 0),
    version    bigint         NOT NULL
) WITH (fillfactor = 70);

CREATE TABLE baseline.entry (
    entry_id        bigint         GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    idempotency_key text           NOT NULL UNIQUE,
    account_id      bigint         NOT NULL,
    delta           numeric(38, 0) NOT NULL,
    available       numeric(38, 0) NOT NULL,
    version         bigint         NOT NULL,
    created_at      timestamptz    NOT NULL DEFAULT now()
);

-- 1: applied; 0: the key was known. Short of funds is an error.
CREATE FUNCTION baseline.apply(p_key text, p_account bigint, p_delta bigint) RETURNS integer
LANGUAGE plpgsql AS $$
DECLARE
    v_balance baseline.balance;
BEGIN
    SELECT * INTO STRICT v_balance FROM baseline.balance b WHERE b.account_id = p_account FOR UPDATE;
    IF v_balance.available + p_delta < 0 THEN
        RAISE EXCEPTION 'account % is short of funds', p_account;
    END IF;
    INSERT INTO baseline.entry (idempotency_key, account_id, delta, available, version)
        VALUES (p_key, p_account, p_delta, v_balance.available + p_delta, v_balance.version + 1)
        ON CONFLICT (idempotency_key) DO NOTHING;
    IF NOT FOUND THEN
        RETURN 0;
    END IF;
    UPDATE baseline.balance b
        SET available = v_balance.available + p_delta, version = v_balance.version + 1
        WHERE b.account_id = p_account;
    RETURN 1;
END $$;

-- In the order of accounts, so that two calls cannot deadlock; how many were applied.
CREATE FUNCTION baseline.apply_all(p_keys text[], p_accounts bigint[], p_deltas bigint[])
RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_item    record;
    v_applied integer := 0;
BEGIN
    FOR v_item IN
        SELECT * FROM unnest(p_keys, p_accounts, p_deltas) WITH ORDINALITY
            AS u (key, account, delta, n) ORDER BY u.account, u.n
    LOOP
        v_applied := v_applied + baseline.apply(v_item.key, v_item.account, v_item.delta);
    END LOOP;
    RETURN v_applied;
END $$;
