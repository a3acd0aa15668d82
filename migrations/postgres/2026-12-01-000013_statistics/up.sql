-- No plan of ours depends on statistics: every statement goes by keys. Those of the journal's arrays
-- are the dearest there are: ANALYZE unpacks every array of its sample and counts its elements, in
-- one go, while commands wait for a processor.
CREATE FUNCTION axs_skip_statistics() RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    v_column name;
    v_count  integer := 0;
BEGIN
    FOR v_column IN
        SELECT a.attname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = 'journal'::regclass AND a.attnum > 0 AND t.typcategory = 'A'
    LOOP
        -- Partitions that stand get it too.
        EXECUTE format('ALTER TABLE journal ALTER COLUMN %I SET STATISTICS 0', v_column);
        v_count := v_count + 1;
    END LOOP;
    RETURN v_count;
END $$;
COMMENT ON FUNCTION axs_skip_statistics IS
    'From now on ANALYZE passes over the arrays of the journal and its partitions; how many columns '
    'that are.';

SELECT axs_skip_statistics();
