DROP FUNCTION axs_outbox_view, axs_close_old_blocks, axs_closed_blocks, axs_unused;
