DROP FUNCTION axs_accept(smallint[], bigint[], bytea[], bytea[], bigint[], bigint[], smallint[],
    text[], text[], text[], timestamptz[], bytea[], boolean);
