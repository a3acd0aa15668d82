DROP FUNCTION axs_accept, axs_close_blocks, axs_lease_block, axs_seq_of_command,
    axs_shard_of_command, axs_command_id;
