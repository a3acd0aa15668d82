DROP TRIGGER balance_removed ON balance;
DROP TRIGGER balance_touched ON balance;
DROP FUNCTION axs_note_touch();
DROP TABLE drift;
