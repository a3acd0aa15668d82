DROP FUNCTION axs_skip_statistics;
DO $$
DECLARE
    v_column name;
BEGIN
    FOR v_column IN
        SELECT a.attname FROM pg_attribute a JOIN pg_type t ON t.oid = a.atttypid
        WHERE a.attrelid = 'journal'::regclass AND a.attnum > 0 AND t.typcategory = 'A'
    LOOP
        EXECUTE format('ALTER TABLE journal ALTER COLUMN %I SET STATISTICS -1', v_column);
    END LOOP;
END $$;
