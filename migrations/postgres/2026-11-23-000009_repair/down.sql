DROP FUNCTION axs_repair_balances;
