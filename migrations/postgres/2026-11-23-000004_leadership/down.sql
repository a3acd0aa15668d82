DROP FUNCTION axs_flush, axs_check_count, axs_acquire;
