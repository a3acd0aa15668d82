DROP TABLE dead_letter, reversal, balance_mark, journal, balance, account, command, account_route,
    idempotency, sequence_block, sequence;
DROP FUNCTION axs_create_partitions, axs_guard, axs_refuse_write;
