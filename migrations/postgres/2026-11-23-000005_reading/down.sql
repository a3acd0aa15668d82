DROP FUNCTION axs_load, axs_entries, axs_outcome;
DROP VIEW entry;
DROP FUNCTION axs_part_of_command, axs_shard_of_account;
